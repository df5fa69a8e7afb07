"""Mask of the cell in a crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from petri_scvi._checks import require

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cell_mask(channel: NDArray[np.floating]) -> NDArray[np.int32]:
    """The cell in a crop: the largest object above Otsu's threshold, holes filled; shape ``(H, W)``, 1 inside.

    The whole crop if the channel is constant.
    """
    otsu = require("skimage.filters", "images").threshold_otsu
    if channel.min() == channel.max():
        return np.ones(channel.shape, dtype=np.int32)
    labels, _ = ndimage.label(channel > otsu(channel))
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(labels == largest).astype(np.int32)
