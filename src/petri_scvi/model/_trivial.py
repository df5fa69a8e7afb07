"""Predictors that need no model, to be beaten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from petri_scvi.nn import ExpressionModality, ImageModality, masked_mean, negative_binomial_nll, patchify

if TYPE_CHECKING:
    from torch import Tensor

    from petri_scvi.nn import Modality

LOG_DISPERSIONS = torch.linspace(-4, 6, 41)
"""Candidates for the dispersion of the mean expression predictor."""


@torch.inference_mode()
def trivial_losses(modality: Modality, training: Tensor, cells: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Loss of the masked tokens under predictors that know nothing but averages.

    Parameters
    ----------
    modality
        Whose loss is used.
    training
        Raw training cells the averages are taken of, shape ``(n_training, ...)``.
    cells, mask
        Raw cells to predict, and what is hidden of them, ``(n, T)``.

    Returns
    -------
    Predictor to the loss of each cell, shape ``(n,)``. Images: ``"mean patch"``, the training mean at the patch's
    position, and ``"mean of visible patches"`` of the same cell. Expression: ``"mean expression"`` of each gene, scaled
    to the cell's library size where counts are modelled, with the dispersion of each gene that fits training cells
    best.
    """
    reference, inputs = modality.prepare(training), modality.prepare(cells)
    if isinstance(modality, ImageModality):
        return _trivial_images(modality, reference, inputs, mask)
    if isinstance(modality, ExpressionModality):
        return {"mean expression": _mean_expression(modality, reference, inputs, mask)}
    return {}


def _trivial_images(modality: ImageModality, reference: Tensor, inputs: Tensor, mask: Tensor) -> dict[str, Tensor]:
    patches = patchify(inputs, modality.patch_size)  # (n, N, C * P * P)
    is_visible = ~mask.unsqueeze(-1)  # (n, N, 1)
    visible_mean = (patches * is_visible).sum(dim=1, keepdim=True) / is_visible.sum(dim=1, keepdim=True)
    predictions = {
        "mean patch": patchify(reference, modality.patch_size).mean(dim=0, keepdim=True).expand_as(patches),
        "mean of visible patches": visible_mean.expand_as(patches),
    }
    return {name: modality.loss(prediction, inputs, mask) for name, prediction in predictions.items()}


def _mean_expression(modality: ExpressionModality, reference: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
    if modality.likelihood == "normal":
        return modality.loss(reference.mean(dim=0).expand_as(inputs), inputs, mask)
    total = reference.sum(dim=0) + 0.5  # half a count, so that a gene without any stays possible
    log_share = (total / total.sum()).log()  # (M,)

    def nll(counts: Tensor, log_dispersion: Tensor) -> Tensor:
        return negative_binomial_nll(counts, log_share + counts.sum(dim=1, keepdim=True).log(), log_dispersion)

    candidates = LOG_DISPERSIONS.to(reference)
    fits = torch.stack([nll(reference, candidate).mean(dim=0) for candidate in candidates])  # (41, M)
    return masked_mean(nll(inputs, candidates[fits.argmin(dim=0)]), mask)
