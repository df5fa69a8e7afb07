"""What published networks of images have in common: intensities are scaled, crops are resized, nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from petri_scvi._checks import check_seed
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ImageModel
from petri_scvi.imaging import channel_range, to_unit_range
from petri_scvi.nn import choose_device

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from torch import Tensor

QUANTILES = (0.001, 0.999)
"""Quantiles of a channel's pixels that become the ends of the range of intensities."""


class PublishedImageModel(ImageModel):
    """Embedding of image crops by a published network; the base of these baselines.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    accelerator
        Device of torch; ``"auto"`` takes a GPU if there is one.
    seed
        Seed of the cells from which the range of intensities is found.
    """

    def __init__(self, mdata: MuData, accelerator: str, seed: int) -> None:
        super().__init__(mdata)
        check_seed(seed)
        self.seed = seed
        self._device = choose_device(accelerator)

    @no_epochs
    def train(self) -> None:
        """Find the range of intensities of each channel; the network stays as published."""
        reader = self._require_modality(self._manager_of(None), self.modality_)
        self._low, self._high = channel_range(reader, QUANTILES, self.seed)
        self.is_trained_ = True

    def _resized(self, images: NDArray[Any], side: int) -> Tensor:
        """Crops with intensities from 0 to 1, resized; shapes ``(B, C, H, W)`` -> ``(B, C, side, side)``."""
        unit = torch.from_numpy(to_unit_range(images, self._low, self._high)).to(self._device)
        # Bicubic interpolation overshoots.
        return interpolate(unit, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
