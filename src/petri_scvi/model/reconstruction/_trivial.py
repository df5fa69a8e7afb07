"""Predictors that need no model, to be beaten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from petri_scvi.nn import ExpressionModality, ImageModality, masked_mean, negative_binomial_nll, patchify

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from petri_scvi.nn import Modality

    Score = Callable[[Tensor, Tensor], Tensor]
    """Raw cells ``(n, ...)`` and what is hidden of them ``(n, T)``, to the loss of each cell ``(n,)``."""

LOG_DISPERSIONS = torch.linspace(-4, 6, 41)
"""Candidates for the dispersion of the mean expression predictor."""


@torch.inference_mode()
def trivial_predictors(modality: Modality, training: Tensor) -> dict[str, Score]:
    """Predictors of masked tokens that know nothing but averages.

    Parameters
    ----------
    modality
        Whose loss is used.
    training
        Raw training cells the averages are taken of, shape ``(n_training, ...)``, on the device to work on.

    Returns
    -------
    Predictor to its :data:`Score`. Images: ``"mean patch"``, the training mean at the patch's position, and
    ``"mean of visible patches"`` of the same cell. Expression: ``"mean expression"`` of each gene, scaled to the cell's
    library size where counts are modelled, with the dispersion of each gene that fits training cells best.
    """
    reference = modality.prepare(training)
    if isinstance(modality, ImageModality):
        return _trivial_images(modality, reference)
    if isinstance(modality, ExpressionModality):
        average = _mean_counts if modality.likelihood == "nb" else _mean_levels
        return {"mean expression": average(modality, reference)}
    return {}


def _trivial_images(modality: ImageModality, reference: Tensor) -> dict[str, Score]:
    mean_patch = patchify(reference, modality.patch_size).mean(dim=0, keepdim=True)  # (1, N, C * P * P)

    def score_mean_patch(cells: Tensor, mask: Tensor) -> Tensor:
        inputs = modality.prepare(cells.to(reference.device))
        return modality.loss(mean_patch.expand(len(inputs), -1, -1), inputs, mask.to(reference.device))

    def score_visible_mean(cells: Tensor, mask: Tensor) -> Tensor:
        inputs, hidden = modality.prepare(cells.to(reference.device)), mask.to(reference.device)
        patches = patchify(inputs, modality.patch_size)  # (n, N, C * P * P)
        is_visible = ~hidden.unsqueeze(-1)  # (n, N, 1)
        visible_mean = (patches * is_visible).sum(dim=1, keepdim=True) / is_visible.sum(dim=1, keepdim=True)
        return modality.loss(visible_mean.expand_as(patches), inputs, hidden)

    return {"mean patch": score_mean_patch, "mean of visible patches": score_visible_mean}


def _mean_levels(modality: ExpressionModality, reference: Tensor) -> Score:
    mean = reference.mean(dim=0)  # (M,)

    def score(cells: Tensor, mask: Tensor) -> Tensor:
        inputs = modality.prepare(cells.to(reference.device))
        return modality.loss(mean.expand_as(inputs), inputs, mask.to(reference.device))

    return score


def _mean_counts(modality: ExpressionModality, reference: Tensor) -> Score:
    total = reference.sum(dim=0) + 0.5  # half a count, so that a gene without any stays possible
    log_share = (total / total.sum()).log()  # (M,)

    def nll(counts: Tensor, log_dispersion: Tensor) -> Tensor:
        return negative_binomial_nll(counts, log_share + counts.sum(dim=1, keepdim=True).log(), log_dispersion)

    candidates = LOG_DISPERSIONS.to(reference)
    fits = torch.stack([nll(reference, candidate).mean(dim=0) for candidate in candidates])  # (41, M)
    log_dispersion = candidates[fits.argmin(dim=0)]  # (M,)

    def score(cells: Tensor, mask: Tensor) -> Tensor:
        counts = modality.prepare(cells.to(reference.device))
        return masked_mean(nll(counts, log_dispersion), mask.to(reference.device))

    return score
