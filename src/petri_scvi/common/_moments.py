"""Mean and variance of values that are read in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RunningMoments:
    """Mean and sum of squared deviations of each dimension, updated chunk by chunk in float64.

    The squares are taken about the mean of each chunk. Sums of raw squares would cancel where values are far from
    zero, as in an image with a bright background.

    Parameters
    ----------
    n_dims
        Number of dimensions (D).
    covariance
        Keep the products of all pairs of dimensions, shape ``(D, D)``, instead of the squares alone.
    """

    def __init__(self, n_dims: int, *, covariance: bool = False) -> None:
        self.n = 0
        self.mean: NDArray[np.float64] = np.zeros(n_dims)
        self.squares: NDArray[np.float64] = np.zeros((n_dims, n_dims) if covariance else n_dims)
        self._covariance = covariance

    def update(self, values: NDArray, axis: int | tuple[int, ...] = 0) -> None:
        """Add values whose ``axis`` runs over observations; the one other axis has the D dimensions."""
        values = np.asarray(values, dtype=np.float64)
        n = values.size // len(self.mean)
        if n == 0:
            return
        chunk_mean = values.mean(axis=axis, keepdims=True)
        deviations = values - chunk_mean
        shift = chunk_mean.reshape(-1) - self.mean
        weight = self.n * n / (self.n + n)
        if self._covariance:
            self.squares += deviations.T @ deviations + np.outer(shift, shift) * weight
        else:
            self.squares += np.square(deviations, out=deviations).sum(axis=axis) + shift**2 * weight
        self.n += n
        self.mean = self.mean + shift * (n / self.n)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each dimension with divisor n; 0 where only rounding errors vary."""
        std: NDArray[np.float64] = np.sqrt(self.squares / max(self.n, 1))
        return np.where(std > 1e-12 * np.abs(self.mean), std, 0.0)
