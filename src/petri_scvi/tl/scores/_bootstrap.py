"""Confidence intervals from resampled genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._edge_recall import FALSE_POSITIVE_RATES, RankedPairs, area, tpr_at
from ._edges import match_edges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from petri_scvi.tl._similarity import Similarities

    from ._edges import EdgeTable

INTERVAL = (2.5, 97.5)


def bootstrap_share(is_hit: NDArray[np.bool_], n_bootstrap: int, rng: np.random.Generator) -> tuple[float, float]:
    """Bootstrap percentile interval of a share, over genes."""
    if n_bootstrap == 0:
        return np.nan, np.nan
    shares = rng.binomial(len(is_hit), is_hit.mean(), size=n_bootstrap) / len(is_hit)
    low, high = np.percentile(shares, INTERVAL)
    return float(low), float(high)


def bootstrap_edges(
    similarities: Similarities,
    genes: NDArray[Any],
    edges: EdgeTable,
    min_score: float,
    n_bootstrap: int,
    rng: np.random.Generator,
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[float, float]]:
    """Bootstrap percentile intervals of the edge metrics, over genes; by name of the metric."""
    pairs = PairScores(similarities, genes, edges, min_score, left_out)
    n_genes = len(genes)
    draws = rng.multinomial(n_genes, np.full(n_genes, 1 / n_genes), size=n_bootstrap)
    scores = pd.DataFrame([pairs.metrics(weights.astype(np.float64)) for weights in draws])
    if n_bootstrap == 0:
        return dict.fromkeys(pairs.metrics(np.ones(n_genes)), (np.nan, np.nan))
    # A resample of a small screen may hold no edge at all; its scores are NaN.
    intervals = {name: np.nanpercentile(values, INTERVAL) for name, values in scores.items()}
    return {str(name): (float(low), float(high)) for name, (low, high) in intervals.items()}


class PairScores:
    """Edge metrics when each gene has a weight; a pair weighs as much as the product of its genes."""

    def __init__(
        self,
        similarities: Similarities,
        genes: NDArray[Any],
        edges: EdgeTable,
        min_score: float,
        left_out: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        matched = match_edges(edges, genes, min_score, left_out)
        similarity = similarities.of_all_pairs()
        negative = np.flatnonzero(matched.is_negative())
        positive = similarity[matched.positive_index]
        negative = negative[np.argsort(similarity[negative], kind="stable")]
        first, second = np.triu_indices(len(genes), k=1)
        # int32 halves the memory of the millions of negatives.
        self.negative = first[negative].astype(np.int32), second[negative].astype(np.int32)
        order = np.argsort(positive, kind="stable")
        self.positive = matched.positive[order, 0], matched.positive[order, 1]
        positive, sorted_negative = positive[order], similarity[negative]
        self.thresholds = np.unique(positive)
        # Per side of the thresholds: places among the positives and among the negatives.
        self.left = [np.searchsorted(scores, self.thresholds, side="left") for scores in (positive, sorted_negative)]
        self.right = [np.searchsorted(scores, self.thresholds, side="right") for scores in (positive, sorted_negative)]

    def metrics(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Metrics by name; NaN if no positive or no negative pair has any weight."""
        sums = [_cumulative(weights, pairs) for pairs in (self.positive, self.negative)]
        total = np.array([of_kind[-1] for of_kind in sums])
        names = [tpr_name(fpr) for fpr in FALSE_POSITIVE_RATES]
        if not total.all():
            return dict.fromkeys([*names, "edge_auc", "edge_average_precision"], np.nan)
        above, at_least = (
            np.stack([of_kind[-1] - of_kind[at] for of_kind, at in zip(sums, places, strict=True)])
            for places in (self.right, self.left)
        )
        ranked = RankedPairs(above, at_least, total)
        curve = ranked.curve()
        scores = {name: tpr_at(curve, fpr) for name, fpr in zip(names, FALSE_POSITIVE_RATES, strict=True)}
        return scores | {"edge_auc": area(curve), "edge_average_precision": ranked.average_precision()}


def tpr_name(fpr: float) -> str:
    """Name of a metric, by false-positive rate in percent."""
    return f"edge_tpr_at_{100 * fpr:.0f}_fpr"


def _cumulative(weights: NDArray[np.float64], pairs: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.float64]:
    """Weight of the first 0, 1, 2, ... pairs."""
    total = np.zeros(len(pairs[0]) + 1)
    np.cumsum(weights[pairs[0]] * weights[pairs[1]], out=total[1:])
    return total
