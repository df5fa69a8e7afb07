"""Encoders of PETRI, trained to recognise each other's contexts instead of reconstructing cells."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, cast

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import nn
from torch.nn.functional import normalize

from petri_scvi._module import PETRIModule
from petri_scvi.baselines.contrastive._pooling import AttentionPool, MeanPool
from petri_scvi.nn import SetTransformer
from petri_scvi.nn._contrastive_losses import group_nce, info_nce

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from petri_scvi.modalities import Modality

MAX_SCALE = 100.0
"""Largest inverse temperature, as in CLIP."""


class ContrastiveModule(PETRIModule):
    """Encode each cell, pool its latent tokens, project linearly to unit vectors of a shared space.

    Parameters
    ----------
    modalities
        Mapping from name to modality; two or more. They need no decoder.
    projection_dim
        Width of the shared space.
    mask_ratio
        Fraction of each cell's tokens that is masked in training, as augmentation.
    temperature
        Temperature to start from; it is learned.
    """

    without_contrastive_loss = "the model is contrastive already; leave it out."

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        projection_dim: int,
        mask_ratio: float,
        temperature: float,
    ) -> None:
        embed_dim = next(iter(modalities.values())).latent_shape[1]
        super().__init__(modalities, SetTransformer(list(modalities), embed_dim, 0, n_heads=1), mask_ratio)
        self.projection_dim = projection_dim
        self.projections = nn.ModuleDict(
            {name: nn.Linear(embed_dim, projection_dim, bias=False) for name in modalities}
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def _get_generative_input(self, tensors: dict, inference_outputs: dict) -> dict:
        return {"latents": inference_outputs["latents"], "n_documents": len(tensors["context"])}

    @auto_move_data
    def generative(self, latents: dict[str, Tensor], n_documents: int) -> dict[str, Tensor]:
        """Unit vectors that are compared, per modality."""
        vectors = {name: cells.mean(dim=1).unflatten(0, (n_documents, -1)) for name, cells in latents.items()}
        return {name: self.project(name, self.pool(name, cells)) for name, cells in vectors.items()}

    def project(self, modality: str, vectors: Tensor) -> Tensor:
        """Unit vectors in the shared space; shape ``(B, D)`` -> ``(B, projection_dim)``."""
        return normalize(self.projections[modality](vectors).float(), dim=-1)

    @abstractmethod
    def pool(self, modality: str, cells: Tensor) -> Tensor:
        """Reduce documents to what is compared: shape ``(G, S, D)`` -> one row per unit of comparison, ``(B, D)``."""

    @abstractmethod
    def direction_loss(self, queries: Tensor, keys: Tensor, context: Tensor, scale: Tensor) -> Tensor:
        """Loss of finding, for each query of one modality, its match in another."""

    def loss(  # type: ignore[override]  # without contrastive_weight
        self,
        tensors: dict,
        inference_outputs: dict,
        generative_outputs: dict[str, Tensor],
        loss_weights: Mapping[str, float] | None = None,
    ) -> LossOutput:
        """Weighted mean over modalities of the loss of that modality's queries, itself a mean over the others.

        Parameters
        ----------
        tensors
            The minibatch.
        inference_outputs, generative_outputs
            What :meth:`inference` and :meth:`generative` returned.
        loss_weights
            Weight of the queries of each modality; 1 where not given.

        Returns
        -------
        ``loss``, and ``reconstruction_loss``, scvi-tools' name for the parts of a loss, with that of the queries of
        each modality; all scalars.

        Raises
        ------
        ValueError
            The minibatch has one modality or fewer than two contexts.
        """
        context = tensors["context"]
        if len(generative_outputs) < 2 or len(context) < 2:
            raise ValueError(
                f"a minibatch has {len(context)} contexts of {list(generative_outputs)}; contrastive learning compares "
                "at least two contexts that were measured in both modalities. Pass a larger n_contexts_per_minibatch, "
                "or leave other minibatches out of datamodule."
            )
        with torch.no_grad():  # not clamped in the graph, where a scale that is too large would get no gradient
            self.log_scale.clamp_(max=math.log(MAX_SCALE))
        scale = self.log_scale.exp()
        losses = {
            name: torch.stack(
                [
                    self.direction_loss(queries, keys, context, scale)
                    for other, keys in generative_outputs.items()
                    if other != name
                ]
            ).mean()
            for name, queries in generative_outputs.items()
        }
        weights = loss_weights or {}
        loss = torch.stack([weights.get(name, 1.0) * mean for name, mean in losses.items()]).mean()
        return LossOutput(loss=loss, reconstruction_loss=losses, n_obs_minibatch=len(context))


class CLIPModule(ContrastiveModule):
    """One vector per context and modality, and symmetric InfoNCE.

    Parameters
    ----------
    modalities, projection_dim, mask_ratio, temperature
        As in :class:`ContrastiveModule`.
    attention_modalities
        Modalities whose cells are pooled by attention; those of others are averaged.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        projection_dim: int,
        mask_ratio: float,
        temperature: float,
        attention_modalities: Collection[str] = (),
    ) -> None:
        super().__init__(modalities, projection_dim=projection_dim, mask_ratio=mask_ratio, temperature=temperature)
        embed_dim = self.latent_shape[1]
        self.pools = nn.ModuleDict(
            {
                name: AttentionPool(embed_dim, embed_dim) if name in attention_modalities else MeanPool()
                for name in modalities
            }
        )

    def pool(self, modality: str, cells: Tensor) -> Tensor:
        """One vector per context; shape ``(G, S, D)`` -> ``(G, D)``."""
        return cast("Tensor", self.pools[modality](cells))

    def direction_loss(self, queries: Tensor, keys: Tensor, context: Tensor, scale: Tensor) -> Tensor:
        """Loss of :func:`info_nce`; shapes ``(G, D)``, ``(G, D)`` and ``(G,)``."""
        return info_nce(queries, keys, context, scale)


class GroupCLIPModule(ContrastiveModule):
    """One vector per cell, and all cells of its context in the other modality are its positives.

    Parameters
    ----------
    modalities, projection_dim, mask_ratio, temperature
        As in :class:`ContrastiveModule`.
    within_modality_weight
        Weight of the same loss with the other cells of the query's own modality as keys.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        projection_dim: int,
        mask_ratio: float,
        temperature: float,
        within_modality_weight: float = 0.0,
    ) -> None:
        super().__init__(modalities, projection_dim=projection_dim, mask_ratio=mask_ratio, temperature=temperature)
        self.within_modality_weight = within_modality_weight

    def pool(self, modality: str, cells: Tensor) -> Tensor:
        """Every cell stays; shape ``(G, S, D)`` -> ``(G * S, D)``."""
        return cells.flatten(0, 1)

    def direction_loss(self, queries: Tensor, keys: Tensor, context: Tensor, scale: Tensor) -> Tensor:
        """Loss of :func:`group_nce`; shapes ``(G * S, D)``, ``(G * S, D)`` and ``(G,)``."""
        query_context = context.repeat_interleave(len(queries) // len(context))
        loss = group_nce(queries, keys, query_context, context.repeat_interleave(len(keys) // len(context)), scale)
        if self.within_modality_weight:
            within = group_nce(queries, queries, query_context, query_context, scale, is_self_excluded=True)
            loss = loss + self.within_modality_weight * within
        return loss
