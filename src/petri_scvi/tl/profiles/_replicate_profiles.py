"""Profiles of guides in each replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from petri_scvi.common import joined_columns
from petri_scvi.common._labels import column_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY
from petri_scvi.tl._results import one_or_several, write_result

from ._aggregate import SEPARATOR, fold_guides, guide_profiles, one_slot, one_target_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

GROUP, REPLICATE = "\0group", "\0replicate"
"""Internal columns next to those of the user; names that no user column has."""


def replicate_profiles(
    data: AnnData | MuData,
    key: str = "X_petri_scaled_whitened",
    *,
    guide_key: str = "guide",
    target_key: str = "target_gene",
    replicate_key: str | Sequence[str] = "replicate",
    modality: str | None = None,
) -> AnnData:
    """Average the cells of each guide in each replicate, modality by modality.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    guide_key
        ``obs`` column of the guide. Cells without a guide are left out.
    target_key
        ``obs`` column of the gene the guide targets.
    replicate_key
        ``obs`` column of the replicate, or several that define it together. Modalities may use the same or different
        names for theirs.
    modality
        Use this modality of a MuData only.

    Returns
    -------
    As :func:`petri_scvi.tl.aggregate_profiles` returns, but one row per guide and replicate, with ``obs["replicate"]``.
    Most functions expect one row per guide; these rows are for :func:`petri_scvi.tl.guide_model`.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        A guide has two target genes, no cell has a guide and a replicate, or the modalities have separate slots, whose
        spaces are unrelated.

    Warns
    -----
    UserWarning
        Cells are left out because their embedding is NaN or infinite, or because they have no replicate.
    """
    replicate_keys = column_list(replicate_key, "replicate_key")
    slot = one_slot(data, key, [guide_key, target_key, *replicate_keys], modality)
    replicate = joined_columns(slot.cells[replicate_keys], " | ")
    cells = slot.cells.assign(**{REPLICATE: replicate})
    group = joined_columns(cells[[guide_key, REPLICATE]], SEPARATOR)
    is_used = group.notna()
    n_lost = int((cells[[guide_key, target_key]].notna().all(axis=1) & replicate.isna()).sum())
    if n_lost:
        warn(f"{n_lost} cells have a {guide_key!r} but no {' and '.join(replicate_keys)}; they are left out")
    is_complete = is_used & cells[[MODALITY, target_key]].notna().all(axis=1)
    if not is_complete.any():
        raise ValueError(
            f"no cell has a {guide_key!r}, a {target_key!r} and {' and '.join(map(repr, replicate_keys))}; name the "
            "columns that have them."
        )
    one_target_each(cells.loc[is_complete, guide_key], cells.loc[is_complete, target_key], guide_key, target_key)
    labelled = type(slot)(slot.owner, slot.key, slot.array, cells.assign(**{GROUP: group}))
    fold = fold_guides(labelled, GROUP, target_key)
    profiles = guide_profiles(fold, warns_one_sided=False)  # replicates of one modality are not in the other
    names = cells.assign(**{GROUP: group})[is_used].drop_duplicates(GROUP).set_index(GROUP)
    found = names.loc[profiles.obs_names, [guide_key, REPLICATE]]
    columns = {"guide": found[guide_key].to_numpy(), "replicate": found[REPLICATE].to_numpy()}
    rest = profiles.obs.drop(columns="guide")
    profiles.obs = pd.concat([pd.DataFrame(columns, index=rest.index), rest], axis=1)
    parameters: dict[str, Any] = {"key": key, "guide_key": guide_key, "target_key": target_key}
    parameters |= {"replicate_key": one_or_several(replicate_keys), "modality": modality}
    write_result(profiles, "replicate_profiles", {}, parameters)
    return profiles
