"""Mixing of groups of cells in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import entropy
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from petri_scvi._checks import check_sizes
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, find_slots, finite_rows, subsample
from petri_scvi.tl._results import data_to_change, write_result

if TYPE_CHECKING:
    from mudata import MuData

COMPARED = "modality"
"""Value of ``obs_key`` that compares modalities."""


def mixing(
    data: AnnData | MuData,
    key: str = "X_petri",
    *,
    obs_key: str = COMPARED,
    n_neighbors: int = 30,
    max_cells: int = 5000,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Measure how well groups of cells, such as batches or modalities, mix in an embedding.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    obs_key
        ``obs`` column of the group; cells of each modality are compared among themselves. ``"modality"`` compares the
        modalities of a MuData, in a slot that they share.
    n_neighbors
        Neighbours per cell.
    max_cells
        Compare at most this many cells: of each modality or, for ``"modality"``, in total, the same number of each.
    seed
        Seed of the choice of cells.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["mixing_" + key + "_" + obs_key]``: ``table`` with a row per
    modality (``"all"`` if modalities are compared): ``modality``, ``n_cells``, ``n_groups``; ``entropy``, that of the
    groups among a cell's neighbours over that of all cells, mean over cells (1 if perfectly mixed, 0 if separate);
    ``silhouette``, that of scikit-learn (0 or below if mixed, 1 if separate); ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        Fewer than two groups have cells, or a number is out of range.

    Warns
    -----
    UserWarning
        Cells have NaN or infinite values and are left out.

    Notes
    -----
    A cell is not its own neighbour, and ties between equally distant cells are broken at random. Groups that differ
    because they received different perturbations are not expected to mix.
    """
    data = data_to_change(data, copy)
    check_sizes(n_neighbors=n_neighbors, max_cells=max_cells)
    rng = np.random.default_rng(seed)
    rows = []
    # A table of cells without modalities may have a column of that name.
    is_column = obs_key != COMPARED or (isinstance(data, AnnData) and obs_key in data.obs)
    for slot in find_slots(data, key, [obs_key] if is_column else []):
        cells = slot.cells
        if not is_column:
            groups = cells[MODALITY].dropna().groupby(cells[MODALITY]).groups
            smallest = min(max_cells // max(len(groups), 1), *(len(g) for g in groups.values()), len(cells))
            chosen = [subsample(np.asarray(g, dtype=np.intp), smallest, rng) for g in groups.values()]
            parts = {"all": np.sort(np.concatenate(chosen))}
        else:
            is_grouped = cells[[MODALITY, obs_key]].notna().all(axis=1)
            parts = {
                str(name): subsample(np.asarray(g, dtype=np.intp), max_cells, rng)
                for name, g in cells[is_grouped].groupby(MODALITY, sort=False).groups.items()
            }
        for name, part in parts.items():
            part = np.random.default_rng(seed).permutation(
                part
            )  # of cells that are equally near, the search takes those of the first rows
            labels = cells[obs_key if is_column else MODALITY].iloc[part].to_numpy(dtype=np.str_)
            rows.append({"modality": name} | _mixing_of(slot.take(part), labels, n_neighbors, obs_key))
    parameters: dict[str, Any] = {
        "key": key,
        "obs_key": obs_key,
        "n_neighbors": n_neighbors,
        "max_cells": max_cells,
        "seed": seed,
    }
    write_result(data, f"mixing_{key}_{obs_key}", {"table": pd.DataFrame(rows)}, parameters)
    return data if copy else None


def _mixing_of(vectors: np.ndarray, labels: np.ndarray, n_neighbors: int, obs_key: str) -> dict[str, float]:
    """Entropy and silhouette of one set of cells."""
    is_finite = finite_rows(vectors)
    if not is_finite.all():
        warn(f"{int((~is_finite).sum())} of {len(labels)} cells are NaN or infinite; they are left out")
    vectors, labels = vectors[is_finite], labels[is_finite]
    groups, codes = np.unique(labels, return_inverse=True)
    if not 2 <= len(groups) < len(labels):
        raise ValueError(
            f"{len(labels)} cells have {len(groups)} different {obs_key!r} ({groups[:5].tolist()}); pass a column with "
            "at least two groups of cells. obs_key='modality' needs a slot of the MuData that modalities share."
        )
    neighbors = NearestNeighbors(n_neighbors=min(n_neighbors, len(labels) - 1)).fit(vectors)
    nearest = neighbors.kneighbors(return_distance=False)  # (n_cells, n_neighbors), the cell itself left out
    shares = np.stack([(codes[nearest] == group).mean(axis=1) for group in range(len(groups))], axis=1)
    return {
        "n_cells": len(labels),
        "n_groups": len(groups),
        "entropy": float(entropy(shares, axis=1).mean() / entropy(np.bincount(codes) / len(codes))),
        "silhouette": float(silhouette_score(vectors, labels)),
    }
