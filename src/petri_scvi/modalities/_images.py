"""Images: crops of cells in several channels."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from petri_scvi._checks import check_finite_images, check_images
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGE, IMAGES_KEY
from petri_scvi.common import RunningMoments
from petri_scvi.common._channels import channel_names, find_channels
from petri_scvi.dataloaders import ChannelReader, open_rows
from petri_scvi.modalities._axes import principal_axes
from petri_scvi.modalities._field import ModalityField, masked_variables
from petri_scvi.modalities._kinds import Kind
from petri_scvi.modalities._modality import Modality
from petri_scvi.modalities._settings import EncoderSettings, Settings
from petri_scvi.nn import (
    ChannelMoments,
    ImageDecoder,
    ImageEncoder,
    choose_patch_size,
    masked_mean,
    patchify,
    random_numbers,
    unpatchify,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray
    from torch import Generator

    from petri_scvi.dataloaders import RowReader
    from petri_scvi.modalities._modality import Score
    from petri_scvi.nn import ImagePath

MIN_MEAN = 0.1
"""Smallest mean of a channel, in standard deviations, that intensities are divided by."""


class ImagesField(ModalityField):
    """Image crops in ``obsm``, with the names of the channels to use.

    Parameters
    ----------
    registry_key, modality
        As in :class:`ModalityField`.
    images_key
        Slot in ``obsm``.
    image_channels
        Names or positions of the channels to use, in this order; all if ``None``.
    """

    def __init__(
        self, registry_key: str, modality: str, images_key: str, image_channels: Sequence[str | int] | None
    ) -> None:
        super().__init__(registry_key, modality, "obsm", images_key)
        self.image_channels = image_channels

    def validate_field(self, adata: MuData) -> None:
        """Check that the slot holds crops."""
        obsm = adata.mod[self.modality].obsm
        if self.attr_key not in obsm:
            argument = "obsm" if self.is_by_kind else "images_key"
            raise KeyError(
                f"{argument}={self.attr_key!r} is not in mdata[{self.modality!r}].obsm; it has {list(obsm.keys())}. "
                "Name the slot that holds the crops, shape (n_cells, C, H, W)."
            )
        images = self.get_field_data(adata)
        check_images(images, self.where, adata.mod[self.modality])
        if np.dtype(images.dtype).kind == "f":
            reader = open_rows(images)
            check_finite_images(reader.chunks(np.arange(len(reader))), self.where)

    def register_field(self, adata: MuData) -> dict:
        """Record shape, dtype and channels."""
        super().register_field(adata)
        images = self.get_field_data(adata)
        if advice := open_rows(images).advice:
            warnings.warn(f"{self.where} {advice}", UserWarning, stacklevel=2)
        where = f"mdata[{self.modality!r}]"
        names = channel_names(adata.mod[self.modality], images.shape[1], where)
        argument = "channels" if self.is_by_kind else "image_channels"
        positions = find_channels(self.image_channels, names, argument, where)
        return {
            "n_obs": images.shape[0],
            "height": images.shape[2],
            "width": images.shape[3],
            "dtype": str(np.dtype(images.dtype)),
            "channels": [names[position] for position in positions],
            "positions": positions,
            **self.fingerprint(adata),
        }

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same size and dtype, and find the same channels, which may be at other positions.

        Position -1 stands for channels that were declared missing.
        """
        self.validate_field(mdata)
        images = self.get_field_data(mdata)
        expected = (state_registry["height"], state_registry["width"])
        if images.shape[2:] != expected:
            raise ValueError(
                f"{self.where} has crops of {images.shape[2]} x {images.shape[3]} pixels; the model was built for "
                f"{expected[0]} x {expected[1]}. Cut the crops again at that size."
            )
        if str(np.dtype(images.dtype)) != state_registry["dtype"]:
            raise ValueError(
                f"{self.where} has dtype {images.dtype}; the model was built for {state_registry['dtype']}. Another "
                "dtype usually means another intensity scale: rescale, then "
                f"images.astype({state_registry['dtype']!r})."
            )
        where = f"mdata[{self.modality!r}]"
        names = channel_names(mdata.mod[self.modality], images.shape[1], where)
        wanted = [str(channel) for channel in state_registry["channels"]]
        missing = masked_variables(mdata.mod[self.modality]) - set(names)
        if unknown := [channel for channel in wanted if channel not in names and channel not in missing]:
            raise ValueError(
                f"image_channels: {where} lacks {unknown} of the channels of the model; it has {names}. If they are "
                f"misnamed, set {where}.uns[{CHANNEL_NAMES_KEY!r}]; if they were not measured, call mdata = "
                "model.prepare_query_mudata(mdata, model), which masks them."
            )
        positions = [-1 if channel in missing else names.index(channel) for channel in wanted]
        return {**state_registry, "n_obs": images.shape[0], "positions": positions, **self.fingerprint(mdata)}

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and channels."""
        # Images that were registered with their kind may be several.
        n_channels = f"n_{self.modality}_channels" if self.is_by_kind else "n_channels"
        return {f"n_{self.modality}_cells": state_registry["n_obs"], n_channels: len(state_registry["channels"])}


class ImageModality(Modality):
    """Image crops: ViT encoder, masked-autoencoder decoder, squared error of normalised pixels.

    Channels that were not measured, NaN, are neither read nor scored: they add nothing to the embedding of a patch, and
    the linear path has the training mean of their statistics.

    Parameters
    ----------
    state
        What the field recorded: ``channels``, ``height`` and ``width``.
    settings
        Sizes and options; without those of the decoder, none is built.

    Raises
    ------
    ValueError
        Patches of this size do not tile the crops.
    """

    kind = "images"
    argument = "images_key"
    default_name = IMAGE
    masks_missing = True

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        n_channels, height, width = image_shape = (len(state["channels"]), state["height"], state["width"])
        patch_size = choose_patch_size(height, width) if settings.patch_size is None else settings.patch_size
        embed_dim, n_heads = settings.embed_dim, settings.n_heads
        _check_patch_size(height, width, patch_size)
        self.image_shape, self.patch_size = image_shape, patch_size
        self.n_tokens = (height // patch_size) * (width // patch_size)
        self.latent_shape = (settings.n_latent_tokens, embed_dim)
        self.image_flip, self.image_intensity_jitter = settings.image_flip, settings.image_intensity_jitter
        self.encoder = ImageEncoder(
            image_shape,
            patch_size,
            settings.n_latent_tokens,
            embed_dim,
            settings.image_encoder_depth,
            n_heads,
            linear_path=settings.linear_path,
        )
        self.decoder: ImageDecoder | None = None
        if isinstance(settings, Settings):
            self.decoder = ImageDecoder(
                image_shape, patch_size, embed_dim, settings.image_decoder_dim, settings.image_decoder_depth, n_heads
            )
        self.channel_mean: Tensor
        self.channel_std: Tensor
        self.register_buffer("channel_mean", torch.zeros(n_channels))
        self.register_buffer("channel_std", torch.ones(n_channels))

    @classmethod
    def field_name(cls, modality: str) -> str:
        return "images"

    @classmethod
    def kind_of_arguments(cls, arguments: Mapping[str, Any]) -> Kind:
        return Kind("images", obsm=arguments["images_key"], channels=arguments["image_channels"])

    @classmethod
    def find_cells(cls, adata: AnnData, kind: Kind) -> Kind:
        """The slot that was named, else that of scPortrait."""
        if kind.layer is not None:
            raise ValueError(f"layer={kind.layer!r}, but crops are in obsm: Kind('images', obsm={IMAGES_KEY!r}).")
        return replace(kind, obsm=IMAGES_KEY) if kind.obsm is None else kind

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> ImagesField:
        return ImagesField(field_name, modality, cast("str", kind.obsm), kind.channels)

    @classmethod
    def open_cells(cls, cells: Any, state: Mapping[str, Any]) -> RowReader:
        reader, positions = open_rows(cells), list(state["positions"])
        return reader if positions == list(range(reader.shape[1])) else ChannelReader(reader, positions)

    @classmethod
    def variable_names(cls, state: Mapping[str, Any]) -> NDArray[np.str_]:
        return np.asarray(state["channels"]).astype(str)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set mean and standard deviation of each channel from raw images, in float64, and start the linear path."""
        moments = RunningMoments(self.image_shape[0])
        of_cells = []
        for images in chunks:
            moments.update(images.numpy(), axis=(0, 2, 3))
            if self.encoder.linear_path is not None:
                patches = patchify(images.to(torch.float64), self.patch_size)
                of_cells.append(ChannelMoments.of(patches, self.image_shape[0]))
        # A blank channel has no scale; dividing by 1 keeps it at zero instead of turning it into NaN.
        std = np.where(moments.std > 0, moments.std, 1.0)
        self.channel_mean.copy_(torch.as_tensor(moments.mean))
        self.channel_std.copy_(torch.as_tensor(std))
        if of_cells:
            cells = ChannelMoments(*map(torch.cat, zip(*of_cells, strict=True)))
            self._start_linear_path(cells, torch.as_tensor(moments.mean), torch.as_tensor(std))

    def _start_linear_path(self, cells: ChannelMoments, mean: Tensor, std: Tensor) -> None:
        """Fit the linear path to the moments of raw training cells, and to mean and deviation of each channel."""
        path = cast("ImagePath", self.encoder.linear_path)
        # A channel whose mean is near zero, such as one that was standardised before, has no relative intensity.
        relative_std = std / torch.where(mean > MIN_MEAN * std, mean, std)
        statistics = path.fit(relative_std, cells.normalised(mean, std).statistics(relative_std))
        path.start_at(principal_axes(statistics, self.latent_shape[1]))

    def augment(self, cells: Tensor, generator: Generator | Sequence[Generator] | None = None) -> Tensor:
        """Flip, rotate and rescale the intensity of raw images; shape ``(B, C, H, W)``, returned as float."""
        images = cells.float()
        draw = partial(random_numbers, device=images.device, generator=generator)

        def for_half(changed: Tensor) -> Tensor:
            is_changed = draw("uniform", (len(images), 1, 1, 1)) < 0.5
            return torch.where(is_changed, changed, images)

        if self.image_flip:
            images = for_half(images.flip(-1))
            images = for_half(images.flip(-2))
            if images.shape[-1] == images.shape[-2]:  # two flips and a transpose make all eight symmetries
                images = for_half(images.transpose(-1, -2))
        if self.image_intensity_jitter:
            log_gain = draw("normal", (*images.shape[:2], 1, 1))
            images = images * (log_gain * self.image_intensity_jitter).exp()
        return images

    def prepare(self, cells: Tensor) -> Tensor:
        """Normalise each channel; integers are cast here, on the device."""
        return (cells.float() - self.channel_mean[:, None, None]) / self.channel_std[:, None, None]

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, C, H, W)`` and ``(B, N_visible)`` -> ``(B, L, D)``; missing channels are not read."""
        if not self.lacks_values or bool((is_measured := ~inputs[:, :, 0, 0].isnan()).all()):
            return self.encoder(inputs, visible)
        return self.encoder(inputs.nan_to_num(), visible, is_measured)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict normalised pixels; shape ``(B, N, C * P * P)``, 0 in ``visible`` patches."""
        return cast("ImageDecoder", self.decoder)(latents, visible)

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the pixels of masked patches, in channels that were measured; shape ``(B,)``."""
        target = patchify(inputs, self.patch_size)  # (B, N, C * P * P)
        if not self.lacks_values:
            return masked_mean((prediction.float() - target).square().mean(dim=-1), mask)
        is_measured = ~target.isnan()
        error = torch.where(is_measured, (prediction.float() - target.nan_to_num()).square(), 0.0)
        return masked_mean(error.sum(dim=-1) / is_measured.sum(dim=-1), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Shapes ``(B, N, C * P * P)`` -> ``(B, C, H, W)``, in the intensity units of the raw images."""
        images = unpatchify(prediction.float(), self.image_shape, self.patch_size)
        return images * self.channel_std[:, None, None] + self.channel_mean[:, None, None]

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """``"mean patch"`` at each position in training, and ``"mean of visible patches"`` of the same cell."""
        mean_patch = patchify(reference, self.patch_size).mean(dim=0, keepdim=True)  # (1, N, C * P * P)

        def score_mean_patch(inputs: Tensor, mask: Tensor) -> Tensor:
            return self.loss(mean_patch.expand(len(inputs), -1, -1), inputs, mask)

        def score_visible_mean(inputs: Tensor, mask: Tensor) -> Tensor:
            patches = patchify(inputs, self.patch_size)  # (n, N, C * P * P)
            is_visible = ~mask.unsqueeze(-1)  # (n, N, 1)
            visible_mean = (patches * is_visible).sum(dim=1, keepdim=True) / is_visible.sum(dim=1, keepdim=True)
            return self.loss(visible_mean.expand_as(patches), inputs, mask)

        return {"mean patch": score_mean_patch, "mean of visible patches": score_visible_mean}


def _check_patch_size(height: int, width: int, patch_size: int) -> None:
    if height % patch_size or width % patch_size:
        fitting = [p for p in range(2, min(height, width)) if height % p == 0 and width % p == 0]
        raise ValueError(
            f"crops of {height} x {width} pixels cannot be cut into patches of {patch_size} x {patch_size}. "
            f"Pass a patch_size that divides both, here {fitting or 'none above 1: crop or pad the images first'}."
        )
