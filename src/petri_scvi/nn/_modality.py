"""A modality: how its cells are encoded, decoded and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from petri_scvi.nn._losses import masked_mean, negative_binomial_nll
from petri_scvi.nn._masking import random_numbers
from petri_scvi.nn._patches import patchify, unpatchify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Generator

    from petri_scvi.nn._decoders import ExpressionDecoder, ImageDecoder
    from petri_scvi.nn._expression_encoder import ExpressionEncoder
    from petri_scvi.nn._image_encoder import ImageEncoder


MAX_LOG_DISPERSION = 8.0


class Modality(nn.Module, ABC):
    """Encoder, decoder and loss of one kind of measurement; the whole of what PETRI knows about it.

    A new modality is a subclass. Nothing else in the module, the plan or the minibatches changes. To be used through
    ``PETRI``, it also has to be registered (``model/setup/_setup.py``), read (``model/setup/_registered.py``) and built
    (``model/_networks.py``).
    """

    n_tokens: int
    """Tokens per cell (T); the width of the mask."""
    latent_shape: tuple[int, int]
    """Latent tokens per cell and their width, ``(L, D)``."""

    @abstractmethod
    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set the statistics of the model from training cells, given in chunks of raw cells."""

    @abstractmethod
    def prepare(self, cells: Tensor) -> Tensor:
        """Turn raw cells into the float tensor that is encoded and is the target of the loss."""

    def augment(self, cells: Tensor, generator: Generator | Sequence[Generator] | None = None) -> Tensor:
        """Randomly change raw cells in ways that do not matter; used in training only. Default: not at all."""
        return cells

    @abstractmethod
    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compress prepared cells, seen at ``visible`` ``(B, T_visible)``, to latents ``(B, L, D)``."""

    @abstractmethod
    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict tokens from latents.

        Parameters
        ----------
        latents
            Latents of the cells, shape ``(B, L, D)``.
        inputs
            The prepared cells. Only what is no secret may be used, such as the library size.
        visible
            Positions that the encoder saw and that will not be scored, shape ``(B, T_visible)``. Their prediction may
            be left out; ``None`` asks for all.

        Returns
        -------
        A prediction of all tokens, shape ``(B, T, ...)``.
        """

    @abstractmethod
    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Score the prediction where ``mask`` ``(B, T)`` is True; shape ``(B,)``."""

    @abstractmethod
    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Turn a prediction into the shape and units of raw cells."""


class ImageModality(Modality):
    """Image crops: ViT encoder, masked-autoencoder decoder, squared error of normalised pixels.

    Parameters
    ----------
    encoder, decoder
        The networks.
    image_shape
        Channels, height and width ``(C, H, W)``.
    is_flipped
        Whether training images are randomly flipped and, if square, rotated by multiples of 90 degrees.
    intensity_jitter
        Standard deviation of the log of a random factor per cell and channel, in training.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        decoder: ImageDecoder,
        image_shape: tuple[int, int, int],
        *,
        is_flipped: bool = False,
        intensity_jitter: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = image_shape
        self.latent_shape = (encoder.latents.shape[1], encoder.latents.shape[2])
        self.patch_size = encoder.patch_size
        self.n_tokens = (image_shape[1] // self.patch_size) * (image_shape[2] // self.patch_size)
        self.is_flipped = is_flipped
        self.intensity_jitter = intensity_jitter
        self.channel_mean: Tensor
        self.channel_std: Tensor
        self.register_buffer("channel_mean", torch.zeros(image_shape[0]))
        self.register_buffer("channel_std", torch.ones(image_shape[0]))

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set mean and standard deviation of each channel from raw images, in float64."""
        n_pixels = 0
        total = torch.zeros(self.image_shape[0], dtype=torch.float64)
        total_square = torch.zeros_like(total)
        for images in chunks:
            pixels = images.to(torch.float64).transpose(0, 1).flatten(1)  # (C, B * H * W)
            n_pixels += pixels.shape[1]
            total += pixels.sum(dim=1)
            total_square += pixels.square().sum(dim=1)
        mean = total / n_pixels
        variance = (total_square / n_pixels - mean.square()).clamp(min=0)
        # A blank channel has no scale; dividing by 1 keeps it at zero instead of turning it into NaN.
        std = torch.where(variance > 1e-12 * (1 + mean.square()), variance.sqrt(), 1.0)
        self.channel_mean.copy_(mean)
        self.channel_std.copy_(std)

    def augment(self, cells: Tensor, generator: Generator | Sequence[Generator] | None = None) -> Tensor:
        """Flip, rotate and rescale the intensity of raw images; shape ``(B, C, H, W)``, returned as float."""
        images = cells.float()
        draw = partial(random_numbers, device=images.device, generator=generator)

        def for_half(changed: Tensor) -> Tensor:
            is_changed = draw("uniform", (len(images), 1, 1, 1)) < 0.5
            return torch.where(is_changed, changed, images)

        if self.is_flipped:
            images = for_half(images.flip(-1))
            images = for_half(images.flip(-2))
            if images.shape[-1] == images.shape[-2]:  # two flips and a transpose make all eight symmetries
                images = for_half(images.transpose(-1, -2))
        if self.intensity_jitter:
            log_gain = draw("normal", (*images.shape[:2], 1, 1))
            images = images * (log_gain * self.intensity_jitter).exp()
        return images

    def prepare(self, cells: Tensor) -> Tensor:
        """Normalise each channel; integers are cast here, on the device."""
        return (cells.float() - self.channel_mean[:, None, None]) / self.channel_std[:, None, None]

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, C, H, W)`` and ``(B, N_visible)`` -> ``(B, L, D)``."""
        return self.encoder(inputs, visible)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict normalised pixels; shape ``(B, N, C * P * P)``, 0 in ``visible`` patches."""
        return self.decoder(latents, visible)

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the pixels of masked patches; shape ``(B,)``."""
        target = patchify(inputs, self.patch_size)  # (B, N, C * P * P)
        return masked_mean((prediction.float() - target).square().mean(dim=-1), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Shapes ``(B, N, C * P * P)`` -> ``(B, C, H, W)``, in the intensity units of the raw images."""
        images = unpatchify(prediction.float(), self.image_shape, self.patch_size)
        return images * self.channel_std[:, None, None] + self.channel_mean[:, None, None]


class ExpressionModality(Modality):
    """Transcriptomes: Perceiver encoder, MLP decoder, negative binomial or squared error.

    Parameters
    ----------
    encoder, decoder
        The networks.
    n_genes
        Number of genes (M).
    likelihood
        ``"nb"`` for counts, ``"normal"`` for log-normalised values.
    """

    def __init__(
        self,
        encoder: ExpressionEncoder,
        decoder: ExpressionDecoder,
        n_genes: int,
        likelihood: Literal["nb", "normal"],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_shape = (encoder.latents.shape[1], encoder.latents.shape[2])
        self.n_tokens = n_genes
        self.likelihood = likelihood
        if likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(n_genes))

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Start the decoder at the mean expression of the training cells, and standardise levels by them."""
        n_cells = 0
        total, total_level, total_square = (torch.zeros(self.n_tokens, dtype=torch.float64) for _ in range(3))
        for cells in chunks:
            values = cells.to(torch.float64)
            levels = self._levels(values)
            n_cells += len(values)
            total += values.sum(dim=0)
            total_level += levels.sum(dim=0)
            total_square += levels.square().sum(dim=0)
        mean = total_level / n_cells
        self.encoder.tokens.fit_levels(mean, (total_square / n_cells - mean.square()).clamp(min=0).sqrt())
        with torch.no_grad():
            if self.likelihood == "nb":  # half a count keeps genes that were never seen finite
                self.decoder.offset.copy_(((total + 0.5) / (total + 0.5).sum()).log())
            else:
                self.decoder.offset.copy_(total / n_cells)

    def _levels(self, values: Tensor) -> Tensor:
        """Log expression."""
        return values.log1p() if self.likelihood == "nb" else values

    def prepare(self, cells: Tensor) -> Tensor:
        """Cast to float."""
        return cells.float()

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, M)`` and ``(B, M_visible)`` -> ``(B, L, D)``."""
        return self.encoder(self._levels(inputs), visible)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict the log mean count, or the mean log-normalised value; shape ``(B, M)``.

        Visible genes are predicted too: the softmax of the others needs them.
        """
        prediction = self.decoder(latents).float()
        if self.likelihood == "nb":
            library_size = inputs.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
            return log_softmax(prediction, dim=-1) + library_size.log()
        return prediction

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-likelihood, or squared error, of the masked genes; shape ``(B,)``."""
        if self.likelihood == "nb":
            # Beyond this a gene is Poisson for all that counts show, and float32 loses digits in the lgamma terms.
            log_dispersion = self.log_dispersion.clamp(max=MAX_LOG_DISPERSION)
            return masked_mean(negative_binomial_nll(inputs, prediction, log_dispersion), mask)
        return masked_mean((prediction - inputs).square(), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Expected counts, or log-normalised values; shape ``(B, M)``."""
        return prediction.exp() if self.likelihood == "nb" else prediction
