"""Alignment of two modalities, measured by pairs that are known to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from mudata import MuData
from scipy.spatial.distance import cdist

from petri_scvi._checks import check_flags, check_sizes
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, find_slots
from petri_scvi.tl._results import data_to_change, write_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

METRICS = ("euclidean", "cosine")


@dataclass(frozen=True)
class Means:
    """Mean embedding of the cells of each label, in two modalities; labels in one modality only have no row."""

    modalities: tuple[str, str]
    labels: NDArray[np.str_]  # (n_labels,)
    values: tuple[NDArray[np.float64], NDArray[np.float64]]  # each (n_labels, D)

    def directions(self, metric: str) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
        """Names of the modality that asks and of the one that is searched, and distances, queries by rows."""
        distances = cdist(*self.values, metric=metric)
        yield *self.modalities, distances
        yield *self.modalities[::-1], distances.T


def foscttm(
    data: MuData,
    key: str = "X_petri",
    *,
    pair_key: str,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    center: bool = False,
    copy: bool = False,
) -> MuData | None:
    """Measure how many cells of the other modality are closer than the true match.

    The fraction of samples closer than the true match (FOSCTTM) is 0 if each pair is closest to itself, and 0.5 by
    chance.

    Parameters
    ----------
    data
        Cells of two modalities, or three of which two have the column.
    key
        ``obsm`` slot of the embedding, in a space that the modalities share: one slot of the MuData, or slots of its
        modalities with as many dimensions.
    pair_key
        ``obs`` column that names pairs. Cells of a modality with the same value are averaged first, so that a column of
        perturbations compares perturbations. Values in one modality only are left out.
    metric
        Distance between embeddings.
    center
        Subtract the mean over pairs from each modality first, so that it does not matter if one lies apart from the
        other.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["foscttm_" + key + "_" + pair_key]``: ``table`` with a row per
    direction, and ``"both"``, their mean: ``query``, ``reference``, ``foscttm``, ``n_pairs``; ``pairs``, with the
    fraction of each pair in each direction; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    TypeError
        ``data`` is not a MuData.
    ValueError
        Not exactly two modalities have the column, they share no space, or fewer than two pairs are in both.

    Warns
    -----
    UserWarning
        Cells have NaN or infinite values and are left out.

    Notes
    -----
    Of n pairs, ``foscttm = (n_closer + n_equal / 2) / (n - 1)``, where ``n_closer`` and ``n_equal`` count the other
    pairs' halves that are closer than, and as far as, the true one. Means are taken over pairs, then over both
    directions :cite:p:`Liu2019,Singh2020`. Counting equal distances by half gives an embedding that is the same for all
    cells 0.5 instead of 0.
    """
    data = data_to_change(data, copy)
    check_flags(center=center)
    means = _means_of(data, key, pair_key, metric, center)
    table, pairs = [], pd.DataFrame({"pair": means.labels})
    for query, reference, distances in means.directions(metric):
        n_closer, n_equal = _places(distances)
        fractions = (n_closer + n_equal / 2) / (len(distances) - 1)
        pairs[f"{query}_to_{reference}"] = fractions
        table.append((query, reference, float(fractions.mean())))
    both = (*table, ("both", "both", float(np.mean([row[2] for row in table]))))
    result = pd.DataFrame(both, columns=["query", "reference", "foscttm"]).assign(n_pairs=len(pairs))
    parameters = {"key": key, "pair_key": pair_key, "metric": metric, "center": center}
    write_result(data, f"foscttm_{key}_{pair_key}", {"table": result, "pairs": pairs}, parameters)
    return data if copy else None


def context_recall(
    data: MuData,
    key: str = "X_petri",
    *,
    context_key: str = "perturbation",
    k: Sequence[int] = (1, 5, 10),
    contexts: Sequence[str] | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    center: bool = False,
    copy: bool = False,
) -> MuData | None:
    """Measure how often a context is found again among those of the other modality.

    Parameters
    ----------
    data
        Cells of two modalities, or three of which two have the column.
    key
        As in :func:`foscttm`.
    context_key
        ``obs`` column of the context.
    k
        Numbers of nearest contexts among which the same one counts as found.
    contexts
        Look for these only, for example those that did not train the model; they are still searched among all.
        ``None`` means all.
    metric, center
        As in :func:`foscttm`.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["context_recall_" + key + "_" + context_key]``: ``table`` with a
    row per direction and k: ``query``, ``reference``, ``k``, ``recall``, ``chance``, ``n_queries``, ``n_contexts``;
    ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    TypeError
        ``data`` is not a MuData.
    ValueError
        As in :func:`foscttm`; or a context of ``contexts`` is not in both modalities.

    Warns
    -----
    UserWarning
        Cells have NaN or infinite values and are left out.

    Notes
    -----
    Each context has the mean of its cells in each modality. Recall at k, as in retrieval of images by captions
    :cite:p:`Karpathy2015`, is the share of queries whose own context is among the k nearest of the other modality.
    Equally distant contexts are ranked at random, of which this is the expected value; chance is ``k / n_contexts``.
    """
    data = data_to_change(data, copy)
    check_flags(center=center)
    sizes = list(k)
    if not sizes:
        raise ValueError("k is empty; pass at least one number of contexts, such as k=(1, 5, 10)")
    for size in sizes:
        check_sizes(k=size)
    means = _means_of(data, key, context_key, metric, center)
    asked = _chosen(means, contexts, context_key)
    n_contexts = len(means.labels)
    rows = []
    for query, reference, distances in means.directions(metric):
        n_closer, n_equal = (found[asked] for found in _places(distances))
        for size in sizes:
            found = np.clip((size - n_closer) / (n_equal + 1), 0, 1)
            row = {"query": query, "reference": reference, "k": size, "recall": float(found.mean())}
            rows.append(row | {"chance": min(size / n_contexts, 1.0), "n_queries": len(asked)})
    table = pd.DataFrame(rows).assign(n_contexts=n_contexts)
    parameters: dict[str, Any] = {"key": key, "context_key": context_key, "k": sizes, "metric": metric}
    parameters |= {"center": center, "contexts": None if contexts is None else [str(name) for name in contexts]}
    write_result(data, f"context_recall_{key}_{context_key}", {"table": table}, parameters)
    return data if copy else None


def _places(distances: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many candidates are closer than the true one, on the diagonal, and how many others are as far."""
    true = np.diagonal(distances)[:, None]
    # Distances that rounding alone distinguishes are equal.
    is_equal = np.isclose(distances, true, rtol=1e-9, atol=1e-12 * float(distances.max(initial=0.0)))
    return ((distances < true) & ~is_equal).sum(axis=1), is_equal.sum(axis=1) - 1


def _chosen(means: Means, contexts: Sequence[str] | None, context_key: str) -> NDArray[np.intp]:
    if contexts is None:
        return np.arange(len(means.labels))
    names = [contexts] if isinstance(contexts, str) else [str(name) for name in contexts]
    unknown = sorted(set(names) - set(means.labels))
    if unknown or not names:
        raise ValueError(
            f"contexts={unknown or names} are not values of {context_key!r} in both modalities; those that are begin "
            f"with {means.labels[:5].tolist()}"
        )
    return np.flatnonzero(np.isin(means.labels, names))


def _means_of(data: MuData, key: str, column: str, metric: str, center: bool) -> Means:
    """Mean embedding of each label in both modalities."""
    if not isinstance(data, MuData):
        raise TypeError(f"expected a MuData with two modalities, found {type(data).__name__}")
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is not accepted; pass 'euclidean' or 'cosine'")
    tables: dict[str, pd.DataFrame] = {}
    for slot in find_slots(data, key, [column]):
        tables |= _means_in(slot, column)
    if len(tables) != 2:
        raise ValueError(
            f"{key!r} and {column!r} are in the modalities {sorted(tables)}; two are compared. Pass a MuData of two "
            "modalities that have the slot and the column."
        )
    (first, a), (second, b) = tables.items()
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{key!r} has {a.shape[1]} dimensions in {first!r} and {b.shape[1]} in {second!r}; distances need a space "
            "that modalities share"
        )
    labels = a.index.intersection(b.index).sort_values()
    if len(labels) < 2:
        raise ValueError(
            f"{len(labels)} values of {column!r} are in both {first!r} and {second!r}; at least two are needed. "
            f"{first!r} has {a.index[:3].tolist()}, {second!r} {b.index[:3].tolist()}."
        )
    x, y = a.loc[labels].to_numpy(), b.loc[labels].to_numpy()
    if center:
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return Means((first, second), labels.to_numpy(dtype=np.str_), (x, y))


def _means_in(slot: Slot, column: str) -> dict[str, pd.DataFrame]:
    """Mean of the cells of each label, one table per modality that has labels."""
    names = slot.cells[[MODALITY, column]]
    group, labels = pd.MultiIndex.from_frame(names.dropna()).factorize()
    codes = np.full(len(names), -1, dtype=np.intp)
    codes[names.notna().all(axis=1).to_numpy()] = group
    sums, counts, n_bad = slot.sum_groups(codes, len(labels))
    if n_bad:
        warn(f"{n_bad} of {int((codes >= 0).sum())} cells are NaN or infinite; they are left out")
    found = counts > 0
    means = pd.DataFrame(sums[found] / counts[found, None], index=labels[found])
    return {str(name): means.xs(name, level=0) for name in means.index.unique(level=0)}
