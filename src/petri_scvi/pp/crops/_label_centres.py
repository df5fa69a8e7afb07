"""Where each labelled cell is, from label images that are read block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Sums = tuple[NDArray[np.int64], NDArray[np.float64]]
    """Labels, and for each its number of pixels, the sum of their rows and that of their columns, shape (n, 3)."""

MAX_UNUSED = 2**22
"""Labels between the smallest and the largest of a block that may be missing before a table of all is too large."""


def label_centres(blocks: Iterable[tuple[int, int, NDArray[Any]]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels in ascending order, and the centroid of each.

    Pixels are counted and their positions are summed per label over all blocks, so that a cell cut by the border of
    a block has the centre that it would have in one piece.

    Parameters
    ----------
    blocks
        Row and column of the first pixel, and the labels, shape ``(h, w)``; 0 is background.

    Returns
    -------
    Labels, shape ``(n,)``, and centroids, shape ``(n, 2)``, as row and column in pixels; the first pixel reaches from
    0 to 1, so its middle is at 0.5.
    """
    parts = [_sum_block(*block) for block in blocks]
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 2))
    labels, codes = np.unique(np.concatenate([labels for labels, _ in parts]), return_inverse=True)
    sums = np.concatenate([sums for _, sums in parts])
    # Sums of whole numbers: exact in float64, so the blocks make no difference.
    n_pixels, rows, columns = (np.bincount(codes, weights=values, minlength=len(labels)) for values in sums.T)
    return labels, np.stack([rows / n_pixels, columns / n_pixels], axis=1) + 0.5


def check_labels(dtype: Any, where: str) -> None:
    """Require whole numbers."""
    if np.dtype(dtype).kind not in "ui":
        raise ValueError(
            f"{where} has dtype {dtype}; expected whole numbers, one per cell, and 0 for the background. Number the "
            "cells of a mask with scipy.ndimage.label(mask)[0]."
        )


def _sum_block(top: int, left: int, block: NDArray[Any]) -> Sums:
    # By runs of equal labels in a row, which are far fewer than pixels.
    is_start = np.ones(block.shape, dtype=bool)
    np.not_equal(block[:, 1:], block[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=block.size)
    labels = block.ravel()[starts].astype(np.int64)
    is_cell = labels != 0
    labels, lengths = labels[is_cell], lengths[is_cell]
    rows, columns = np.divmod(starts[is_cell], max(1, block.shape[1]))
    if not len(labels):
        return labels, np.zeros((0, 3))
    lowest = labels.min()
    if labels.max() - lowest <= max(MAX_UNUSED, block.size):
        codes = labels - lowest
        found = np.flatnonzero(np.bincount(codes))
        values = found + lowest
    else:
        values, codes = np.unique(labels, return_inverse=True)
        found = np.arange(len(values))
    row_sums = lengths * (rows + top)
    column_sums = lengths * (columns + left) + lengths * (lengths - 1) // 2
    sums = [np.bincount(codes, weights=weights)[found] for weights in (lengths, row_sums, column_sums)]
    return values, np.stack(sums, axis=1)
