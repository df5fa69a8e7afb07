"""Crops cut block by block are those of a plain cropper on the whole image, borders included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi.common._channels import find_channels
from petri_scvi.pp.crops._crop_windows import (
    ArrayPlanes,
    Cutter,
    Planes,
    block_shape,
    centre_pixels,
    iterate_blocks,
    read_size,
    reading_jobs,
)
from petri_scvi.pp.crops._label_centres import label_centres

if TYPE_CHECKING:
    from petri_scvi.pp.crops._crop_windows import Span

SHAPE = (37, 53)


class Counted(ArrayPlanes):
    """Planes that note what was read."""

    def __init__(self, array: Any, positions: Any) -> None:
        super().__init__(array, positions)
        self.spans: list[tuple[Span, Span]] = []

    def read(self, rows: Span, columns: Span) -> np.ndarray:
        self.spans.append((rows, columns))
        return super().read(rows, columns)


class Labels(Planes):
    def __init__(self, array: np.ndarray) -> None:
        super().__init__((1, *array.shape), array.dtype)
        self.array = array

    def read(self, rows: Span, columns: Span) -> np.ndarray:
        return self.array[None, slice(*rows), slice(*columns)]


def draw_image(n_channels: int = 3, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 60_000, (n_channels, *shape), dtype=np.uint16)


def reference(image: np.ndarray, centre: np.ndarray, size: tuple[int, int], padding: str) -> np.ndarray:
    """The whole image padded by a crop on every side, and sliced."""
    mode: Any = "constant" if padding == "zero" else "reflect"
    padded = np.pad(image, [(0, 0), (size[0],) * 2, (size[1],) * 2], mode=mode)
    top, left = (int(centre[axis]) + size[axis] - size[axis] // 2 for axis in (0, 1))
    return padded[:, top : top + size[0], left : left + size[1]]


def cut_in_blocks(cutter: Cutter, block: Span, max_bytes: int = 2**26) -> np.ndarray:
    crops = np.zeros((len(cutter.centres), *cutter.crop_shape), dtype=cutter.planes.dtype)
    jobs = reading_jobs(cutter.centres, block, int(np.prod(cutter.crop_shape)) * 2, max_bytes)
    assert sorted(np.concatenate(jobs)) == list(range(len(crops)))
    for job in jobs:
        crops[job] = cutter.cut(job)
    return crops


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (64, 80), (1, 1), (37, 120)])
@pytest.mark.parametrize("block", [(16, 16), (5, 100), (2**20, 2**20)])
def test_a_crop_around_every_pixel_is_that_of_the_reference(size: tuple[int, int], block: Span, padding: Any) -> None:
    image = draw_image(2)
    rows, columns = np.mgrid[0 : SHAPE[0] : 3, 0 : SHAPE[1] : 4]
    corners = np.array([[SHAPE[0] - 1, SHAPE[1] - 1], [SHAPE[0] - 1, 0], [0, SHAPE[1] - 1]])
    centres = np.concatenate([np.stack([rows.ravel(), columns.ravel()], axis=1), corners])
    centres = np.random.default_rng(1).permutation(centres)[:100]
    cutter = Cutter(ArrayPlanes(image, [0, 1]), centres, size, padding)
    crops = cut_in_blocks(cutter, block, max_bytes=10 * size[0] * size[1] * 4)
    for centre, crop, is_border in zip(centres, crops, cutter.is_border, strict=True):
        np.testing.assert_array_equal(crop, reference(image, centre, size, padding))
        marked = np.pad(np.ones((1, *SHAPE)), [(0, 0), (200, 200), (200, 200)])
        top, left = centre + 200 - np.array(size) // 2
        assert is_border == (marked[:, top : top + size[0], left : left + size[1]] == 0).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_images_smaller_than_a_crop_are_reflected_more_than_once(shape: tuple[int, int]) -> None:
    image = draw_image(1, shape)
    centres = np.argwhere(np.ones(shape))
    crops = cut_in_blocks(Cutter(ArrayPlanes(image, [0]), centres, (11, 14), "reflect"), (2, 2))
    for centre, crop in zip(centres, crops, strict=True):
        np.testing.assert_array_equal(crop, reference(image, centre, (11, 14), "reflect"))


def test_channels_come_in_the_order_asked_for() -> None:
    image = draw_image(4)
    crops = cut_in_blocks(Cutter(ArrayPlanes(image, [2, 0]), np.array([[10, 10]]), (4, 4)), (16, 16))
    np.testing.assert_array_equal(crops[0], image[[2, 0], 8:12, 8:12])


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_pixels_of_other_cells_and_outside_a_mask_channel_are_zero(padding: Any) -> None:
    image = draw_image(3)
    labels = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint32)
    image[2] = np.random.default_rng(3).integers(0, 2, SHAPE)
    centres, own = np.array([[0, 3], [20, 20], [36, 52]]), np.array([1, 2, 3])
    by_label = Cutter(ArrayPlanes(image, [0, 1]), centres, (9, 8), padding, labels=Labels(labels), own_labels=own)
    by_channel = Cutter(ArrayPlanes(image, [1, 0, 2]), centres, (9, 8), padding, has_mask_channel=True)
    for cell, (crop, other) in enumerate(
        zip(cut_in_blocks(by_label, (16, 16)), cut_in_blocks(by_channel, (16, 16)), strict=True)
    ):
        whole = reference(image, centres[cell], (9, 8), padding)
        is_own = reference(labels[None], centres[cell], (9, 8), padding)[0] == own[cell]
        np.testing.assert_array_equal(crop, whole[:2] * is_own)
        np.testing.assert_array_equal(other, whole[[1, 0]] * whole[2])


def test_no_more_is_read_than_a_block_and_the_reach_of_a_crop() -> None:
    image = draw_image(1, (200, 200))
    centres = np.argwhere(np.ones((200, 200)))[::17]
    planes = Counted(image, [0])
    cut_in_blocks(Cutter(planes, centres, (12, 12)), (50, 40))
    assert len(planes.spans) == 20
    assert max(rows[1] - rows[0] for rows, _ in planes.spans) <= 50 + 12
    assert max(columns[1] - columns[0] for _, columns in planes.spans) <= 40 + 12


@pytest.mark.parametrize("block_size", [4, 16, 1000])
@pytest.mark.parametrize("first", [1, 10**12])
def test_a_cell_cut_by_blocks_has_the_centre_it_has_in_one_piece(block_size: int, first: int) -> None:
    rng = np.random.default_rng(4)
    labels = np.kron(rng.permutation(9 * 13).reshape(9, 13), np.ones((5, 4), dtype=np.int64))
    labels[rng.random(labels.shape) < 0.1] = 0
    labels[labels > 0] += first
    ids, centres = label_centres(iterate_blocks(labels, block_size))
    assert ids.tolist() == np.unique(labels[labels > 0]).tolist()
    expected = [np.argwhere(labels == label).mean(axis=0) + 0.5 for label in ids]
    np.testing.assert_allclose(centres, expected, rtol=1e-13)
    whole = label_centres([(0, 0, labels)])[1]
    np.testing.assert_array_equal(centres, whole)


def test_labels_far_apart_and_empty_blocks_are_no_burden() -> None:
    labels = np.zeros((4, 4), dtype=np.uint64)
    assert len(label_centres([(0, 0, labels)])[0]) == 0
    labels[0, 1], labels[3, 3] = 1, 2**62
    ids, centres = label_centres([(10, 20, labels)])
    assert ids.tolist() == [1, 2**62]
    assert centres.tolist() == [[10.5, 21.5], [13.5, 23.5]]


def test_the_middle_pixel_is_the_one_that_holds_the_centroid() -> None:
    centres = np.array([[0.0, 0.999], [3.0 - 1e-12, 7.5]])
    assert centre_pixels(centres).tolist() == [[0, 0], [3, 7]]


def test_blocks_are_whole_chunks_of_a_dask_array() -> None:
    array = pytest.importorskip("dask.array")
    image = array.zeros((2, 100, 90), chunks=(1, 30, 40))
    assert block_shape(image, 50) == (60, 80)
    assert block_shape(np.zeros((100, 90)), 64) == (64, 64)
    assert block_shape(np.zeros((10, 20)), 64) == (10, 20)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="pass one number or height and width"):
        read_size((1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be at least 1"):
        read_size((5, 0))
    with pytest.raises(ValueError, match="channel 'er' is not in image, which has"):
        find_channels(["er"], ["dna", "actin"], "channels", "image")
    with pytest.raises(ValueError, match="a channel twice"):
        find_channels(["dna", 0], ["dna", "actin"], "channels", "image")
    with pytest.raises(ValueError, match="pass a list"):
        find_channels("dna", ["dna"], "channels", "image")
