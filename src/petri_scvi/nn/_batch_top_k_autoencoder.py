"""BatchTopK sparse autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear, normalize

if TYPE_CHECKING:
    from torch import Generator, Tensor

AUXILIARY_WEIGHT = 1 / 32
"""Weight of the loss of dead dimensions, as published."""
LIKELY_SHARE = 0.7
"""A cutoff is searched among the few values above this share of the last one."""


FIRST_LENGTH = 0.3
"""Initial length of the encoder's directions."""


class BatchTopKAutoencoder(nn.Module):
    r"""Sparse autoencoder in which the cells of a minibatch share their active dimensions :cite:p:`Bussmann2024`.

    In training the ``n_active * B`` largest activations of a minibatch are kept, however they are distributed over its
    B cells. For inference a threshold, the mean of the smallest activations that were kept, replaces the minibatch.

    Parameters
    ----------
    n_inputs
        Width of the embedding (D).
    n_dimensions
        Width of the sparse code (F).
    n_active
        Dimensions that are active per cell, in the mean over a minibatch.
    generator
        Source of randomness of the first directions; torch's global one if ``None``.
    """

    threshold: Tensor
    cutoff: Tensor
    n_idle: Tensor

    def __init__(self, n_inputs: int, n_dimensions: int, n_active: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.n_active = n_active
        directions = normalize(torch.randn(n_dimensions, n_inputs, generator=generator), dim=1)
        # It starts as a scaled-down decoder, because many active directions would overshoot the reconstruction.
        self.encoder = nn.Parameter(FIRST_LENGTH * directions)  # (F, D)
        self.encoder_bias = nn.Parameter(torch.zeros(n_dimensions))
        self.decoder = nn.Parameter(directions)  # (F, D), rows of length 1
        self.decoder_bias = nn.Parameter(torch.zeros(n_inputs))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("cutoff", torch.tensor(0.0), persistent=False)
        self.register_buffer("n_idle", torch.zeros(n_dimensions), persistent=False)

    def encode(self, values: Tensor) -> Tensor:
        """Encode cells, each on its own; shape ``(B, D)`` -> ``(B, F)``."""
        raw = self._raw(values)
        return torch.where(raw >= self.threshold, raw, 0)

    def decode(self, activations: Tensor) -> Tensor:
        """Reconstruct the embedding from activations; shape ``(B, F)`` -> ``(B, D)``."""
        return torch.addmm(self.decoder_bias, activations, self.decoder)

    def loss(self, values: Tensor, dead_after: int) -> tuple[Tensor, Tensor]:
        """Loss of a minibatch to train on.

        Parameters
        ----------
        values
            Embedding, shape ``(B, D)``.
        dead_after
            A dimension that no cell activated for this many minibatches is dead.

        Returns
        -------
        The loss, with the part that revives dead dimensions, and the mean squared error alone.
        """
        raw = self._raw(values)  # (B, F)
        self.cutoff = kth_largest(raw.detach(), self.n_active * len(values), above=LIKELY_SHARE * self.cutoff)
        is_active = raw >= self.cutoff
        residual = values - self.decode(torch.where(is_active, raw, 0))  # (B, D)
        self.n_idle = torch.where(is_active.any(dim=0), 0, self.n_idle + 1)
        error = residual.square().mean()
        dead = (self.n_idle >= dead_after).nonzero().squeeze(1)
        if len(dead) == 0:
            return error, error.detach()
        # Half of D dimensions per cell, as published: together they explain much of the residual, but not all.
        n_revived = min(max(1, values.shape[1] // 2), len(dead))
        largest = raw[:, dead].relu().topk(n_revived, dim=1, sorted=False)
        revived = torch.zeros_like(raw[:, dead]).scatter(1, largest.indices, largest.values)  # (B, n_dead)
        auxiliary = (revived @ self.decoder[dead] - residual.detach()).square().mean()
        return error + AUXILIARY_WEIGHT * auxiliary, error.detach()

    @torch.no_grad()
    def keep_unit_norm(self) -> None:
        """Remove the part of the gradient that would change the length of a direction; call it before the optimiser."""
        gradient = self.decoder.grad
        if gradient is not None:
            gradient -= (gradient * self.decoder).sum(dim=1, keepdim=True) * self.decoder

    @torch.no_grad()
    def renormalize(self) -> None:
        """Give all directions length 1; call it after the optimiser."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def fold(self, mean: Tensor, scale: float) -> None:
        """Accept unscaled inputs after training on ``(inputs - mean) / scale``; activations then have their unit."""
        self.decoder_bias.mul_(scale).add_(mean)
        self.encoder_bias.mul_(scale)
        self.threshold.mul_(scale)

    def _raw(self, values: Tensor) -> Tensor:
        return linear(values - self.decoder_bias, self.encoder, self.encoder_bias)


def kth_largest(values: Tensor, k: int, *, above: Tensor) -> Tensor:
    """The ``k``-th largest value, or the smallest positive number if fewer are positive.

    Parameters
    ----------
    values
        Any shape.
    k
        Rank, from 1.
    above
        Lower bound of the values to search first; one that is too high only costs time.
    """
    # Sorting the few values that can matter is several times faster than sorting all, and finds the same.
    found = values[values > above]
    if len(found) < k:
        found = values[values > 0]
    smallest = values.new_tensor(torch.finfo(values.dtype).tiny)
    return smallest if len(found) < k else found.kthvalue(len(found) - k + 1).values.maximum(smallest)
