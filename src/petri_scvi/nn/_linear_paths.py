"""Linear paths from the visible part of a cell to its latents, which bypass the attention blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self

    from petri_scvi.nn._expression_networks import GeneTokens

GENE_GAIN = 3.0
"""Factor of the mean over genes, which is small because deviations of single genes have both signs."""
MIN_RELATIVE_MEAN = 0.01
"""Smallest mean intensity of a cell, relative to that of all cells, whose logarithm is taken."""
MIN_VARIANCE = 1e-4
"""Added to variances before their logarithm is taken, in units of the variance of the channel over all pixels."""
MIN_STATISTIC_STD = 1e-4
"""A statistic that varies less over the training cells is not divided by its standard deviation."""


class ExpressionPath(nn.Module):
    """Mean over the visible genes of embedding times deviation, through one linear layer that starts as the identity.

    With embeddings that start as principal axes, an untrained path gives the principal components of the cell.

    Parameters
    ----------
    embed_dim
        Width D of the gene embeddings and of the latents.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(embed_dim, embed_dim, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(self, tokens: GeneTokens, levels: Tensor, visible: Tensor | None = None) -> Tensor:
        """What is added to the latents of each cell.

        Parameters
        ----------
        tokens
            Embeddings of the genes, and the statistics of their levels.
        levels
            Log expression, shape ``(B, M)``.
        visible
            Positions of the genes to see, shape ``(B, M_visible)``; all if ``None``.

        Returns
        -------
        Shape ``(B, D)``.
        """
        deviations = tokens.standardise(levels)  # (B, M)
        n_visible = levels.shape[1]
        if visible is not None:
            n_visible = visible.shape[1]
            # Scattered, so that one product over the gene axis serves all cells, whichever genes are visible.
            deviations = torch.zeros_like(deviations).scatter(1, visible, deviations.gather(1, visible))
        return self.project(deviations @ tokens.embedding * (GENE_GAIN / n_visible))


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

    def forward(self, patches: Tensor) -> Tensor:
        """What is added to the latents of each cell.

        Parameters
        ----------
        patches
            Visible patches of normalised images, shape ``(B, T, C * P * P)``.

        Returns
        -------
        Shape ``(B, D)``.
        """
        # In bfloat16 a correlation of two channels would have two digits.
        with torch.autocast(patches.device.type, enabled=False):
            statistics = ChannelMoments.of(patches, self.n_channels).statistics(self.relative_std)
        return self.project((statistics - self.statistic_mean) / self.statistic_std)

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
