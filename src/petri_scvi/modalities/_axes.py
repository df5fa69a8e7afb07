"""Principal axes of training cells, at which linear paths start."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd, svd_flip
from torch import Tensor

N_CELLS_FOR_AXES = 4_000
"""Training cells of which principal axes are taken."""
N_OVERSAMPLES = 32
MIN_SHARE = 1e-5
"""Axes whose singular value is a smaller share of the largest are rounding errors."""


class Reservoir:
    """Rows of a stream, each of them with the same chance, held in memory.

    Parameters
    ----------
    n_columns
        Width of the rows.
    n_rows
        Most rows that are kept.
    """

    def __init__(self, n_columns: int, n_rows: int = N_CELLS_FOR_AXES) -> None:
        self._rows = np.empty((n_rows, n_columns), dtype=np.float32)
        self._n_seen = 0
        self._rng = np.random.default_rng(0)

    def update(self, rows: Tensor) -> None:
        """See more rows, shape ``(n, n_columns)``."""
        number = np.arange(self._n_seen, self._n_seen + len(rows))
        self._n_seen += len(rows)
        # The first rows fill the reservoir; row i then replaces one of its rows with probability n_rows / (i + 1).
        place = np.where(number < len(self._rows), number, self._rng.integers(0, number + 1))
        is_kept = place < len(self._rows)
        self._rows[place[is_kept]] = rows.cpu().numpy()[is_kept]

    @property
    def rows(self) -> Tensor:
        """Those that were kept, in no particular order, shape ``(n, n_columns)``."""
        return torch.from_numpy(self._rows[: self._n_seen])


def principal_axes(rows: Tensor, n_axes: int) -> Tensor:
    """Orthonormal directions in which rows vary most, shape ``(n, d)`` -> ``(K, d)``.

    K is ``n_axes``, or fewer if the rows vary in fewer directions. The largest entry of an axis is positive.
    """
    centred = (rows - rows.mean(dim=0)).numpy()
    if not centred.any():
        return rows.new_zeros(0, rows.shape[1])
    n_axes = min(n_axes, *centred.shape)
    _, values, axes = randomized_svd(centred, n_axes, n_oversamples=N_OVERSAMPLES, random_state=0, flip_sign=False)
    _, axes = svd_flip(u=None, v=axes[values > MIN_SHARE * values[0]], u_based_decision=False)
    return torch.from_numpy(axes)
