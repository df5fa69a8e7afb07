"""Measure crops with scikit-image."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from petri_scvi._checks import require

from ._mask import cell_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INTENSITY = ("intensity_mean", "intensity_std", "intensity_max", "granularity")
TEXTURE = ("contrast", "homogeneity", "energy", "correlation")
OBJECTS = ("n_objects", "area", "perimeter", "eccentricity", "solidity")
GREY_LEVELS = 16
GRAIN = 2
"""Radius in pixels of the largest grains."""
BRIGHT = 0.99
"""Quantile used instead of the maximum, which is often a single noisy pixel."""


def measure_crops(
    images: NDArray[np.float32], channels: Sequence[str], mask_channel: int | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Measure crops; returns the measurements and their names.

    Parameters
    ----------
    images
        Crops with intensities from 0 to 1, shape ``(n, C, H, W)``.
    channels
        Names of the channels.
    mask_channel
        Position of the channel that shows where the cell is; the whole crop is measured if ``None``.

    Returns
    -------
    Measurements, shape ``(n, n_features)``, NaN where one is not defined, and names such as
    ``"intensity_mean__actin"``.
    """
    pairs = list(combinations(range(len(channels)), 2))
    kinds = [*INTENSITY, *(f"texture_{kind}" for kind in TEXTURE), *OBJECTS]
    names = [f"{kind}__{channel}" for channel in channels for kind in kinds]
    names += [f"pearson__{channels[a]}__{channels[b]}" for a, b in pairs]
    rows = []
    for image in images:
        inside = np.ones(image.shape[1:], dtype=bool) if mask_channel is None else cell_mask(image[mask_channel]) > 0
        row: list[float] = []
        for channel in image:
            row += [*_intensity(channel, inside), *_texture(channel, inside), *_objects(channel, inside)]
        with np.errstate(invalid="ignore", divide="ignore"):  # a constant channel
            correlation = np.atleast_2d(np.corrcoef(image[:, inside]))  # (C, C)
        rows.append([*row, *(correlation[pair] for pair in pairs)])
    return np.array(rows, dtype=np.float64), names


def _intensity(channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> list[float]:
    morphology = require("skimage.morphology", "images")
    values, grains = channel[inside], morphology.white_tophat(channel, morphology.disk(GRAIN))[inside]
    return [float(values.mean()), float(values.std()), float(np.quantile(values, BRIGHT)), float(grains.mean())]


def _texture(channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> list[float]:
    """Haralick's texture of neighbouring pixels inside the mask, mean over four directions."""
    feature = require("skimage.feature", "images")
    low, high = channel[inside].min(), channel[inside].max()
    if low == high:
        return [np.nan] * len(TEXTURE)
    # Scaled to the range of this crop, so that texture is independent of brightness; level 0, outside, is left out.
    levels = np.zeros(channel.shape, dtype=np.uint8)
    levels[inside] = 1 + np.minimum((channel[inside] - low) / (high - low) * GREY_LEVELS, GREY_LEVELS - 1).astype(int)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = feature.graycomatrix(levels, [1], angles, levels=GREY_LEVELS + 1, symmetric=True)[1:, 1:]
    if not pairs.any():
        return [np.nan] * len(TEXTURE)
    return [float(feature.graycoprops(pairs, name).mean()) for name in TEXTURE]


def _objects(channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> list[float]:
    """Objects brighter than Otsu's threshold: their number, and size and shape of the largest."""
    measure, filters = require("skimage.measure", "images"), require("skimage.filters", "images")
    values = channel[inside]
    if values.min() == values.max():
        return [0.0, 0.0, np.nan, np.nan, np.nan]
    labels = measure.label((channel > filters.threshold_otsu(values)) & inside)
    areas = np.bincount(labels.ravel())[1:]
    largest = labels == areas.argmax() + 1
    (shape,) = measure.regionprops(largest.astype(np.uint8))
    return [float(v) for v in (len(areas), areas.max(), shape.perimeter, shape.eccentricity, shape.solidity)]
