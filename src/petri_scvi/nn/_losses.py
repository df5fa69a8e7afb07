"""Losses over masked entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each cell's masked entries; shapes ``(B, T)`` and ``(B, T)`` -> ``(B,)``.

    A cell without masked entries gets 0.
    """
    return torch.where(mask, values, 0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def negative_binomial_nll(counts: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    r"""Negative log-likelihood of counts under a negative binomial :cite:p:`Lopez2018`.

    With mean :math:`\mu` and inverse dispersion :math:`\theta`, the variance is :math:`\mu + \mu^2 / \theta`.

    Parameters
    ----------
    counts
        Observed counts, any shape.
    log_mean
        :math:`\log \mu`, of the same shape.
    log_dispersion
        :math:`\log \theta`, broadcastable to that shape.

    Returns
    -------
    Negative log-likelihood of each count.
    """
    dispersion = log_dispersion.exp()
    # log(mu + theta) from the logarithms: exact for means so small that their exponential would vanish.
    log_total = torch.logaddexp(log_mean, log_dispersion)
    return (
        torch.lgamma(dispersion)
        + torch.lgamma(counts + 1)
        - torch.lgamma(counts + dispersion)
        - dispersion * (log_dispersion - log_total)
        - counts * (log_mean - log_total)
    )
