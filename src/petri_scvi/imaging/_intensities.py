"""Moments and ranges of channels, and pixels on a common scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi._checks import check_finite_images
from petri_scvi.common import RunningMoments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from petri_scvi.dataloaders import RowReader

N_CELLS_FOR_RANGE = 1000


def channel_moments(reader: RowReader, rows: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over pixels and cells, shapes ``(C,)``; 1 for a constant channel."""
    moments = RunningMoments(reader.shape[1])
    for images in reader.chunks(rows):
        moments.update(images, axis=(0, 2, 3))
    if moments.n == 0:
        raise ValueError("no cells to estimate the intensities from.")
    return moments.mean, np.where(moments.std > 0, moments.std, 1.0)


def channel_range(
    reader: RowReader, quantiles: tuple[float, float], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two quantiles of the pixels of each channel, shapes ``(C,)``, from at most 1,000 random cells."""
    some = np.sort(np.random.default_rng([seed, 0]).permutation(len(reader))[:N_CELLS_FOR_RANGE])
    ends = np.empty((2, reader.shape[1]), dtype=np.float32)
    images = reader.read(some)
    check_finite_images([images], "the sample of crops that gives the range of intensities")
    for channel in range(reader.shape[1]):  # one at a time: a quantile sorts a copy
        ends[:, channel] = np.quantile(images[:, channel].astype(np.float32), quantiles)
    return ends[0], ends[1]


def to_unit_range(
    images: NDArray, low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:  # (n, C, H, W)
    """Intensities with ``low`` at 0 and ``high`` at 1, clipped; a constant channel becomes 0."""
    width = np.where(high > low, high - low, 1.0).astype(np.float32)
    scaled = (images.astype(np.float32) - low[:, None, None]) / width[:, None, None]
    return np.clip(scaled, 0.0, 1.0)
