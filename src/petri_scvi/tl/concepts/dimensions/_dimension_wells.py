"""Prediction of the well or batch from single dimensions of a sparse code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import track
from scipy import sparse
from scipy.stats import mannwhitneyu
from sklearn.model_selection import StratifiedKFold

from petri_scvi._checks import check_sizes
from petri_scvi._constants import SAE_KEY
from petri_scvi.common import in_markup
from petri_scvi.tl._arguments import check_folds
from petri_scvi.tl._embedding import MODALITY, subsample
from petri_scvi.tl._read_rows import canonical
from petri_scvi.tl._results import data_to_change, write_result
from petri_scvi.tl.scores._probe import frequent_classes

from ._activations import activity, find_codes, is_within

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

N_LEVELS = 10
"""Number of quantiles of the activation of active cells; inactive cells are a separate level."""
MIN_ACTIVE = 10
"""The AUC of a dimension that fewer cells activate is NaN."""


def dimension_wells(
    data: AnnData | MuData,
    key: str = SAE_KEY,
    *,
    obs_key: str = "well",
    min_activity: float = 0.1,
    max_activity: float = 0.9,
    modality_key: str | None = None,
    n_folds: int = 5,
    max_cells: int = 10_000,
    seed: int = 0,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Predict the well or batch from each dimension, and compare multimodal dimensions with others :cite:p:`PETRI2026`.

    Parameters
    ----------
    data
        Cells of at least two modalities.
    key
        ``obsm`` slot of activations that :func:`petri_scvi.tl.fit_sae` wrote.
    obs_key
        ``obs`` column to predict, for example ``"well"`` or ``"batch"``; each modality is predicted separately.
    min_activity, max_activity, modality_key
        As in :func:`petri_scvi.tl.multimodal_dimensions`.
    n_folds
        Folds of the cross-validation, by cell.
    max_cells
        Use at most this many cells of each modality.
    seed
        Seed of the choice of cells and of the folds.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_wells_" + key + "_" + obs_key]``.

    - ``table``: one row per modality and dimension: ``modality``, ``dimension``, ``activity`` (share of the modality's
      cells), ``is_multimodal``, and ``auc`` in held-out cells, one class against the rest, mean over classes and folds;
      0.5 is chance. It is NaN for a dimension that fewer than 10 of the cells activate.
    - ``summary``: two rows per modality, in which multimodal dimensions are compared with ``other``: ``"all"`` other
      dimensions, or those that are ``"as_active"`` in this modality, that is, in the same range. ``n_multimodal``,
      ``n_other``, ``median_multimodal``, ``median_other``, ``share_larger`` (chance that a multimodal dimension has the
      larger AUC; ties count half) and ``p_value`` of the rank test of :cite:t:`Mann1947`, two-sided, NaN if one of the
      groups is empty.
    - ``parameters``.

    Raises
    ------
    KeyError
        No autoencoder has been fitted, or a column is missing.
    ValueError
        There are fewer than two modalities, fewer than two classes have ``n_folds`` cells, or a number is out of range.

    Warns
    -----
    UserWarning
        Classes have fewer cells than there are folds, or activations of some cells are NaN or infinite; these cells are
        left out.

    Notes
    -----
    The classifier is naive Bayes on 11 levels of one dimension: inactive, and ten quantiles of the active cells. Rarely
    active dimensions cannot predict much, whatever they mean, so the fair comparison is the one with dimensions that
    are as active.
    """
    data = data_to_change(data, copy)
    check_sizes(max_cells=max_cells)
    check_folds(n_folds)
    slots = find_codes(data, key, [obs_key], modality_key=modality_key)
    shares, _ = activity(slots)
    within = is_within(shares, min_activity, max_activity)
    is_multimodal = within.all(axis=1).to_numpy()
    tables, rows = [], []
    for name in shares:
        codes, labels = _cells_of(slots, str(name), obs_key, n_folds, max_cells, seed)
        folds = np.empty(len(labels), dtype=np.intp)
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
            folds[held_out] = fold
        dimensions = track(range(len(shares)), in_markup(f"Predicting {obs_key}, {name}"), disable=not progress)
        auc = np.array([auc_of_dimension(codes, dimension, labels, folds) for dimension in dimensions])
        table = pd.DataFrame({"modality": name, "dimension": np.arange(len(shares)), "activity": shares[name]})
        tables.append(table.assign(is_multimodal=is_multimodal, auc=auc))
        others = {"all": ~is_multimodal, "as_active": ~is_multimodal & within[name].to_numpy()}
        rows += [
            {"modality": name, "other": other} | _compare(auc[is_multimodal], auc[is_other])
            for other, is_other in others.items()
        ]
    result = {"table": pd.concat(tables, ignore_index=True), "summary": pd.DataFrame(rows)}
    parameters: dict[str, Any] = {"key": key, "obs_key": obs_key, "min_activity": min_activity, "seed": seed}
    parameters |= {"max_activity": max_activity, "modality_key": modality_key, "n_folds": n_folds}
    write_result(data, f"dimension_wells_{key}_{obs_key}", result, parameters | {"max_cells": max_cells})
    return data if copy else None


def auc_of_dimension(
    codes: sparse.csc_matrix, dimension: int, labels: NDArray[np.intp], folds: NDArray[np.intp]
) -> float:
    """Area under the curve in held-out cells, mean over classes and folds.

    As with scikit-learn's ``CategoricalNB`` and ``roc_auc_score``, from the counts of classes at each level: a screen
    has tens of thousands of such fits.
    """
    column = slice(codes.indptr[dimension], codes.indptr[dimension + 1])
    rows, values = codes.indices[column], codes.data[column]
    if len(rows) < MIN_ACTIVE:
        return float("nan")
    edges = np.unique(np.quantile(values, np.arange(1, N_LEVELS) / N_LEVELS))
    level = np.zeros(len(labels), dtype=np.intp)
    level[rows] = 1 + np.searchsorted(edges, values, side="right")
    shape = (folds.max() + 1, labels.max() + 1, len(edges) + 2)
    cell = np.ravel_multi_index((folds, labels, level), shape)
    held_out = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)  # (folds, classes, levels)
    fitted = held_out.sum(axis=0) - held_out
    of_class = fitted.sum(axis=2, keepdims=True)
    joint = of_class * (fitted + 1) / (of_class + shape[2])
    score = joint / joint.sum(axis=1, keepdims=True)
    rest = held_out.sum(axis=1, keepdims=True) - held_out
    wins = np.sign(score[..., :, None] - score[..., None, :]) / 2 + 0.5  # (folds, classes, levels, levels)
    won = np.einsum("fca,fcab,fcb->fc", held_out, wins, rest)
    return float(np.mean(won / (held_out.sum(axis=2) * rest.sum(axis=2))))


def _cells_of(
    slots: list[Slot], name: str, obs_key: str, n_folds: int, max_cells: int, seed: int
) -> tuple[sparse.csc_matrix, NDArray[np.intp]]:
    """Activations of some labelled cells of a modality, by column, and the number of their class."""
    slot = next(slot for slot in slots if (slot.cells[MODALITY] == name).any())
    cells = slot.cells
    rows = np.flatnonzero(((cells[MODALITY] == name) & cells[obs_key].notna()).to_numpy())
    rows = subsample(rows, max_cells, np.random.default_rng(seed))
    rows, labels = frequent_classes(rows, cells[obs_key].iloc[rows].to_numpy(dtype=np.str_), n_folds, obs_key)
    array = slot.array[rows] if sparse.issparse(slot.array) else slot.take(rows)
    codes = canonical(sparse.csc_matrix(array))
    codes.eliminate_zeros()
    return codes, np.unique(labels, return_inverse=True)[1]


def _compare(multimodal: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    multimodal, other = multimodal[~np.isnan(multimodal)], other[~np.isnan(other)]
    result: dict[str, float] = {"n_multimodal": len(multimodal), "n_other": len(other)}
    result["median_multimodal"] = float(np.median(multimodal)) if len(multimodal) else float("nan")
    result["median_other"] = float(np.median(other)) if len(other) else float("nan")
    if len(multimodal) == 0 or len(other) == 0:
        return result | {"share_larger": float("nan"), "p_value": float("nan")}
    test = mannwhitneyu(multimodal, other)
    share_larger = float(test.statistic / (len(multimodal) * len(other)))
    return result | {"share_larger": share_larger, "p_value": float(test.pvalue)}
