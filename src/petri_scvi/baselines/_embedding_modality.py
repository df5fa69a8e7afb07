"""A modality of precomputed embeddings: registration, and an encoder and a decoder of a few linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from petri_scvi.modalities import Modality, ModalityField
from petri_scvi.nn import masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData


class EmbeddingField(ModalityField):
    """One vector per cell in ``obsm``."""

    def validate_field(self, adata: MuData) -> None:
        """Check that the slot holds one finite vector per cell."""
        obsm = adata.mod[self.modality].obsm
        if self.attr_key not in obsm:
            raise KeyError(
                f"embedding_keys[{self.modality!r}]={self.attr_key!r} is not in mdata[{self.modality!r}].obsm; it has "
                f"{list(obsm.keys())}. Put the embedding of a unimodal model there: "
                f"{self.where} = model.get_latent_representation(modality={self.modality!r})."
            )
        values = self.get_field_data(adata)
        if (
            not isinstance(values, np.ndarray)
            or values.ndim != 2
            or 0 in values.shape
            or values.dtype.kind not in "uif"
        ):
            found = f"a {type(values).__name__} of shape {getattr(values, 'shape', 'unknown')}"
            raise ValueError(
                f"{self.where} is {found}; expected numbers in a numpy array of shape (n_cells, n_dimensions). Convert "
                "a DataFrame with .to_numpy() and a sparse matrix with .toarray()."
            )
        n_bad = int((~np.isfinite(values)).any(axis=1).sum())
        if n_bad:
            raise ValueError(f"{self.where} has NaN or infinite values in {n_bad} of {len(values)} cells. Drop them.")

    def register_field(self, adata: MuData) -> dict:
        """Record the width, and names for the dimensions."""
        super().register_field(adata)
        n_obs, n_dimensions = self.get_field_data(adata).shape
        names = np.array([f"{self.attr_key}_{i}" for i in range(n_dimensions)])
        return {"n_obs": n_obs, "n_dimensions": n_dimensions, "column_names": names, **self.fingerprint(adata)}

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same width."""
        self.validate_field(mdata)
        n_dimensions = self.get_field_data(mdata).shape[1]
        if n_dimensions != state_registry["n_dimensions"]:
            raise ValueError(
                f"{self.where} has {n_dimensions} dimensions; the model was built for "
                f"{state_registry['n_dimensions']}. Embed the new cells with the same model as the first ones."
            )
        return self.register_field(mdata)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and dimensions."""
        return {
            f"n_{self.modality}_cells": state_registry["n_obs"],
            f"n_{self.modality}_dimensions": state_registry["n_dimensions"],
        }


class EmbeddingModality(Modality):
    """Precomputed embeddings of cells: MLP encoder and decoder, squared error of standardised dimensions.

    Parameters
    ----------
    n_dimensions
        Width of the precomputed embedding (T).
    embed_dim
        Width D of the latent; a cell has one latent token.
    hidden_dim
        Width of the hidden layers.
    n_hidden_layers
        Hidden layers of encoder and of decoder.
    """

    argument = "embedding_keys"

    def __init__(self, n_dimensions: int, embed_dim: int, hidden_dim: int, n_hidden_layers: int) -> None:
        super().__init__()
        self.encoder = _mlp(n_dimensions, hidden_dim, embed_dim, n_hidden_layers)
        self.decoder = _mlp(embed_dim, hidden_dim, n_dimensions, n_hidden_layers)
        self.n_tokens = n_dimensions
        self.latent_shape = (1, embed_dim)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(n_dimensions))
        self.register_buffer("std", torch.ones(n_dimensions))

    @classmethod
    def field_name(cls, modality: str) -> str:
        return f"embedding_{modality}"

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Set mean and standard deviation of each dimension from training cells."""
        cells = torch.cat([chunk.to(torch.float64).cpu() for chunk in chunks])
        self.mean.copy_(cells.mean(dim=0))
        std = cells.std(dim=0, correction=0)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def prepare(self, cells: Tensor) -> Tensor:
        """Standardise each dimension."""
        return (cells.float() - self.mean) / self.std

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shape ``(B, T)`` -> ``(B, 1, D)``; dimensions that are not ``visible`` are set to their mean."""
        if visible is not None:
            inputs = torch.zeros_like(inputs).scatter(1, visible, inputs.gather(1, visible))
        return self.encoder(inputs).unsqueeze(1)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict standardised dimensions; shape ``(B, 1, D)`` -> ``(B, T)``."""
        return self.decoder(latents.squeeze(1))

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error where ``mask`` is True; shape ``(B,)``."""
        return masked_mean((prediction.float() - inputs).square(), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Convert to the units of the precomputed embedding; shape ``(B, T)``."""
        return prediction.float() * self.std + self.mean


def _mlp(n_in: int, n_hidden: int, n_out: int, n_hidden_layers: int) -> nn.Sequential:
    widths = [n_in, *[n_hidden] * n_hidden_layers]
    hidden = [
        layer
        for first, second in zip(widths[:-1], widths[1:], strict=True)
        for layer in (nn.Linear(first, second), nn.LayerNorm(second), nn.GELU())
    ]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], n_out))
