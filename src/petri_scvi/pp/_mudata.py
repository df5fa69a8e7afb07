"""Build a MuData from unpaired modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from mudata import MuData

from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


def build_mudata(**modalities: AnnData) -> MuData:
    """Build a MuData from modalities that were measured in different cells.

    MuData treats cells with the same name as one cell. If a name occurs in several modalities, as in files whose cells
    are named "0", "1", ..., the modality is prefixed to the name of every cell.

    Parameters
    ----------
    modalities
        AnnData of each modality, for example ``image=..., rna=...``. They are not changed: a modality whose names need
        a prefix is copied shallowly and shares its arrays with the original.

    Returns
    -------
    MuData with one row per cell. Its own ``obs`` has no columns; :func:`join_obs` adds those that a plot needs.

    Raises
    ------
    ValueError
        No modality was passed, or two cells of a modality have the same name; or, since names of modalities contain a
        ``:``, two cells have the same name with the modality in front.

    Examples
    --------
    >>> mdata = petri_scvi.pp.build_mudata(image=anndata.read_h5ad("image.h5ad"), rna=anndata.read_h5ad("rna.h5ad"))
    """
    if not modalities:
        raise ValueError("no modality was passed. Call build_mudata(image=..., rna=...).")
    n_names = 0
    for name, adata in modalities.items():
        if not adata.obs_names.is_unique:
            raise ValueError(f"the obs_names of {name!r} are not unique. Call {name}.obs_names_make_unique() first.")
        n_names += adata.n_obs
    if _n_different(modalities) < n_names:
        modalities = {name: _prefixed(adata, f"{name}:") for name, adata in modalities.items()}
        if _n_different(modalities) < n_names:  # "a" with a cell "b:1", and "a:b" with a cell "1"
            raise ValueError(
                f"cells of the modalities {list(modalities)} share names, with the modality in front, too. Name the "
                "modalities without ':'."
            )
    # Columns stay in their modalities; in mdata.obs they would be missing for the cells of the other modalities.
    with columns_stay_in_modalities():
        return MuData(modalities)


def _n_different(modalities: Mapping[str, AnnData]) -> int:
    return len(set().union(*(adata.obs_names for adata in modalities.values())))


def _prefixed(adata: AnnData, prefix: str) -> AnnData:
    return with_obs(adata, adata.obs.set_axis(prefix + adata.obs_names.astype(str), axis=0))


def with_obs(adata: AnnData, obs: pd.DataFrame) -> AnnData:
    """The same cells with another ``obs``; arrays, in memory or on disk, are shared."""
    from anndata import AnnData

    # AnnData.copy() would read images that are on disk.
    changed = AnnData(
        X=adata.X,
        obs=obs,
        var=adata.var,
        uns=dict(adata.uns),
        # Since anndata 0.13, the key None stands for X, which a backed AnnData without expression cannot read.
        layers={key: adata.layers[key] for key in adata.layers if key is not None},
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
    )
    for key, value in adata.obsm.items():
        # A DataFrame has the names of the cells as its index.
        changed.obsm[key] = value.set_axis(changed.obs_names, axis=0) if isinstance(value, pd.DataFrame) else value
    if adata.raw is not None:
        changed.raw = adata.raw.to_adata()
    return changed
