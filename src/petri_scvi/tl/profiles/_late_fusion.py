"""Join profiles of different embeddings or modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._groups import pass_on_record
from petri_scvi.common import split_labels
from petri_scvi.common._labels import as_text
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice
from petri_scvi.tl._results import write_result
from petri_scvi.tl._similarity import read_vectors, unit_rows

from ._aggregate import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

Fusion = Literal["concatenate", "mean_embedding", "mean_cosine", "max_cosine"]
FUSIONS = ("concatenate", "mean_embedding", "mean_cosine", "max_cosine")
SIMILARITY_KEY = "similarity"


def late_fusion(profiles: Sequence[AnnData], method: Fusion) -> AnnData:
    """Join profiles of the same guides or genes from several embeddings.

    Parameters
    ----------
    profiles
        Two or more tables of profiles, from :func:`petri_scvi.tl.aggregate_profiles`. Rows are matched by name; only
        those in every table are kept.
    method
        - ``"concatenate"``: dimensions side by side, as they are, so the longer vector counts more.
        - ``"mean_embedding"``: mean of the vectors; only for vectors of one space.
        - ``"mean_cosine"``: the cosine of the result is the mean of the cosines of the parts.
        - ``"max_cosine"``: the similarity of two profiles is the largest of their cosines.

    Returns
    -------
    Profiles with the ``obs`` of the first table. ``X`` has the joined vectors; for ``"max_cosine"``, which has none,
    ``X`` is empty and ``obsp["similarity"]`` has the similarities: pass ``similarity_key="similarity"`` to the function
    that scores them. ``uns["petri_scvi"]["late_fusion"]`` has the parameters.

    Raises
    ------
    ValueError
        There are fewer than two tables, names repeat, no row is in all tables, a row targets another gene in another
        table, or vectors to be averaged differ in length.

    Warns
    -----
    UserWarning
        Rows are left out because they are not in every table.
    """
    check_choice("method", method, FUSIONS)
    tables = [profiles] if isinstance(profiles, AnnData) else list(profiles)
    if len(tables) < 2 or not all(isinstance(table, AnnData) for table in tables):
        raise ValueError(f"pass a list of two or more AnnData, found {[type(table).__name__ for table in tables]}")
    for table in tables:
        if not table.obs_names.is_unique:
            raise ValueError("obs_names of profiles repeat; rows are matched by name, so make them unique first")
    names = tables[0].obs_names[np.all([tables[0].obs_names.isin(t.obs_names) for t in tables], axis=0)]
    n_all = len(pd.Index(np.concatenate([t.obs_names for t in tables])).unique())
    if len(names) == 0:
        raise ValueError(
            f"no row is in all {len(tables)} tables: the first has {tables[0].obs_names[:3].tolist()}, the second "
            f"{tables[1].obs_names[:3].tolist()}. Use the same names in all tables, as aggregate_profiles does."
        )
    if len(names) < n_all:
        warn(f"{n_all - len(names)} of {n_all} profiles are not in every table; they are left out")
    _check_targets([table.obs.loc[names] for table in tables])
    vectors = [read_vectors(table)[table.obs_names.get_indexer(names)] for table in tables]
    if method == "mean_embedding" and len({v.shape[1] for v in vectors}) > 1:
        raise ValueError(
            f"vectors have {[v.shape[1] for v in vectors]} dimensions, so they cannot be averaged. Use 'concatenate', "
            "'mean_cosine' or 'max_cosine'."
        )
    obs = tables[0].obs.loc[names].copy()
    fused = _fuse(vectors, obs, method)
    write_result(fused, "late_fusion", {}, {"method": method, "n_tables": len(tables)})
    pass_on_record(tables, fused)
    return fused


def split_modalities(profiles: AnnData) -> list[AnnData]:
    """One table per layer, with the rows that have a profile in it."""
    parts = []
    for name in (layer for layer in profiles.layers if layer is not None):
        is_seen = profiles.obs["modalities"].map(lambda joined, n=name: n in split_labels(joined, SEPARATOR))
        part = profiles[is_seen.to_numpy()]
        parts.append(AnnData(X=read_vectors(part, name), obs=part.obs.copy()))
    return parts


def _check_targets(tables: list[pd.DataFrame]) -> None:
    """Require that rows of one name target one gene; numbered guides of different genes may share a name."""
    targets = pd.DataFrame({i: as_text(obs["target_gene"]) for i, obs in enumerate(tables) if "target_gene" in obs})
    differ = targets[targets.nunique(axis=1) > 1]
    if len(differ):
        raise ValueError(
            f"{len(differ)} of {len(targets)} profiles have another target_gene in another table, for example "
            f"{differ.index[0]!r}: {list(differ.iloc[0])}. Name guides so that no two genes share one, for example "
            "obs['guide'] = obs['target_gene'].astype(str) + '_' + obs['guide'].astype(str), in every modality."
        )


def _fuse(vectors: list[np.ndarray], obs: pd.DataFrame, method: Fusion) -> AnnData:
    if method == "concatenate":
        return AnnData(X=np.hstack(vectors), obs=obs)
    if method == "mean_embedding":
        return AnnData(X=np.mean(vectors, axis=0), obs=obs)
    units = [unit_rows(v) for v in vectors]
    if method == "mean_cosine":
        return AnnData(X=np.hstack(units) / np.sqrt(len(units)), obs=obs)
    largest = np.max([unit @ unit.T for unit in units], axis=0)
    return AnnData(obs=obs, obsp={SIMILARITY_KEY: largest})
