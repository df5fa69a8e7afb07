"""Linear and nearest-neighbour probes of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from petri_scvi._checks import check_sizes
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice, check_folds
from petri_scvi.tl._embedding import MODALITY, find_slots, finite_rows, subsample
from petri_scvi.tl._results import data_to_change, write_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

MAX_ITERATIONS = 1000


def probe(
    data: AnnData | MuData,
    key: str = "X_petri",
    *,
    obs_key: str,
    method: Literal["linear", "knn"] = "linear",
    n_folds: int = 5,
    n_neighbors: int = 15,
    max_cells: int = 10_000,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Predict an ``obs`` column from an embedding, scored on held-out cells.

    Parameters
    ----------
    data
        Cells. In a MuData each modality is probed on its own.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    obs_key
        ``obs`` column to predict, for example ``"well"``, ``"batch"`` or ``"perturbation"``. Columns of floats are
        regressed, all others, categories of floats among them, classified.
    method
        ``"linear"``: logistic or ridge regression on standardised dimensions. ``"knn"``: nearest neighbours.
    n_folds
        Folds of the cross-validation, by cell.
    n_neighbors
        Neighbours of ``method="knn"``.
    max_cells
        Use at most this many cells per modality.
    seed
        Seed of the choice of cells and of the folds.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["probe_" + key + "_" + obs_key + "_" + method]``: ``table``, one
    row per modality and fold: ``modality``, ``fold``, ``n_cells`` (held out), ``n_classes`` (0 for a regression) and
    the scores in the held-out cells. Classification: ``balanced_accuracy``, ``chance`` (its value for guesses, 1 /
    classes), ``auc`` (one class against the rest, mean over classes). Regression: ``r2``. ``summary``: mean and
    standard deviation over folds per modality; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        Fewer than two classes have ``n_folds`` cells, there are fewer cells than folds, the column has floats in one
        modality and labels in another, or a number is out of range.

    Warns
    -----
    UserWarning
        Classes have fewer cells than there are folds; their cells are left out. Cells have NaN or infinite values and
        are left out. Or floats look like labels: whole numbers, of which some are missing.
    """
    data = data_to_change(data, copy)
    check_choice("method", method, ("linear", "knn"))
    check_sizes(n_neighbors=n_neighbors, max_cells=max_cells)
    check_folds(n_folds)
    rows = []
    slots = find_slots(data, key, [obs_key], is_text=False)
    _check_alike(slots, obs_key)
    for slot in slots:
        for modality in pd.unique(slot.cells[MODALITY].dropna()):
            vectors, labels = _cells_to_probe(slot, str(modality), obs_key, max_cells, np.random.default_rng(seed))
            if len(labels) < n_folds:
                raise ValueError(
                    f"{len(labels)} cells of modality {str(modality)!r} have an obs[{obs_key!r}] and a finite "
                    f"embedding; n_folds={n_folds} folds need at least as many"
                )
            if labels.dtype.kind == "f":
                scores = _regress(vectors, labels, method, n_folds, n_neighbors, seed)
            else:
                vectors, labels = frequent_classes(vectors, labels, n_folds, obs_key)
                scores = _classify(vectors, labels, method, n_folds, n_neighbors, seed)
            rows += [{"modality": modality, "fold": fold} | score for fold, score in enumerate(scores)]
    table = pd.DataFrame(rows)
    metrics = [column for column in table if column not in ("modality", "fold", "n_cells", "n_classes")]
    by_modality = table.groupby("modality", sort=False)[metrics]
    summary = by_modality.mean().join(by_modality.std().add_suffix("_sd")).reset_index()
    parameters: dict[str, Any] = {"key": key, "obs_key": obs_key, "method": method, "n_folds": n_folds, "seed": seed}
    parameters |= {"n_neighbors": n_neighbors, "max_cells": max_cells}
    write_result(data, f"probe_{key}_{obs_key}_{method}", {"table": table, "summary": summary}, parameters)
    return data if copy else None


def _cells_to_probe(
    slot: Slot, modality: str, obs_key: str, max_cells: int, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors and labels of some cells with both."""
    cells = slot.cells
    rows = np.flatnonzero(((cells[MODALITY] == modality) & cells[obs_key].notna()).to_numpy())
    rows = subsample(rows, max_cells, rng)
    vectors = slot.take(rows)
    is_finite = finite_rows(vectors)
    if not is_finite.all():
        warn(f"{int((~is_finite).sum())} of {len(rows)} cells are NaN or infinite; they are left out")
    values = cells[obs_key].iloc[rows[is_finite]]
    return vectors[is_finite], values.to_numpy(dtype=np.float64 if _is_number(values) else np.str_)


def _is_number(values: pd.Series) -> bool:
    return all(isinstance(value, (float, np.floating)) for value in values)


def _check_alike(slots: Sequence[Slot], obs_key: str) -> None:
    """Require numbers in every modality, or labels in every one, and warn about numbers that were labels."""
    is_number = {}
    for slot in slots:
        for name, cells in slot.cells.groupby(MODALITY, sort=False):
            values = cells[obs_key].dropna()
            if len(values):
                is_number[str(name)] = _is_number(values)
            if len(values) < len(cells) and _is_number(values) and (values == values.map(np.round)).all():
                warn(
                    f"obs[{obs_key!r}] of {name!r} is missing for {len(cells) - len(values)} cells and otherwise has "
                    "floats that are whole numbers, as integers become if one is missing; they are regressed. If they "
                    f"are labels, convert them: obs[{obs_key!r}].astype('category')"
                )
    if len(set(is_number.values())) > 1:
        raise ValueError(
            f"obs[{obs_key!r}] has floats in {[name for name in is_number if is_number[name]]} and labels in "
            f"{[name for name in is_number if not is_number[name]]}. Convert it in every modality, labels with "
            f"obs[{obs_key!r}].astype('category') or numbers with obs[{obs_key!r}].astype(float)."
        )


def frequent_classes(
    vectors: NDArray[Any], labels: NDArray[Any], n_folds: int, obs_key: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    is_frequent = counts >= n_folds
    if is_frequent.sum() < 2:
        raise ValueError(
            f"{int(is_frequent.sum())} of {len(classes)} values of obs[{obs_key!r}] have at least n_folds={n_folds} "
            "cells; at least two are needed. Pass fewer folds, more cells or a coarser column."
        )
    if not is_frequent.all():
        warn(
            f"{int((~is_frequent).sum())} of {len(classes)} values of obs[{obs_key!r}] have fewer than "
            f"n_folds={n_folds} cells, for example {str(classes[~is_frequent][0])!r}; their cells are left out"
        )
    keep = is_frequent[codes]
    return vectors[keep], labels[keep]


def _folds(
    splitter: KFold | StratifiedKFold, vectors: NDArray[Any], labels: NDArray[Any], seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit on, shuffled because the search takes the first of tied neighbours, and held-out rows."""
    rng = np.random.default_rng(seed)
    for fit, held_out in splitter.split(vectors, labels):
        yield rng.permutation(fit), held_out


def _classify(
    vectors: NDArray[Any], labels: NDArray[Any], method: str, n_folds: int, n_neighbors: int, seed: int
) -> list[dict[str, Any]]:
    classes = np.unique(labels)
    scores = []
    for fit, held_out in _folds(StratifiedKFold(n_folds, shuffle=True, random_state=seed), vectors, labels, seed):
        if method == "linear":
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
        else:
            model = KNeighborsClassifier(min(n_neighbors, len(fit)))
        model.fit(vectors[fit], labels[fit])
        chances = model.predict_proba(vectors[held_out])
        is_class = labels[held_out][:, None] == classes
        scores.append(
            {
                "n_cells": len(held_out),
                "n_classes": len(classes),
                "balanced_accuracy": balanced_accuracy_score(labels[held_out], classes[chances.argmax(axis=1)]),
                "chance": 1 / len(classes),
                "auc": np.mean([roc_auc_score(is_class[:, i], chances[:, i]) for i in range(len(classes))]),
            }
        )
    return scores


def _regress(
    vectors: NDArray[Any], labels: NDArray[Any], method: str, n_folds: int, n_neighbors: int, seed: int
) -> list[dict[str, Any]]:
    scores = []
    for fit, held_out in _folds(KFold(n_folds, shuffle=True, random_state=seed), vectors, labels, seed):
        if method == "linear":
            model = make_pipeline(StandardScaler(), Ridge())
        else:
            model = KNeighborsRegressor(min(n_neighbors, len(fit)))
        predicted = model.fit(vectors[fit], labels[fit]).predict(vectors[held_out])
        scores.append({"n_cells": len(held_out), "n_classes": 0, "r2": r2_score(labels[held_out], predicted)})
    return scores
