"""How embeddings that are already in ``obsm`` are registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.model import ModalityField

if TYPE_CHECKING:
    from mudata import MuData


class EmbeddingField(ModalityField):
    """One vector per cell in ``obsm``.

    Parameters
    ----------
    modality
        Key of ``mdata.mod``.
    embedding_key
        Slot in ``obsm``.
    """

    def __init__(self, modality: str, embedding_key: str) -> None:
        super().__init__(f"embedding_{modality}", modality, "obsm", embedding_key)

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
        return {"n_obs": n_obs, "n_dimensions": n_dimensions, "column_names": names}

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same width."""
        self.validate_field(mdata)
        n_dimensions = self.get_field_data(mdata).shape[1]
        if n_dimensions != state_registry["n_dimensions"]:
            raise ValueError(
                f"{self.where} has {n_dimensions} dimensions; the model was built for "
                f"{state_registry['n_dimensions']}. Embed the new cells with the model that embedded the first."
            )
        return self.register_field(mdata)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and dimensions."""
        return {
            f"n_{self.modality}_cells": state_registry["n_obs"],
            f"n_{self.modality}_dimensions": state_registry["n_dimensions"],
        }
