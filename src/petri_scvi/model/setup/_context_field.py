"""How PETRI registers the contexts of an unpaired MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._checks import check_context
from petri_scvi.common import joined_columns
from petri_scvi.modalities import ModalityField

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

CODES_COLUMN = "_scvi_petri_context"
"""``obs`` column with the context code of each cell; scvi-tools prefixes such columns with ``_scvi``."""
CONTEXT_SEPARATOR = " | "
"""Between the labels of several columns in the name of a context."""


class ContextField(ModalityField):
    """Context of each cell, as codes of one code book that all modalities share.

    Per-modality code books would give one code to different perturbations.

    Parameters
    ----------
    modality
        Key of ``mdata.mod``.
    context_key
        ``obs`` columns that together define the context.
    modalities
        All modalities that share the code book.
    """

    def __init__(self, modality: str, context_key: Sequence[str], modalities: Sequence[str]) -> None:
        super().__init__(f"context_{modality}", modality, "obs", CODES_COLUMN)
        self.context_key = tuple(context_key)
        self.modalities = tuple(modalities)

    def validate_field(self, adata: MuData) -> None:
        """Check that every cell has a context."""
        check_context(adata, self.modality, self.context_key)

    def register_field(self, adata: MuData) -> dict:
        """Number the contexts of all modalities in alphabetical order."""
        super().register_field(adata)
        return self._encode(adata, [])

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Keep the known codes and append new contexts: a new screen has new perturbations."""
        where, obs = f"mdata[{self.modality!r}].obs", mdata.mod[self.modality].obs
        if missing := [key for key in self.context_key if key not in obs]:
            raise KeyError(
                f"{where} lacks {missing}, the context of the model; it has {list(obs)}. Rename the column that has "
                f"the contexts. If they are not known, write {where}[{missing[0]!r}] = 'unknown': the embedding of a "
                "cell does not depend on its context."
            )
        self.validate_field(mdata)
        return self._encode(mdata, list(state_registry["categories"]))

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of contexts this modality was measured in."""
        return {f"n_{self.modality}_contexts": state_registry["n_contexts"]}

    def labels(self, mdata: MuData, modality: str) -> pd.Series:
        """Context of each cell of a modality, as text."""
        return joined_columns(mdata.mod[modality].obs[list(self.context_key)], CONTEXT_SEPARATOR)

    def _encode(self, mdata: MuData, known: list[str]) -> dict:
        present = [m for m in self.modalities if m in mdata.mod and mdata.mod[m].n_obs > 0]
        for modality in present:
            check_context(mdata, modality, self.context_key)
        found = set().union(*(self.labels(mdata, modality).unique() for modality in present))
        categories = known + sorted(found - set(known))
        labels = self.labels(mdata, self.modality)
        codes = pd.Categorical(labels, categories=categories).codes.astype(np.int64)
        mdata.mod[self.modality].obs[CODES_COLUMN] = codes
        return {
            "categories": categories,
            "n_contexts": len(np.unique(codes)),
            "context_key": list(self.context_key),
            **self.fingerprint(mdata),
        }


def context_codes(manager: AnnDataManager, modality: str) -> NDArray[np.integer]:
    """Context code of each cell of a modality, shape ``(n,)``.

    Raises
    ------
    ValueError
        The labels of contexts are no longer those that were registered.
    """
    if has_other_labels(manager, modality):
        columns = list(manager.get_state_registry(f"context_{modality}")["context_key"])
        raise ValueError(
            f"mdata[{modality!r}].obs[{columns}] has changed since it was registered, so it is not known which cells "
            "share a context. Put the registered labels back and keep new ones in another column, or call "
            "setup_mudata(mdata) again and make a new model."
        )
    return registered_codes(manager, modality)


def has_other_labels(manager: AnnDataManager, modality: str) -> bool:
    """Whether the columns that define contexts have changed since they were registered; they may have been deleted."""
    state, obs = manager.get_state_registry(f"context_{modality}"), manager.adata.mod[modality].obs
    columns = list(state["context_key"])
    if not all(column in obs for column in columns):
        return False
    known = np.asarray(state["categories"], dtype=object)[registered_codes(manager, modality)]
    return bool((joined_columns(obs[columns], CONTEXT_SEPARATOR).to_numpy() != known).any())


def registered_codes(manager: AnnDataManager, modality: str) -> NDArray[np.integer]:
    """Context code of each cell, whatever its labels are by now."""
    return manager.get_from_registry(f"context_{modality}").reshape(-1)
