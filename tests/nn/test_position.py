from __future__ import annotations

import math

import pytest
import torch

from petri_scvi.nn import sincos_position


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
