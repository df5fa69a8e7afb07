"""Where each cell lies on the map."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from petri_scvi.common._warn import warn
from petri_scvi.tl._read_rows import chosen_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._cells import Cells

N_NEIGHBORS = 15
MIN_CELLS = 16
"""Of fewer cells there is no neighbourhood to draw; their first two dimensions are shown."""


def find_space(data: AnnData | MuData, key: str, basis: str) -> tuple[AnnData | MuData, str | None]:
    """Where the map or the embedding is: the data or, if only one modality has it, that modality with its name."""
    if not isinstance(data, AnnData | MuData):
        raise TypeError(f"expected an AnnData or a MuData, found {type(data).__name__}")
    for slot in (basis, key):
        if slot in data.obsm:
            return data, None
    if isinstance(data, AnnData):
        raise KeyError(
            f"obsm has neither {basis!r} nor key={key!r}; it has {sorted(data.obsm)}. Store the embedding first, for "
            f"example adata.obsm[{key!r}] = model.get_latent_representation()."
        )
    for slot in (basis, key):
        holders = [name for name, part in data.mod.items() if slot in part.obsm]
        if len(holders) > 1:
            raise ValueError(
                f"modalities {holders} each have their own obsm[{slot!r}], so their cells have no common map. Show one "
                f"modality with mdata[{holders[0]!r}], or store one embedding of all: mdata.obsm[{key!r}] = ..."
            )
        if holders:
            return data.mod[holders[0]], str(holders[0])
    found = {name: sorted(part.obsm) for name, part in data.mod.items()}
    raise KeyError(
        f"neither {basis!r} nor key={key!r} is in mdata.obsm, which has {sorted(set(data.obsm) - set(data.mod))}, nor "
        f"in {found}. Store the embedding first, for example mdata.obsm[{key!r}] = model.get_latent_representation()."
    )


def coordinates(
    cells: Cells, key: str, basis: str, seed: int, advance: Callable[[float, str], None]
) -> NDArray[np.float64]:
    """Two coordinates per cell, NaN where it has none; ``advance`` is told the share that is done and what comes."""
    if basis in cells.data.obsm:
        points = _rows(cells.data.obsm[basis], cells.places, basis)
        if points.shape[1] < 2:
            raise ValueError(f"obsm[{basis!r}] has shape {points.shape}; expected two coordinates per cell")
        _warn_other_embedding(cells.data, key, basis)
        return points[:, :2]
    vectors = _rows(cells.data.obsm[key], cells.places, key)
    is_finite = np.isfinite(vectors).all(axis=1)
    points = np.full((len(vectors), 2), np.nan)
    points[is_finite] = umap_of(vectors[is_finite], seed, advance)
    return points


def umap_of(
    vectors: NDArray[np.floating[Any]], seed: int, advance: Callable[[float, str], None]
) -> NDArray[np.float64]:
    """UMAP of rows, by scanpy; their first two dimensions if there are too few."""
    if len(vectors) < MIN_CELLS:
        padded = np.zeros((len(vectors), 2))
        padded[:, : min(2, vectors.shape[1])] = vectors[:, :2]
        return padded
    table = AnnData(np.ascontiguousarray(vectors, dtype=np.float32))
    with warnings.catch_warnings():
        # umap-learn warns that a seed makes it run on one core: wanted, so that a map is the same each time.
        warnings.simplefilter("ignore")
        advance(0.0, f"Finding neighbours of {len(vectors):,} cells")
        sc.pp.neighbors(table, n_neighbors=N_NEIGHBORS, use_rep="X", random_state=seed)
        advance(0.3, f"Making a UMAP of {len(vectors):,} cells")
        sc.tl.umap(table, random_state=seed)
    return np.asarray(table.obsm["X_umap"], dtype=np.float64)


def _rows(array: Any, rows: NDArray[np.intp], key: str) -> NDArray[np.float64]:
    """Chosen rows of whatever an ``obsm`` can hold."""
    if len(array.shape) != 2 or 0 in array.shape:
        raise ValueError(f"obsm[{key!r}] has shape {tuple(array.shape)}; expected (n_cells, D), one vector per cell")
    return chosen_rows(array, rows)


def _warn_other_embedding(data: AnnData | MuData, key: str, basis: str) -> None:
    """Warn if scanpy recorded that its neighbours, which a UMAP is made of, come from another embedding."""
    made_from = data.uns.get("neighbors", {}).get("params", {}).get("use_rep")
    if basis == "X_umap" and key in data.obsm and made_from not in (None, "X", key):
        warn(
            f"obsm['X_umap'] was probably made from {made_from!r}, not from key={key!r}; it is shown as it is. Pass "
            f"basis='X_umap_{key}' for a new one, or key={made_from!r}."
        )
