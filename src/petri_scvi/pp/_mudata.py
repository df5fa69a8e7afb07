"""Put unpaired modalities together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from mudata import MuData

from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from anndata import AnnData


def build_mudata(**modalities: AnnData) -> MuData:
    """Put modalities of different cells into one MuData.

    MuData takes cells of one name for one cell. Where a name occurs in several modalities, as in files whose cells are
    named "0", "1", ..., every cell's name gets its modality as a prefix.

    Parameters
    ----------
    modalities
        AnnData of each modality, for example ``image=..., rna=...``. They are not changed; where names have to be
        changed, the modality is a shallow copy that shares its arrays.

    Returns
    -------
    The MuData, one row per cell. Its own ``obs`` has no columns; :func:`join_obs` writes them where a plot needs some.

    Raises
    ------
    ValueError
        No modality was given, or the cells of one modality share a name.

    Examples
    --------
    >>> mdata = petri_scvi.pp.build_mudata(image=anndata.read_h5ad("image.h5ad"), rna=anndata.read_h5ad("rna.h5ad"))
    """
    if not modalities:
        raise ValueError("no modality given; call build_mudata(image=..., rna=...).")
    n_names = 0
    for name, adata in modalities.items():
        if not adata.obs_names.is_unique:
            raise ValueError(f"the obs_names of {name!r} are not unique. Call {name}.obs_names_make_unique() first.")
        n_names += adata.n_obs
    if len(set().union(*(adata.obs_names for adata in modalities.values()))) < n_names:
        modalities = {name: _prefixed(adata, f"{name}:") for name, adata in modalities.items()}
    # The columns of a modality stay in the modality: pulled up, they would have gaps for the cells of the others.
    with columns_stay_in_modalities():
        return MuData(modalities)


def _prefixed(adata: AnnData, prefix: str) -> AnnData:
    return with_obs(adata, adata.obs.set_axis(prefix + adata.obs_names.astype(str), axis=0))


def with_obs(adata: AnnData, obs: pd.DataFrame) -> AnnData:
    """The same cells with another ``obs``; arrays are shared, also those that lie on disk."""
    from anndata import AnnData

    # Slot by slot: AnnData.copy() would read images that lie on disk.
    changed = AnnData(
        X=adata.X,
        obs=obs,
        var=adata.var,
        uns=dict(adata.uns),
        # From anndata 0.13 on, None is X, which a backed AnnData without expression cannot read.
        layers={key: adata.layers[key] for key in adata.layers if key is not None},
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
    )
    for key, value in adata.obsm.items():
        # Tables carry the names of the cells, too.
        changed.obsm[key] = value.set_axis(changed.obs_names, axis=0) if isinstance(value, pd.DataFrame) else value
    if adata.raw is not None:
        changed.raw = adata.raw.to_adata()
    return changed
