"""Vision Transformer with a linear path that compresses a crop to latent tokens, and the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from petri_scvi.nn._blocks import SelfAttentionBlock, init_weights, sincos_position
from petri_scvi.nn._masking import other_positions, take_tokens
from petri_scvi.nn._patches import patchify

if TYPE_CHECKING:
    from typing import Self

MIN_RELATIVE_MEAN = 0.01
"""Smallest mean intensity of a cell, relative to that of all cells, whose logarithm is taken."""
MIN_VARIANCE = 1e-4
"""Added to variances before their logarithm is taken, in units of the variance of the channel over all pixels."""
MIN_STATISTIC_STD = 1e-4
"""A statistic that varies less over the training cells is not divided by its standard deviation."""


class ChannelMoments(NamedTuple):
    """Moments of the visible pixels of each cell, in the units of the pixels."""

    mean: Tensor
    """Of each channel, shape ``(B, C)``."""
    between: Tensor
    """Variance between the means of patches, shape ``(B, C)``."""
    covariance: Tensor
    """Of the channels over all pixels, shape ``(B, C, C)``."""

    @classmethod
    def of(cls, patches: Tensor, n_channels: int) -> Self:
        """Moments of patches of C channels, shape ``(B, T, C * P * P)``."""
        pixels = patches.unflatten(-1, (n_channels, -1)).transpose(1, 2)  # (B, C, T, P * P)
        patch_mean = pixels.mean(dim=-1)  # (B, C, T)
        mean = patch_mean.mean(dim=-1)
        centred = pixels.flatten(2) - mean.unsqueeze(-1)  # (B, C, T * P * P)
        return cls(
            mean,
            (patch_mean - mean.unsqueeze(-1)).square().mean(dim=-1),
            centred @ centred.transpose(1, 2) / centred.shape[-1],
        )

    def normalised(self, mean: Tensor, std: Tensor) -> Self:
        """The moments that pixels have once the ``mean`` of each channel is subtracted and divided by ``std``."""
        variance = std.square()
        return type(self)(
            (self.mean - mean) / std,
            self.between / variance,
            self.covariance / (std * std.unsqueeze(-1)),
        )

    def statistics(self, relative_std: Tensor) -> Tensor:
        """Logarithms of means and standard deviations, and correlations; shape ``(B, 3 C + C (C - 1) / 2)``.

        Parameters
        ----------
        relative_std
            Standard deviation of each channel over all pixels, divided by its mean; shape ``(C,)``. It turns the mean
            of normalised pixels into a mean intensity relative to that of all cells.
        """
        variance = self.covariance.diagonal(dim1=1, dim2=2)  # (B, C)
        within = variance - self.between  # mean variance within patches, which are equally large
        std = variance.clamp(min=MIN_VARIANCE).sqrt()
        correlation = self.covariance / (std.unsqueeze(1) * std.unsqueeze(2))  # (B, C, C)
        first, second = torch.triu_indices(std.shape[1], std.shape[1], 1, device=std.device)
        parts = [
            (1 + self.mean * relative_std).clamp(min=MIN_RELATIVE_MEAN).log(),
            (self.between + MIN_VARIANCE).log() / 2,
            (within.clamp(min=0) + MIN_VARIANCE).log() / 2,
            correlation[:, first, second],
        ]
        return torch.cat(parts, dim=1)


class ImagePath(nn.Module):
    """Statistics of the channels over the visible patches, standardised, through one linear layer.

    They are, of each channel, the log of the mean intensity relative to that of all cells, the log standard deviation
    between the means of patches and the one within patches, and of each pair of channels their correlation.

    Parameters
    ----------
    n_channels
        Number of channels (C).
    embed_dim
        Width D of the latents.
    """

    def __init__(self, n_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        n_statistics = 3 * n_channels + n_channels * (n_channels - 1) // 2
        self.relative_std: Tensor
        self.statistic_mean: Tensor
        self.statistic_std: Tensor
        self.register_buffer("relative_std", torch.ones(n_channels))
        self.register_buffer("statistic_mean", torch.zeros(n_statistics))
        self.register_buffer("statistic_std", torch.ones(n_statistics))
        self.project = nn.Linear(n_statistics, embed_dim, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(self, patches: Tensor, is_measured: Tensor | None = None) -> Tensor:
        """What is added to the latents of each cell.

        Parameters
        ----------
        patches
            Visible patches of normalised images, shape ``(B, T, C * P * P)``.
        is_measured
            Channels whose statistics count, shape ``(B, C)``; those of others are taken to be the training mean. All
            if ``None``.

        Returns
        -------
        Shape ``(B, D)``.
        """
        # In bfloat16 a correlation of two channels would have two digits.
        with torch.autocast(patches.device.type, enabled=False):
            statistics = ChannelMoments.of(patches, self.n_channels).statistics(self.relative_std)
        statistics = (statistics - self.statistic_mean) / self.statistic_std
        if is_measured is not None:
            first, second = torch.triu_indices(self.n_channels, self.n_channels, 1, device=patches.device)
            both = is_measured[:, first] & is_measured[:, second]  # (B, C (C - 1) / 2)
            statistics = statistics * torch.cat([*[is_measured] * 3, both], dim=1)
        return self.project(statistics)

    @torch.no_grad()
    def fit(self, relative_std: Tensor, statistics: Tensor) -> Tensor:
        """Standardise the statistics by those of training cells.

        Parameters
        ----------
        relative_std
            See :meth:`ChannelMoments.statistics`.
        statistics
            What it returned for the training cells.

        Returns
        -------
        The standardised statistics, of the same shape.
        """
        mean, std = statistics.mean(dim=0), statistics.std(dim=0, correction=0)
        std = torch.where(std > MIN_STATISTIC_STD, std, 1.0)
        self.relative_std.copy_(relative_std)
        self.statistic_mean.copy_(mean)
        self.statistic_std.copy_(std)
        return (statistics - mean) / std

    @torch.no_grad()
    def start_at(self, axes: Tensor) -> None:
        """Set the linear layer to these axes of the standardised statistics, shape ``(K, n_statistics)``, K <= D."""
        self.project.weight.zero_()
        self.project.weight[: len(axes)] = axes.to(self.project.weight)


class ImageEncoder(nn.Module):
    """Vision Transformer :cite:p:`Dosovitskiy2021` with L learned latent tokens prepended to the patches.

    Parameters
    ----------
    image_shape
        Channels, height and width ``(C, H, W)``; height and width are multiples of ``patch_size``.
    patch_size
        Side P of a patch in pixels.
    n_latent_tokens
        Latent tokens per cell (L).
    embed_dim
        Width D of the tokens.
    image_encoder_depth
        Number of self-attention blocks.
    n_heads
        Attention heads; divides D.
    linear_path
        Add an :class:`ImagePath` to the latents.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        n_latent_tokens: int,
        embed_dim: int,
        image_encoder_depth: int,
        n_heads: int,
        *,
        linear_path: bool = True,
    ) -> None:
        super().__init__()
        n_channels, height, width = image_shape
        self.patch_size = patch_size
        self.n_latent_tokens = n_latent_tokens
        self.embed = nn.Linear(n_channels * patch_size**2, embed_dim)
        self.position: Tensor
        self.register_buffer(
            "position", sincos_position(height // patch_size, width // patch_size, embed_dim), persistent=False
        )
        self.latents = nn.Parameter(torch.randn(1, n_latent_tokens, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(SelfAttentionBlock(embed_dim, n_heads) for _ in range(image_encoder_depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.apply(init_weights)
        self.linear_path = ImagePath(n_channels, embed_dim) if linear_path else None

    def forward(self, images: Tensor, visible: Tensor | None = None, is_measured: Tensor | None = None) -> Tensor:
        """Compress each image to its latent tokens.

        Parameters
        ----------
        images
            Normalised images, shape ``(B, C, H, W)``; 0 in channels that were not measured, which thus add nothing to
            the tokens of patches.
        visible
            Positions of the patches to see, shape ``(B, N_visible)``; all if ``None``.
        is_measured
            Channels that were measured, shape ``(B, C)``; all if ``None``.

        Returns
        -------
        Latents, shape ``(B, L, D)``.
        """
        patches = patchify(images, self.patch_size)  # (B, N, C * P * P)
        position = self.position
        if visible is not None:
            patches, position = take_tokens(patches, visible), position[visible]  # (B, N_visible, ...)
        tokens = self.embed(patches) + position  # (B, N_visible, D)
        tokens = torch.cat([self.latents.expand(len(images), -1, -1), tokens], dim=1)  # (B, L + N_visible, D)
        *blocks, last_block = self.blocks
        for block in blocks:
            tokens = block(tokens)
        latents = self.norm(last_block(tokens, tokens[:, : self.n_latent_tokens]))  # (B, L, D)
        return latents if self.linear_path is None else latents + self.linear_path(patches, is_measured).unsqueeze(1)


class ImageDecoder(nn.Module):
    """Masked-autoencoder decoder :cite:p:`He2022`: N mask tokens attend to the latents and become pixels.

    Parameters
    ----------
    image_shape
        Channels, height and width ``(C, H, W)``.
    patch_size
        Side P of a patch in pixels.
    embed_dim
        Width D of the latents.
    image_decoder_dim
        Width of the decoder's own tokens.
    image_decoder_depth
        Number of self-attention blocks.
    n_heads
        Attention heads; divides ``image_decoder_dim``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        embed_dim: int,
        image_decoder_dim: int,
        image_decoder_depth: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        n_channels, height, width = image_shape
        self.embed = nn.Linear(embed_dim, image_decoder_dim)
        self.mask_token = nn.Parameter(torch.randn(image_decoder_dim) * 0.02)
        self.position: Tensor
        self.register_buffer(
            "position", sincos_position(height // patch_size, width // patch_size, image_decoder_dim), persistent=False
        )
        self.blocks = nn.ModuleList(SelfAttentionBlock(image_decoder_dim, n_heads) for _ in range(image_decoder_depth))
        self.norm = nn.LayerNorm(image_decoder_dim)
        self.head = nn.Linear(image_decoder_dim, n_channels * patch_size**2)
        self.apply(init_weights)

    def forward(self, latents: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict patches.

        Parameters
        ----------
        latents
            Latents of the cells, shape ``(B, L, D)``.
        visible
            Positions of patches whose prediction is not used, shape ``(B, N_visible)``; none by default.

        Returns
        -------
        Pixels, shape ``(B, N, C * P * P)``; 0 at ``visible``.
        """
        n_latents = latents.shape[1]
        mask_tokens = (self.mask_token + self.position).expand(len(latents), -1, -1)  # (B, N, image_decoder_dim)
        tokens = torch.cat([self.embed(latents), mask_tokens], dim=1)  # (B, L + N, image_decoder_dim)
        *blocks, last_block = self.blocks
        for block in blocks:
            tokens = block(tokens)
        if visible is None:
            return self.head(self.norm(last_block(tokens, tokens[:, n_latents:])))
        read = other_positions(visible, len(self.position))  # (B, N - N_visible)
        patches = self.head(self.norm(last_block(tokens, take_tokens(tokens, n_latents + read))))
        every = patches.new_zeros(len(patches), len(self.position), patches.shape[-1])
        return every.scatter(1, read.unsqueeze(-1).expand_as(patches), patches)
