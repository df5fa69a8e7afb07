"""A mask that does not number its cells is refused, and the advice of the error message fixes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy
from scipy import ndimage

from petri_scvi import pp
from petri_scvi.pp.crops._label_centres import SPECK, label_centres

if TYPE_CHECKING:
    from pathlib import Path

CORNERS = [(4, 4), (4, 20), (20, 6), (22, 24), (12, 34), (30, 12), (31, 35)]
IMAGE = np.arange(2 * 40 * 44, dtype=np.uint16).reshape(2, 40, 44)


def draw_mask(n_cells: int = len(CORNERS)) -> np.ndarray:
    mask = np.zeros((40, 44), dtype=np.int32)
    for label, (row, column) in enumerate(CORNERS[:n_cells], start=1):
        mask[row : row + 5, column : column + 4] = label
    return mask


def cut(mask: Any) -> Any:
    return pp.crops_from_fields({"A": (IMAGE, mask)}, size=8)


def advised_by(mask: Any, found: str, code: str, **names: Any) -> np.ndarray:
    """What the code in the error message makes of the mask."""
    with pytest.raises(ValueError, match=f"{found}.*{re.escape(code)}"):
        cut(mask)
    return eval(code, {"scipy": scipy, "numpy": np, "mask": mask, **names})


def same_cells(mask: np.ndarray, expected: np.ndarray) -> bool:
    found, wanted = cut(mask), cut(expected)
    places = [sorted(map(tuple, crops.obsm["spatial"].tolist())) for crops in (found, wanted)]
    return places[0] == places[1]


@pytest.mark.parametrize("n_cells", [2, 7])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint16"])
def test_a_mask_of_0_and_255_is_refused_and_its_labelled_form_has_every_cell(n_cells: int, dtype: str) -> None:
    labelled = draw_mask(n_cells)
    binary = np.where(labelled > 0, 255, 0).astype(dtype)
    found = advised_by(
        binary,
        f"only one label, 255, in {n_cells} separate pieces: .* every cell needs a label of its own",
        "scipy.ndimage.label(mask > 0)[0]",
    )
    assert found.max() == n_cells
    assert same_cells(found, labelled)


def test_a_file_of_0_and_255_is_refused_with_the_call_that_reads_and_labels_it(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    labelled = draw_mask()
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.where(labelled > 0, 255, 0).astype(np.uint8))
    code = f"scipy.ndimage.label(tifffile.imread({str(path)!r}) > 0)[0]"
    assert same_cells(advised_by(path, r"the mask of fields\['A'\]", code, tifffile=tifffile), labelled)


def test_the_other_call_that_is_named_works_too() -> None:
    measure = pytest.importorskip("skimage.measure")
    binary = np.where(draw_mask() > 0, 255, 0)
    with pytest.raises(ValueError, match=r"or skimage\.measure\.label\(mask > 0\)"):
        cut(binary)
    assert same_cells(measure.label(binary > 0), draw_mask())


@pytest.mark.parametrize("n_cells", [3, 7])
def test_a_mask_of_classes_of_pixels_is_refused(n_cells: int) -> None:
    labelled = draw_mask(n_cells)
    classes = np.where(labelled > 0, 2, 0)
    classes[ndimage.binary_erosion(labelled > 0)] = 1  # nuclei inside of cells
    found = advised_by(classes, f"has the label 1 in {n_cells} separate pieces", "scipy.ndimage.label(mask == 1)[0]")
    assert len(np.unique(found)) == n_cells + 1


def test_classes_are_refused_where_one_of_them_is_in_one_piece() -> None:
    tissue = np.where(draw_mask() > 0, 1, 2)
    with pytest.raises(ValueError, match="has the label 1 in 7 separate pieces"):
        cut(tissue)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_numbers_in_floats_keep_their_labels(dtype: str) -> None:
    mask = draw_mask().astype(dtype) * 3
    mask[0, 0:2] = 50
    mask[1, 2] = 50  # touches: renumbering would be noticed by the numbers, not by the cells
    found = advised_by(mask, r"the mask of fields\['A'\] has dtype float.*whole numbers", "mask.astype(int)")
    assert found.dtype.kind == "i"
    np.testing.assert_array_equal(found, mask)
    assert sorted(cut(found).obs["label"]) == [*range(3, 22, 3), 50]


def test_a_background_of_nan_is_filled_in() -> None:
    mask = np.where(draw_mask() > 0, draw_mask(), np.nan)
    np.testing.assert_array_equal(
        advised_by(mask, "Fill in the background", "numpy.nan_to_num(mask).astype(int)"), draw_mask()
    )


def test_probabilities_are_to_be_thresholded_and_numbered() -> None:
    mask = np.where(draw_mask() > 0, 0.9, 0.1)
    assert same_cells(advised_by(mask, "choose a threshold", "scipy.ndimage.label(mask > 0.5)[0]"), draw_mask())


def test_true_and_false_are_to_be_numbered() -> None:
    assert same_cells(advised_by(draw_mask() > 0, "has dtype bool", "scipy.ndimage.label(mask)[0]"), draw_mask())


def test_negative_labels_are_refused() -> None:
    mask = np.where(draw_mask() > 0, draw_mask(), -1)
    np.testing.assert_array_equal(advised_by(mask, "has the negative label -1", "numpy.maximum(mask, 0)"), draw_mask())


def test_one_cell_in_a_field_is_a_cell_whatever_its_number() -> None:
    for number in (1, 255):
        crops = cut((draw_mask(1) * number).astype(np.uint8))
        assert crops.obs["label"].tolist() == [number]


def test_cells_that_others_cross_or_that_have_specks_are_accepted() -> None:
    mask = draw_mask()
    mask[6, :] = np.where(mask[6, :] > 0, 2, 0)  # crosses cell 1
    mask[0, ::4] = 7  # specks of one pixel, beside a piece of twenty
    assert SPECK * 20 > 1
    assert sorted(cut(mask).obs["label"]) == list(range(1, 8))


def test_a_cell_in_two_halves_among_whole_ones_is_one_cell() -> None:
    mask = draw_mask()
    mask[24, 24:28] = 0
    assert 4 in cut(mask).obs["label"].to_numpy()


def test_pieces_are_those_that_scipy_counts_with_corners() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = rng.integers(0, 3, rng.integers(2, 9, 2))
        mask[0, 0] = 3  # a label in one piece, so that those of others are counted up to their limit
        mask[0, 1:2] = mask[1, 0:2] = 0
        n_pieces = [ndimage.label(mask == label, np.ones((3, 3)))[1] for label in (1, 2)]
        sizes = [np.bincount(ndimage.label(mask == label, np.ones((3, 3)))[0].ravel())[1:] for label in (1, 2)]
        if any((found < SPECK * found.max()).any() for found in sizes if len(found)):
            continue
        if max(n_pieces) <= 4:
            label_centres([(0, 0, mask)])
        else:
            with pytest.raises(ValueError, match=f"in {max(n_pieces)} separate pieces"):
                label_centres([(0, 0, mask)])


def test_a_cell_that_blocks_cut_is_not_counted_as_several() -> None:
    mask = draw_mask()
    blocks = [(top, left, mask[top : top + 3, left : left + 3]) for top in range(0, 40, 3) for left in range(0, 44, 3)]
    assert label_centres(blocks)[0].tolist() == list(range(1, 8))
    with pytest.raises(ValueError, match="only one label, 1, in 7 separate pieces"):
        label_centres([(0, 0, np.minimum(mask, 1))])
