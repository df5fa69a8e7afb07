"""Two autoencoders whose mean latents agree in each context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scvi.module.base import LossOutput

from petri_scvi._module import PETRIModule
from petri_scvi.nn import SetTransformer
from petri_scvi.nn._contrastive_losses import mean_misalignment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from petri_scvi.modalities import Modality


class CrossModalModule(PETRIModule):
    """Encode and decode each cell, and align the means of two modalities in each context.

    Parameters
    ----------
    modalities
        Mapping from name to modality; two of them.
    alignment_weight
        Weight of the misalignment of the means, beside the reconstruction of each modality.
    """

    without_contrastive_loss = (
        "the model aligns the means of contexts already, with its alignment_weight; leave it out."
    )

    def __init__(self, modalities: Mapping[str, Modality], alignment_weight: float) -> None:
        embed_dim = next(iter(modalities.values())).latent_shape[1]
        super().__init__(modalities, SetTransformer(list(modalities), embed_dim, 0, n_heads=1), mask_ratio=0.0)
        self.alignment_weight = alignment_weight

    def loss(  # type: ignore[override]  # without contrastive_weight
        self,
        tensors: dict,
        inference_outputs: dict[str, dict[str, Tensor]],
        generative_outputs: dict[str, Tensor],
        loss_weights: Mapping[str, float] | None = None,
    ) -> LossOutput:
        """Weighted sum of the reconstruction of each modality, and of the misalignment of the means.

        Contexts that were measured in one modality only are reconstructed, but not aligned.

        Parameters
        ----------
        tensors
            The minibatch.
        inference_outputs, generative_outputs
            What :meth:`inference` and :meth:`generative` returned.
        loss_weights
            Weight of the reconstruction of each modality; 1 where not given.

        Returns
        -------
        ``loss``, and ``reconstruction_loss`` with that of each modality and ``alignment``; all scalars.

        Raises
        ------
        ValueError
            There are fewer than two contexts, so that distances between contexts are not defined.
        """
        n_contexts = len(tensors["context"])
        if n_contexts < 2:
            raise ValueError(
                f"a minibatch has {n_contexts} context; the distance between modalities is measured relative to "
                "that between contexts, so at least 2 are needed. Pass a larger n_contexts_per_minibatch."
            )
        losses = {}
        for name, prediction in generative_outputs.items():
            inputs = inference_outputs["inputs"][name]
            losses[name] = (
                self.modality(name).loss(prediction, inputs, torch.ones_like(inputs, dtype=torch.bool)).mean()
            )
        weights = loss_weights or {}
        loss = torch.stack([weights.get(name, 1.0) * mean for name, mean in losses.items()]).sum()
        means = [
            latents.float().mean(dim=1).unflatten(0, (n_contexts, -1)).mean(dim=1)  # (G, D)
            for latents in inference_outputs["latents"].values()
        ]
        # If all documents are of one context, distances between contexts are not defined.
        if len(means) == 2 and len(tensors["context"].unique()) > 1:
            losses["alignment"] = mean_misalignment(*means)
            loss = loss + self.alignment_weight * losses["alignment"]
        return LossOutput(loss=loss, reconstruction_loss=losses, n_obs_minibatch=n_contexts)
