"""Recall of known gene pairs by the similarity of profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import auc

from petri_scvi._constants import CONTROL
from petri_scvi.tl._profile_labels import profile_controls, read_targets
from petri_scvi.tl._results import data_to_change, one_or_several, write_result

from ._circular import groups_to_leave_out, warn_if_circular
from ._edges import match_edges
from ._guide_consistency import scored_guides

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels

    from ._circular import LeftOut
    from ._edges import Edges, EdgeTable

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.10)
MIN_SCORE = 0.95


def edge_recall(
    profiles: AnnData,
    edges: EdgeTable,
    *,
    layer: str | None = None,
    similarity_key: str | None = None,
    min_score: float = MIN_SCORE,
    max_fpr: float = 0.05,
    control: Labels | None = CONTROL,
    leave_out_groups: LeftOut = False,
    key_added: str = "edge_recall",
    copy: bool = False,
) -> AnnData | None:
    """Compute the true-positive rate of known gene pairs at a fixed false-positive rate, and the ROC curve.

    Parameters
    ----------
    profiles
        One whitened profile per gene in ``X``, shape ``(n_genes, D)``, and ``obs["target_gene"]``, from
        :func:`petri_scvi.tl.aggregate_profiles` with ``level="gene"``.
    edges
        Known pairs: :func:`petri_scvi.datasets.stringdb`, or a data frame or text file with the two genes in the first
        two columns and optionally a column ``score`` or ``combined_score``. Case of symbols, direction and repetition
        do not matter.
    layer
        Use this layer, for example a modality, instead of ``X``.
    similarity_key
        Use this ``obsp`` matrix instead of cosines of profiles.
    min_score
        Listed pairs with a larger score are positives, the other listed pairs are left out. Without scores all listed
        pairs are positives.
    max_fpr
        False-positive rate at which ``score`` is read off.
    control
        Value of ``obs["target_gene"]`` that marks non-targeting controls, or several, or ``None`` if there are none.
        They are not scored.
    leave_out_groups
        Leave out every pair of genes that shares a group, known or not: pairs that a model was told of by
        ``PETRI.setup_mudata(context_groups=...)``. ``True`` takes the groups that the data records,
        in ``uns["petri_scvi"]["context_groups"]``; a mapping from groups to genes, a column, or the path of a GMT file
        names others.
    key_added
        Name of the result.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"][key_added]``:

    - ``score``, the true-positive rate at ``max_fpr``, interpolated linearly on the ROC curve; ``tpr_at_fpr``, a table
      of ``fpr`` (0.01, 0.05, 0.10) and ``tpr``; ``auc``; ``average_precision``;
    - ``curve``: ``fpr`` and ``tpr`` at the corners of the ROC curve;
    - ``positives``, one row per known pair: ``entity1``, ``entity2``, ``similarity``, ``is_recalled`` (with a
      false-positive rate of at most ``max_fpr``);
    - ``n_genes``, ``n_genes_in_table``, ``n_edges_in_table``, ``n_positive``, ``n_between`` (listed pairs left out),
      ``n_in_groups`` (pairs left out that share a group) and ``n_negative``;
    - ``parameters``.

    Raises
    ------
    KeyError
        ``obs["target_gene"]``, the layer or the similarity is missing.
    ValueError
        A gene has several profiles, no pair or every pair of the genes is an edge, scores and ``min_score`` are on
        different scales, no profile has a label of ``control``, or no groups are recorded.

    Warns
    -----
    UserWarning
        More than half of the genes are not in the table, or profiles are NaN or zero, or have no target gene, and are
        left out. Or known pairs share a group with which the model was trained, and are not left out.

    Notes
    -----
    Negatives are the pairs that are not listed at all :cite:p:`PETRI2026`.
    """
    profiles = data_to_change(profiles, copy)
    if not 0 < max_fpr < 1:
        raise ValueError(f"max_fpr={max_fpr!r} is not accepted; pass a rate between 0 and 1, for example 0.05")
    similarity, genes, matched, parameters = _compare(
        profiles, edges, layer, similarity_key, min_score, control, leave_out_groups
    )
    of_known = similarity[matched.positive_index]
    ranked, thresholds = rank_pairs(similarity, matched)
    curve = ranked.curve()
    fpr = ranked.at_least[1] / ranked.total[1]  # (T,)
    result = {
        "score": tpr_at(curve, max_fpr),
        "tpr_at_fpr": pd.DataFrame(
            {"fpr": FALSE_POSITIVE_RATES, "tpr": [tpr_at(curve, fpr) for fpr in FALSE_POSITIVE_RATES]}
        ),
        "auc": area(curve),
        "average_precision": ranked.average_precision(),
        "curve": curve,
        "positives": pd.DataFrame(
            {
                "entity1": genes[matched.positive[:, 0]],
                "entity2": genes[matched.positive[:, 1]],
                "similarity": of_known,
                "is_recalled": fpr[np.searchsorted(thresholds, of_known)] <= max_fpr,
            }
        ),
    } | matched.counts
    write_result(profiles, key_added, result, parameters | {"max_fpr": max_fpr})
    return profiles if copy else None


def efaar_recall(
    profiles: AnnData,
    edges: EdgeTable,
    *,
    layer: str | None = None,
    similarity_key: str | None = None,
    min_score: float = MIN_SCORE,
    tail: float = 0.05,
    control: Labels | None = CONTROL,
    leave_out_groups: LeftOut = False,
    copy: bool = False,
) -> AnnData | None:
    """Compute the share of known gene pairs in both tails of the similarity, as in EFAAR :cite:p:`Celik2024`.

    Not the recall of :func:`petri_scvi.tl.edge_recall`: both tails count, so chance is ``2 * tail``, and ranks are
    among all pairs, known ones included.

    Parameters
    ----------
    profiles, edges, layer, similarity_key, min_score, control, leave_out_groups
        As in :func:`petri_scvi.tl.edge_recall`.
    tail
        Share of all pairs in each tail.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["efaar_recall"]``: ``score``, ``chance`` (``2 * tail``), the
    counts of :func:`petri_scvi.tl.edge_recall` and ``parameters``. With ties, ``score`` is the expected value over all
    orders of the tied pairs; EFAAR itself counts none of them unless all lie in the tail.

    Raises
    ------
    KeyError, ValueError
        As :func:`petri_scvi.tl.edge_recall`.
    """
    profiles = data_to_change(profiles, copy)
    if not 0 < tail < 0.5:
        raise ValueError(f"tail={tail!r} is not accepted; pass a share between 0 and 0.5, for example 0.05")
    everything, _, matched, parameters = _compare(
        profiles, edges, layer, similarity_key, min_score, control, leave_out_groups
    )
    known = np.sort(everything[matched.positive_index])
    everything = np.delete(everything, matched.in_groups_index)
    everything.sort()
    first = np.searchsorted(everything, known, side="left")  # each pair is at one of the ranks first + 1, ..., last
    last = np.searchsorted(everything, known, side="right")
    n_low, n_high = _tail_sizes(len(everything), tail)
    n_found = np.maximum(np.minimum(last, n_low) - first, 0)
    n_found += np.maximum(last - np.maximum(first, len(everything) - n_high), 0)
    result = {"score": float((n_found / (last - first)).mean()), "chance": 2 * tail} | matched.counts
    write_result(profiles, "efaar_recall", result, parameters | {"tail": tail})
    return profiles if copy else None


def _compare(
    profiles: AnnData,
    edges: EdgeTable,
    layer: str | None,
    similarity_key: str | None,
    min_score: float,
    control: Labels | None,
    leave_out_groups: LeftOut,
) -> tuple[NDArray[np.floating[Any]], NDArray[np.str_], Edges, dict[str, Any]]:
    """Similarity of every pair of genes, the genes, which pairs are known, and the arguments to store."""
    targets = read_targets(profiles)
    controls = profile_controls(targets, control)
    similarities, genes = scored_guides(profiles, targets, controls, layer=layer, similarity_key=similarity_key)
    left_out = groups_to_leave_out(profiles, leave_out_groups)
    matched = match_edges(edges, genes, min_score, left_out)
    if not left_out:
        warn_if_circular(profiles, matched.positive, genes)
    parameters: dict[str, Any] = {"layer": layer, "similarity_key": similarity_key, "min_score": min_score}
    parameters |= {"control": None if control is None else one_or_several(controls), "n_left_out_groups": len(left_out)}
    return similarities.of_all_pairs(), genes, matched, parameters


def _tail_sizes(n: int, tail: float) -> tuple[int, int]:
    """Ranks of at most ``tail`` and of at least ``1 - tail`` among ``n``, counted as EFAAR compares them."""
    some = np.arange(max(0, int(tail * n) - 2), min(n, int(tail * n) + 2) + 1)  # rounding can shift a border by one
    return int(some[some / n <= tail].max()), int(some[(n - some) / n >= 1 - tail].max())


@dataclass(frozen=True)
class RankedPairs:
    """Known and unlisted pairs, counted at each threshold: each similarity of a known pair, in ascending order.

    The first axis is the kind of pair: known, unlisted. Counts are sums of weights if pairs are weighted.
    """

    above: NDArray[Any]  # (2, T), pairs more similar than each threshold
    at_least: NDArray[Any]  # (2, T), those and the pairs that tie with it
    total: NDArray[Any]  # (2,)

    def curve(self) -> pd.DataFrame:
        """ROC curve at its corners: before and after the pairs of exactly each threshold, most similar first."""
        corners = np.zeros((2, 2 * self.above.shape[1] + 2))
        corners[:, 1:-1:2], corners[:, 2:-1:2] = self.above[:, ::-1], self.at_least[:, ::-1]
        corners[:, -1] = self.total
        tpr, fpr = corners / self.total[:, None]
        return pd.DataFrame({"fpr": fpr, "tpr": tpr})

    def average_precision(self) -> float:
        """Precision at each threshold, weighted by the recall that it adds."""
        n_true, n_false = self.at_least
        precision = np.divide(n_true, n_true + n_false, out=np.zeros(len(n_true)), where=n_true > 0)
        return float(((n_true - self.above[0]) * precision).sum() / self.total[0])


def rank_pairs(similarity: NDArray[np.floating[Any]], matched: Edges) -> tuple[RankedPairs, NDArray[Any]]:
    """Count pairs at each threshold; also returns the thresholds. Sorts ``similarity`` in place.

    Unlisted pairs are all pairs but the listed ones. They are counted as a difference, so that the millions of pairs
    are sorted once and never copied.
    """
    known = np.sort(similarity[matched.positive_index])
    listed = np.sort(np.concatenate([known, similarity[matched.left_out_index]]))
    similarity.sort()
    thresholds = np.unique(known)

    def n_from(side: Literal["left", "right"]) -> NDArray[np.intp]:
        n_known, n_listed, n_all = (
            len(sorted_) - np.searchsorted(sorted_, thresholds, side=side) for sorted_ in (known, listed, similarity)
        )
        return np.stack([n_known, n_all - n_listed])

    total = np.array([len(known), len(similarity) - len(listed)])
    return RankedPairs(n_from("right"), n_from("left"), total), thresholds


def tpr_at(curve: pd.DataFrame, fpr: float) -> float:
    """Linear interpolation on a ROC curve."""
    return float(np.interp(fpr, curve["fpr"], curve["tpr"]))


def area(curve: pd.DataFrame) -> float:
    """Area under a ROC curve."""
    return float(auc(curve["fpr"], curve["tpr"]))
