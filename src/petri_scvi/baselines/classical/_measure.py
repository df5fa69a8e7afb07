"""Measure cells with cp_measure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from petri_scvi._checks import require
from petri_scvi.imaging import cell_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GROUPS = (
    "intensity",
    "texture",
    "granularity",
    "radial_distribution",
    "radial_zernikes",
    "sizeshape",
    "zernike",
    "feret",
    "correlation_pearson",
    "correlation_costes",
    "correlation_manders_fold",
    "correlation_rwc",
)
"""Kinds of measurement, by the names that cp_measure gives them."""


def measure_cells(
    images: NDArray[np.float32], mask_channel: int, channels: Sequence[str], groups: Sequence[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """Measure cells; returns the measurements and their names.

    Parameters
    ----------
    images
        Crops with intensities from 0 to 1, shape ``(n, C, H, W)``.
    mask_channel
        Position of the channel that shows where the cell is.
    channels
        Names of the channels.
    groups
        Kinds of measurement, from ``GROUPS``.

    Returns
    -------
    Measurements, shape ``(n, n_features)``, NaN where one is not defined, and the names of the columns.
    """
    featurizer = require("cp_measure.featurizer", "features")
    config = featurizer.make_featurizer_config(
        list(channels),
        # Costes' thresholds are searched in steps of one grey level, and texture is measured in 256 levels.
        correlation_costes_params={"scale_max": 255},
        **{group: group in groups for group in GROUPS},
    )
    masks = np.stack([cell_mask(image[mask_channel])[None] for image in images])  # (n, 1, H, W)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # one for every measurement that is not defined in a cell; these are NaN
        values, names, _ = featurizer.featurize(images.astype(np.float64), masks, config)
    return values, list(names)
