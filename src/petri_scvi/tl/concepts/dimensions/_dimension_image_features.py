"""Image features that correlate with a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import rankdata

from petri_scvi._checks import check_different, check_sizes
from petri_scvi._constants import IMAGE, SAE_KEY
from petri_scvi.common._numbers import check_numbers
from petri_scvi.tl._results import adjust, data_to_change, write_result
from petri_scvi.tl.concepts._image_features import FEATURES_KEY

from ._activations import activations_of
from ._correlation import MIN_CELLS, Strata, correlation_p_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._activations import Activations


def dimension_image_features(
    data: AnnData | MuData,
    key: str = SAE_KEY,
    *,
    features_key: str = FEATURES_KEY,
    modality: str = IMAGE,
    batch_key: str | None = None,
    min_cells: int = MIN_CELLS,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Correlate each dimension of an embedding with each measured image feature (Spearman).

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the activations, sparse or dense, shape ``(n_cells, D)``; of a sparse autoencoder, or any
        embedding.
    features_key
        ``obsm`` slot of the imaging modality with the features, a DataFrame or an array, for example what
        :func:`petri_scvi.tl.image_features` measured. Cells without any feature are left out.
    modality
        Modality of a MuData that has the features.
    batch_key
        ``obs`` column of a group, such as the batch, whose mean rank is removed first: staining differs between
        batches, so a dimension that distinguishes batches would correlate with it. By default nothing is removed.
    min_cells
        A dimension is tested if its activation is not zero in this many cells, and a feature if it is defined in as
        many.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_image_features_" + key]``: ``table``, one row per
    tested pair, sorted by dimension and strength: ``dimension``, ``feature``, ``correlation`` (-1 to 1), ``n_cells``,
    ``p_value`` (two-sided, from Student's distribution), ``q_value`` (Benjamini-Hochberg over all pairs);
    ``n_dimensions``; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        No dimension and no feature can be tested.
    """
    data = data_to_change(data, copy)
    check_sizes(min_cells=min_cells)
    activations = activations_of(data, key, modality)
    adata = activations.adata
    if features_key not in adata.obsm:
        raise KeyError(
            f"features_key={features_key!r} is not in obsm of the imaging modality, which has {sorted(adata.obsm)}. "
            "Call petri_scvi.tl.image_features(mdata) first."
        )
    features = _features(adata, features_key)
    values = features.to_numpy(dtype=np.float64, na_value=np.nan)[activations.rows]
    values[~np.isfinite(values)] = np.nan
    parts = [
        _correlate(activations, values[:, columns], columns, is_defined, batch_key, min_cells)
        for columns, is_defined in _alike(values)
        if is_defined.sum() >= max(min_cells, 3)
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"p_value": []})
    if len(table) == 0:
        raise ValueError(
            f"no dimension of obsm[{key!r}] and no feature of obsm[{features_key!r}] have min_cells={min_cells} cells "
            f"in common: {int((~np.isnan(values)).any(axis=1).sum())} of {len(values)} cells have features. Measure "
            "more cells, by max_cells of petri_scvi.tl.image_features, or pass a smaller min_cells."
        )
    table["q_value"] = adjust(table["p_value"].to_numpy())
    order = np.lexsort([-table["correlation"].abs(), table["dimension"]])
    table = table.iloc[order].reset_index(drop=True)
    names = [str(name) for name in features.columns]
    table["feature"] = pd.Categorical.from_codes(table["feature"].to_numpy(), categories=names)
    parameters: dict[str, Any] = {"key": key, "features_key": features_key, "modality": modality}
    parameters |= {"batch_key": batch_key, "min_cells": min_cells}
    result = {"table": table, "n_dimensions": activations.n_dimensions}
    write_result(data, f"dimension_image_features_{key}", result, parameters)
    return data if copy else None


def _features(adata: AnnData, key: str) -> pd.DataFrame:
    """Measurements of all cells, each with a unique name."""
    found, where = adata.obsm[key], f"obsm[{key!r}]"
    check_numbers(found, where)
    features = pd.DataFrame(found.toarray() if sparse.issparse(found) else found)
    check_different(features.columns, f"features in {where}", "Rename or drop all but one of each")
    return features


def _alike(values: NDArray[np.float64]) -> list[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Columns that are defined in the same cells, and these cells: they can be ranked together."""
    is_defined = ~np.isnan(values)
    patterns, group = np.unique(is_defined, axis=1, return_inverse=True)
    group = group.ravel()
    return [(np.flatnonzero(group == i), patterns[:, i]) for i in range(patterns.shape[1])]


def _correlate(
    activations: Activations,
    values: NDArray[np.float64],
    columns: NDArray[np.intp],
    is_defined: NDArray[np.bool_],
    batch_key: str | None,
    min_cells: int,
) -> pd.DataFrame:
    """All pairs of the dimensions with some features, in the cells where these are defined."""
    rows = np.flatnonzero(is_defined)
    strata = Strata(activations.adata, batch_key, activations.rows[rows])
    ranks = _unit_ranks(values[rows], strata)  # (n, n_features)
    matrix = activations.matrix[rows]
    tested = np.flatnonzero(np.asarray((matrix != 0).sum(axis=0)).ravel() >= min_cells)
    found = [
        _unit_ranks(block, strata).T @ ranks for _, block in activations.blocks(tested, rows)
    ]  # each (d, n_features)
    correlation = np.concatenate(found).ravel() if found else np.zeros(0)
    table = pd.DataFrame(
        {
            "dimension": np.repeat(tested, len(columns)).astype(np.int32),
            "feature": np.tile(columns, len(tested)).astype(np.int32),
            "correlation": np.clip(correlation, -1, 1).astype(np.float32),
            "n_cells": np.full(len(correlation), len(rows), dtype=np.int32),
            "p_value": correlation_p_values(np.clip(correlation, -1, 1), strata.freedom),
        }
    )
    return table[table["p_value"].notna()]


def _unit_ranks(values: NDArray[np.floating[Any]], strata: Strata) -> NDArray[np.float64]:
    """Centred ranks of unit length, so that a product is a correlation; NaN if all are equal."""
    ranks = rankdata(values, axis=0)
    strata.center(ranks)
    length = np.sqrt(np.square(ranks).sum(axis=0))
    return ranks / np.where(length > 1e-6, length, np.nan)
