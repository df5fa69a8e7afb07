"""Find the centre of each labelled cell in masks that are read block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, csgraph

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Sums = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
    """Labels; the number of pixels of each, the sum of their rows and that of their columns, shape (n, 3); pieces."""

MAX_UNUSED = 2**22
"""Largest range of labels in a block for which counts are kept in one array over the whole range."""
MAX_PIECES = 4
"""Separate pieces that the mask of a cell may have: a cell crossed by others, or a dividing nucleus, has a few."""
SPECK = 0.1
"""Pieces smaller than this share of the largest piece are not counted, since segmentation leaves specks."""


def label_centres(
    blocks: Iterable[tuple[int, int, NDArray[Any]]], where: str = "the mask", code: str = "mask"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels in ascending order, and the centroid of each.

    Pixels are counted and their positions are summed per label over all blocks, so that the centre of a cell does not
    depend on the borders of blocks.

    Parameters
    ----------
    blocks
        Row and column of the first pixel, and the labels, shape ``(h, w)``; 0 is background.
    where
        What error messages call the mask.
    code
        Code that gives the pixels of the mask.

    Returns
    -------
    Labels, shape ``(n,)``, and centroids, shape ``(n, 2)``, as row and column in pixels; the first pixel spans 0 to 1,
    so its middle is at 0.5.

    Raises
    ------
    ValueError
        A label is negative, or a label marks many cells.
    """
    parts = [_sum_block(*block) for block in blocks]
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 2))
    labels, codes = np.unique(np.concatenate([labels for labels, _, _ in parts]), return_inverse=True)
    sums = np.concatenate([sums for _, sums, _ in parts])
    # The maximum over blocks, so that a cell that spans several blocks counts as one piece.
    n_pieces = np.zeros(len(labels), dtype=np.int64)
    np.maximum.at(n_pieces, codes, np.concatenate([pieces for _, _, pieces in parts]))
    _check_one_cell_per_label(labels, n_pieces, where, code)
    # Sums of integers are exact in float64, so the result does not depend on the blocks.
    n_pixels, rows, columns = (np.bincount(codes, weights=values, minlength=len(labels)) for values in sums.T)
    return labels, np.stack([rows / n_pixels, columns / n_pixels], axis=1) + 0.5


def check_labels(mask: Any, where: str, code: str = "mask") -> None:
    """Require whole numbers."""
    kind = np.dtype(mask.dtype).kind
    if kind in "ui":
        return
    if kind != "f":
        advice = f"Number its cells: scipy.ndimage.label({code})[0]"
    elif not isinstance(mask, np.ndarray):
        advice = f"Convert it: {code}.astype(int)"
    elif (mask == np.round(mask)).all():
        advice = f"Its values are whole numbers: {code}.astype(int) keeps the label of every cell"
    elif np.isnan(mask).any():
        advice = f"Fill in the background first: numpy.nan_to_num({code}).astype(int)"
    else:
        advice = (
            f"Its values are fractions; choose a threshold and number its cells: scipy.ndimage.label({code} > 0.5)[0]"
        )
    raise ValueError(
        f"{where} has dtype {mask.dtype}; expected whole numbers, one per cell, and 0 for the background. {advice}."
    )


def _check_one_cell_per_label(labels: NDArray[np.int64], n_pieces: NDArray[np.int64], where: str, code: str) -> None:
    """Refuse binary masks and masks of pixel classes, in which one label marks many cells."""
    if len(labels) and labels[0] < 0:
        raise ValueError(
            f"{where} has the negative label {labels[0]}; expected 0 for the background and one positive number per "
            f"cell. If negative pixels are background, pass numpy.maximum({code}, 0)."
        )
    is_split = n_pieces > (MAX_PIECES if (n_pieces < 2).any() else 1)
    if not is_split.any():
        return
    worst = int(n_pieces.argmax())
    found = f"the label {labels[worst]}" if len(labels) > 1 else f"only one label, {labels[worst]},"
    chosen = f"{code} > 0" if len(labels) == 1 else f"{code} == {labels[worst]}"
    raise ValueError(
        f"{where} has {found} in {n_pieces[worst]} separate pieces: it seems to mark many cells, and every cell needs "
        f"a label of its own. Label the cells with scipy.ndimage.label({chosen})[0] or "
        f"skimage.measure.label({chosen}). If the pieces belong to one cell, keep only the largest one."
    )


def _sum_block(top: int, left: int, block: NDArray[Any]) -> Sums:
    runs = _find_runs(block)
    if not len(runs.labels):
        return runs.labels, np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    labels, lengths, lowest = runs.labels, runs.lengths, runs.labels.min()
    if labels.max() - lowest <= max(MAX_UNUSED, block.size):
        codes = labels - lowest
        found = np.flatnonzero(np.bincount(codes))
        values = found + lowest
    else:
        values, codes = np.unique(labels, return_inverse=True)
        found = np.arange(len(values))
    row_sums = lengths * (runs.rows + top)
    column_sums = lengths * (runs.columns + left) + lengths * (lengths - 1) // 2
    sums = [np.bincount(codes, weights=weights)[found] for weights in (lengths, row_sums, column_sums)]
    return values, np.stack(sums, axis=1), _count_pieces(runs, codes)[found]


@dataclass(frozen=True)
class _Runs:
    """Runs of pixels with the same label in a row, of which there are far fewer than pixels."""

    labels: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    """Of the first pixel."""


def _find_runs(block: NDArray[Any]) -> _Runs:
    is_start = np.ones(block.shape, dtype=bool)
    np.not_equal(block[:, 1:], block[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=block.size)
    labels = block.ravel()[starts].astype(np.int64)
    is_cell = labels != 0
    return _Runs(labels[is_cell], lengths[is_cell], *np.divmod(starts[is_cell], max(1, block.shape[1])))


def _count_pieces(runs: _Runs, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of separate pieces per code; pixels that touch at a corner are connected, and specks are ignored."""
    n_pieces, piece = csgraph.connected_components(_touching(runs), directed=False)
    sizes = np.bincount(piece, weights=runs.lengths, minlength=n_pieces)
    code_of = np.zeros(n_pieces, dtype=np.int64)
    code_of[piece] = codes
    largest = np.zeros(int(codes.max()) + 1)
    np.maximum.at(largest, code_of, sizes)
    return np.bincount(code_of[sizes >= SPECK * largest[code_of]], minlength=len(largest))


def _touching(runs: _Runs) -> coo_array:
    """Adjacency of runs that touch a run of the same label in the row below."""
    n_runs, width = len(runs.labels), int((runs.columns + runs.lengths).max()) + 2
    # Runs are sorted by position, so those that touch a run from below are found by binary search.
    first = runs.rows * width + runs.columns
    last = first + runs.lengths - 1
    begin = np.searchsorted(last, first + width - 1, side="left")  # ends at or after the lower left corner
    end = np.searchsorted(first, last + width + 1, side="right")  # begins after the lower right corner
    n_below = np.maximum(end - begin, 0)
    above = np.repeat(np.arange(n_runs), n_below)
    below = np.repeat(begin - np.append(0, np.cumsum(n_below)[:-1]), n_below) + np.arange(len(above))
    is_same = runs.labels[above] == runs.labels[below]
    above, below = above[is_same], below[is_same]
    return coo_array((np.ones(len(above), dtype=np.int8), (above, below)), shape=(n_runs, n_runs))
