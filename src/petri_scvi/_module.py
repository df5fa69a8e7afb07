"""PETRI as a scvi-tools module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn

from petri_scvi.modalities import settings_by_name
from petri_scvi.nn import SetTransformer, contrast_documents, random_masking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

    from petri_scvi.modalities import EncoderSettings, Modality, Settings

    States = Mapping[str, tuple[type[Modality], Mapping[str, Any]]]
    """Name of each registered modality to its class and what its field recorded."""


def build_module(
    states: States, settings: Settings, modality_settings: Mapping[str, Mapping[str, Any]] | None = None
) -> PETRIModule:
    """Build the modalities, and the set transformer that joins them; untrained.

    ``modality_settings`` has changes of the settings for single modalities.

    Raises
    ------
    ValueError
        An argument does not fit the data.
    """
    of_modality = settings_by_name(settings, modality_settings or {}, list(states))
    modalities = build_modalities(states, settings, of_modality)
    mask_ratios = {name: of_modality[name].mask_ratio for name in modality_settings or {}}
    check_hides_tokens(modalities, settings.mask_ratio, mask_ratios)
    set_transformer = SetTransformer(
        list(modalities), settings.embed_dim, settings.set_transformer_depth, settings.n_heads
    )
    return PETRIModule(modalities, set_transformer, settings.mask_ratio, mask_ratios)


def build_modalities(
    states: States, settings: EncoderSettings, of_modality: Mapping[str, EncoderSettings] | None = None
) -> dict[str, Modality]:
    """Build one modality for each that was registered; with decoders if the settings have those of decoders.

    ``of_modality`` has the settings of modalities that have their own.
    """
    of_modality = of_modality or {}
    return {
        name: modality_class(state, of_modality.get(name, settings)) for name, (modality_class, state) in states.items()
    }


def check_hides_tokens(
    modalities: Mapping[str, Modality], mask_ratio: float, mask_ratios: Mapping[str, float] | None = None
) -> None:
    """Require that the mask hides tokens of every modality: a modality that is never reconstructed trains nothing."""
    for name, modality in modalities.items():
        ratio = (mask_ratios or {}).get(name, mask_ratio)
        if int(modality.n_tokens * ratio) == 0:
            raise ValueError(
                f"mask_ratio={ratio} hides none of the {modality.n_tokens} tokens of a cell of {name!r}, so that "
                "it does nothing. Pass a larger mask_ratio or, for images, a smaller patch_size."
            )


class PETRIModule(BaseModuleClass):
    """Encode each cell, fuse each document and decode the masked tokens :cite:p:`PETRI2026`.

    Parameters
    ----------
    modalities
        Mapping from name to modality. A single one gives a unimodal PETRI.
    set_transformer
        Attends over the latent tokens of a document.
    mask_ratio
        Fraction of each cell's tokens that is masked in training.
    mask_ratios
        The same for modalities with another one.
    """

    without_contrastive_loss: str | None = None
    """Why the loss takes no ``contrastive_weight``, if it takes none."""

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        set_transformer: SetTransformer,
        mask_ratio: float = 0.75,
        mask_ratios: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.modalities = nn.ModuleDict(modalities)
        self.set_transformer = set_transformer
        self.mask_ratio = mask_ratio
        self.mask_ratios = dict(mask_ratios or {})

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Latent tokens per cell and their width, ``(L, D)``."""
        return self.modality(next(iter(self.modalities))).latent_shape

    def modality(self, name: str) -> Modality:
        """Encoder, decoder and loss of a modality."""
        return cast("Modality", self.modalities[name])

    def mask_ratio_of(self, name: str) -> float:
        """Fraction of the tokens of a modality that is masked in training."""
        return self.mask_ratios.get(name, self.mask_ratio)

    def networks(self) -> list[nn.Module]:
        """The parts that compute: encoders, decoders and the set transformer."""
        return [network for modality in self.modalities.values() for network in modality.children()] + [
            self.set_transformer
        ]

    def _get_inference_input(self, tensors: dict) -> dict:
        return {"cells": tensors["cells"], "n_documents": len(tensors["context"])}

    @auto_move_data
    def inference(
        self,
        cells: dict[str, Tensor],
        n_documents: int,
        *,
        is_augmented: bool = False,
        generator: Generator | Sequence[Generator] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Mask and encode every cell, then fuse each document.

        Parameters
        ----------
        cells
            Raw cells per modality, document by document, shape ``(G * S, ...)``.
        n_documents
            Number of documents (G).
        is_augmented
            Whether to augment the cells first.
        generator
            Source of the masks; torch's global one if ``None``, or one per document.

        Returns
        -------
        Per modality: ``inputs`` as prepared; positions ``visible``, shape ``(G * S, T_visible)``, ``None`` if nothing
        is masked; ``mask``, shape ``(G * S, T)``; ``latents`` before and ``fused`` after the set transformer, both
        ``(G * S, L, D)``.
        """
        inputs, latents, mask = {}, {}, {}
        visible: dict[str, Tensor | None] = {}
        for name, raw in cells.items():
            modality = self.modality(name)
            inputs[name] = modality.prepare(modality.augment(raw, generator) if is_augmented else raw)
            shape = (len(raw), modality.n_tokens)
            if mask_ratio := self.mask_ratio_of(name):
                visible[name], mask[name] = random_masking(*shape, mask_ratio, device=raw.device, generator=generator)
            else:
                visible[name], mask[name] = None, torch.zeros(shape, dtype=torch.bool, device=raw.device)
            latents[name] = modality.encode(inputs[name], visible[name])
        documents = {name: cell_latents.unflatten(0, (n_documents, -1)) for name, cell_latents in latents.items()}
        fused = {name: document.flatten(0, 1) for name, document in self.set_transformer(documents).items()}
        return {"inputs": inputs, "visible": visible, "mask": mask, "latents": latents, "fused": fused}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict) -> dict:
        return {name: inference_outputs[name] for name in ("fused", "inputs", "visible")}

    @auto_move_data
    def generative(
        self, fused: dict[str, Tensor], inputs: dict[str, Tensor], visible: dict[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Decode each modality from its fused latents; what was ``visible`` may be left out of the predictions."""
        return {
            name: self.modality(name).decode(latents, inputs[name], visible[name]) for name, latents in fused.items()
        }

    def loss(
        self,
        tensors: dict,
        inference_outputs: dict[str, dict[str, Tensor]],
        generative_outputs: dict[str, Tensor],
        loss_weights: Mapping[str, float] | None = None,
        contrastive_weight: float = 0.0,
    ) -> LossOutput:
        """Weighted sum over modalities of the mean loss of the masked tokens; a contrastive loss is added on demand.

        Parameters
        ----------
        tensors
            The minibatch.
        inference_outputs, generative_outputs
            What :meth:`inference` and :meth:`generative` returned.
        loss_weights
            Weight per modality; 1 where not given.
        contrastive_weight
            Weight of the loss that tells documents apart across modalities; the paper has none.

        Returns
        -------
        ``loss``, ``reconstruction_loss`` with the unweighted mean of each modality and, if it has a weight and there
        are two modalities, ``extra_metrics["contrastive_loss"]``; all scalars.
        """
        losses = {
            name: self.modality(name)
            .loss(prediction, inference_outputs["inputs"][name], inference_outputs["mask"][name])
            .mean()
            for name, prediction in generative_outputs.items()
        }
        weights = loss_weights or {}
        loss = sum(weights.get(name, 1.0) * mean for name, mean in losses.items())
        extra = {}
        if contrastive_weight and len(inference_outputs["latents"]) > 1:
            context = torch.as_tensor(tensors["context"], device=self.device)
            extra["contrastive_loss"] = contrast_documents(inference_outputs["latents"], context)
            loss = loss + contrastive_weight * extra["contrastive_loss"]
        n_documents = len(tensors["context"])
        return LossOutput(loss=loss, reconstruction_loss=losses, n_obs_minibatch=n_documents, extra_metrics=extra)

    @auto_move_data
    def encode(self, modality: str, cells: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents of raw cells, outside training.

        Parameters
        ----------
        modality
            Name of the modality.
        cells
            Raw cells, shape ``(B, ...)``.
        mask
            True where a token is masked, shape ``(B, T)``; rows may mask different numbers. ``None`` masks nothing.

        Returns
        -------
        Latents, shape ``(B, L, D)``.
        """
        network = self.modality(modality)
        inputs = network.prepare(cells)
        if mask is None:
            return network.encode(inputs)
        latents = torch.empty(len(cells), *network.latent_shape, device=cells.device)
        n_visible = (~mask).sum(dim=1)
        for n in n_visible.unique():  # cells with equally many visible tokens form a dense tensor
            rows = (n_visible == n).nonzero().squeeze(1)
            visible = (~mask[rows]).nonzero()[:, 1].reshape(len(rows), -1)
            latents[rows] = network.encode(inputs[rows], visible).float()
        return latents

    def sample(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not available: PETRI has no generative distribution over cells to draw from."""
        raise NotImplementedError("PETRI reconstructs masked tokens; it does not generate cells.")
