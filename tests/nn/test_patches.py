from __future__ import annotations

import math

import pytest
import torch

from petri_scvi.nn import patchify, sincos_position, unpatchify


@pytest.mark.parametrize(
    ("shape", "patch_size"), [((1, 4, 4), 2), ((3, 8, 8), 4), ((2, 4, 12), 4), ((5, 12, 6), 3), ((2, 3, 5), 1)]
)
def test_unpatchify_undoes_patchify(shape: tuple[int, int, int], patch_size: int) -> None:
    n_channels, height, width = shape
    images = torch.arange(2.0 * n_channels * height * width).reshape(2, *shape)
    patches = patchify(images, patch_size)
    assert patches.shape == (2, height // patch_size * (width // patch_size), n_channels * patch_size**2)
    assert torch.equal(unpatchify(patches, shape, patch_size), images)


def test_patches_come_row_by_row_and_pixels_inside_too() -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 4)  # 0 1 2 3 / 4 5 6 7
    assert patchify(image, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    upright = torch.arange(8.0).reshape(1, 1, 4, 2)  # 0 1 / 2 3 / 4 5 / 6 7
    assert patchify(upright, 2).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_a_patch_holds_one_channel_after_the_other() -> None:
    image = torch.stack([torch.arange(4.0).reshape(2, 2), 10 + torch.arange(4.0).reshape(2, 2)])[None]
    assert patchify(image, 2).tolist() == [[[0, 1, 2, 3, 10, 11, 12, 13]]]


def test_patch_number_is_row_times_columns_plus_column() -> None:
    images = torch.zeros(1, 2, 6, 9)
    images[0, :, 3:6, 6:9] = 1.0  # second row, third column of a 2 x 3 grid
    assert patchify(images, 3).mean(dim=2).tolist() == [[0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize(("n_rows", "n_columns", "embed_dim"), [(4, 4, 16), (2, 6, 8), (16, 1, 4), (1, 1, 4)])
def test_every_patch_has_its_own_position(n_rows: int, n_columns: int, embed_dim: int) -> None:
    position = sincos_position(n_rows, n_columns, embed_dim)
    assert position.shape == (n_rows * n_columns, embed_dim)
    assert position.dtype == torch.float32
    assert len(position.unique(dim=0)) == n_rows * n_columns


def test_quarters_are_sine_and_cosine_of_row_and_column() -> None:
    position = sincos_position(3, 5, 8)
    row, column = 2, 3
    slow = 1 / 100  # 10,000 ** -(1 / 2)
    expected = [
        *(math.sin(row), math.sin(row * slow), math.cos(row), math.cos(row * slow)),
        *(math.sin(column), math.sin(column * slow), math.cos(column), math.cos(column * slow)),
    ]
    torch.testing.assert_close(position[row * 5 + column], torch.tensor(expected))


def test_position_of_a_patch_does_not_depend_on_the_size_of_the_image() -> None:
    small, large = sincos_position(2, 3, 16).reshape(2, 3, 16), sincos_position(7, 8, 16).reshape(7, 8, 16)
    assert torch.equal(small, large[:2, :3])
