"""Dimensions of a sparse code that are active in several modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._constants import SAE_KEY
from petri_scvi.tl._results import data_to_change, write_result

from ._activations import activity, find_codes, is_within, named_slots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

RESULT = "multimodal_dimensions"


def multimodal_dimensions(
    data: AnnData | MuData,
    keys: str | Sequence[str] | Mapping[str, str] = SAE_KEY,
    *,
    min_activity: float = 0.1,
    max_activity: float = 0.9,
    modality_key: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Find the dimensions that are active in some, and not in all, cells of every modality :cite:p:`PETRI2026`.

    Parameters
    ----------
    data
        Cells of at least two modalities.
    keys
        ``obsm`` slot of activations that :func:`petri_scvi.tl.fit_sae` wrote; or several, to be compared; or a
        dictionary from the name of a model to its slot, for example
        ``{"PETRI": "X_sae", "permuted": "X_sae_permuted", "CLIP": "X_sae_clip"}``.
    min_activity, max_activity
        A dimension is multimodal if the share of cells that activate it is in this range, ends included, in every
        modality.
    modality_key
        ``obs`` column that names the modality, for an AnnData.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["multimodal_dimensions"]``.

    - ``table``: one row per model and dimension: ``model``, ``dimension``, ``activity_`` and the name of each modality
      (share of its cells), ``is_multimodal``.
    - ``summary``: one row per model: ``model``, ``key``, ``n_dimensions``, ``n_alive`` (active in any cell),
      ``n_within_`` and the name of each modality (in the range there), ``n_multimodal``, and ``n_expected``, how many
      would be multimodal if being in the range in one modality said nothing about another.
    - ``parameters``.

    Raises
    ------
    KeyError
        No autoencoder has been fitted, or a column is missing.
    ValueError
        There are fewer than two modalities, the slot does not hold activations, or a number is out of range.

    Warns
    -----
    UserWarning
        Activations of some cells are NaN or infinite; these cells are left out.

    Notes
    -----
    A multimodal dimension is active in both modalities, which does not imply that it means the same in both: if the
    modalities overlap completely in the embedding, all dimensions are multimodal. Compare with a model whose contexts
    were permuted and with ``n_expected``, and test the meaning with :func:`petri_scvi.tl.dimension_agreement`.
    """
    data = data_to_change(data, copy)
    slot_of = named_slots(keys)
    tables, rows = [], []
    for model, key in slot_of.items():
        shares, _ = activity(find_codes(data, key, modality_key=modality_key))
        within = is_within(shares, min_activity, max_activity)
        is_multimodal = within.all(axis=1)
        table = shares.add_prefix("activity_")
        table.insert(0, "model", model)
        table.insert(1, "dimension", np.arange(len(table)))
        tables.append(table.assign(is_multimodal=is_multimodal))
        n_alive = int((shares > 0).any(axis=1).sum())
        row: dict[str, Any] = {"model": model, "key": key, "n_dimensions": len(shares), "n_alive": n_alive}
        row |= {f"n_within_{name}": int(within[name].sum()) for name in within}
        row["n_multimodal"] = int(is_multimodal.sum())
        row["n_expected"] = float(n_alive * np.prod(within.sum() / max(n_alive, 1)))
        rows.append(row)
    result = {"table": pd.concat(tables, ignore_index=True), "summary": pd.DataFrame(rows)}
    parameters: dict[str, Any] = {"models": list(slot_of), "keys": list(slot_of.values())}
    parameters |= {"min_activity": min_activity, "max_activity": max_activity, "modality_key": modality_key}
    write_result(data, RESULT, result, parameters)
    return data if copy else None
