"""How well similarity of profiles recovers known gene pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._constants import CONTROL

from ._edges import match_edges
from ._guide_consistency import scored_guides
from ._results import write_result

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._edges import EdgeTable

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
    control: str = CONTROL,
    key_added: str = "edge_recall",
) -> None:
    """True-positive rate of known gene pairs at a fixed false-positive rate, and the whole ROC curve.

    Parameters
    ----------
    profiles
        One whitened profile per gene in ``X``, shape ``(n_genes, D)``, and ``obs["target_gene"]``, from
        :func:`petri_scvi.tl.aggregate_profiles` with ``level="gene"``.
    edges
        Known pairs: :func:`petri_scvi.datasets.stringdb`, or a data frame or text file with the two genes in the first
        two columns and optionally a column ``score`` or ``combined_score``. Symbols match whatever their case; direction
        and repetition do not matter.
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
        Value of ``obs["target_gene"]`` that marks non-targeting controls; they are not scored.
    key_added
        Name of the result.

    Returns
    -------
    ``None``. Writes ``uns["petri_scvi"][key_added]``:

    - ``score``, the true-positive rate at ``max_fpr``, interpolated linearly on the ROC curve; ``tpr_at_fpr``, a table
      of ``fpr`` (0.01, 0.05, 0.10) and ``tpr``; ``auc``; ``average_precision``;
    - ``curve``: ``fpr`` and ``tpr`` at the corners of the ROC curve;
    - ``positives``, one row per known pair: ``entity1``, ``entity2``, ``similarity``, ``is_recalled`` (above the
      threshold of ``max_fpr``);
    - ``n_genes``, ``n_genes_in_table``, ``n_edges_in_table``, ``n_positive``, ``n_between`` (listed pairs left out) and
      ``n_negative``;
    - ``parameters``.

    Raises
    ------
    KeyError
        ``obs["target_gene"]``, the layer or the similarity is missing.
    ValueError
        A gene has several profiles, no pair or every pair of the genes is an edge, or scores and ``min_score`` are on
        different scales.

    Warns
    -----
    UserWarning
        More than half of the genes are not in the table, or profiles are NaN or zero and left out.

    Notes
    -----
    Negatives are the pairs that are not listed at all :cite:p:`PETRI2026`.
    """
    if not 0 < max_fpr < 1:
        raise ValueError(f"max_fpr={max_fpr!r} is not accepted; pass a rate between 0 and 1, for example 0.05")
    likeness, genes = scored_guides(profiles, control, layer=layer, similarity_key=similarity_key)
    matched = match_edges(edges, genes, min_score)
    similarity = likeness.of_all_pairs()
    positive = similarity[matched.positive_index]
    negative = np.sort(similarity[matched.is_negative()])
    curve = roc_curve(positive, negative)
    threshold = np.quantile(negative, 1 - max_fpr, method="higher")
    is_recalled = positive > threshold
    result = {
        "score": tpr_at(curve, max_fpr),
        "tpr_at_fpr": pd.DataFrame(
            {"fpr": FALSE_POSITIVE_RATES, "tpr": [tpr_at(curve, fpr) for fpr in FALSE_POSITIVE_RATES]}
        ),
        "auc": area(curve),
        "average_precision": average_precision(positive, negative),
        "curve": curve,
        "positives": pd.DataFrame(
            {
                "entity1": genes[matched.positive[:, 0]],
                "entity2": genes[matched.positive[:, 1]],
                "similarity": positive,
                "is_recalled": is_recalled,
            }
        ),
    } | matched.counts
    parameters = {"layer": layer, "similarity_key": similarity_key, "min_score": min_score, "max_fpr": max_fpr}
    write_result(profiles, key_added, result, parameters | {"control": control})


def efaar_recall(
    profiles: AnnData,
    edges: EdgeTable,
    *,
    layer: str | None = None,
    similarity_key: str | None = None,
    min_score: float = MIN_SCORE,
    tail: float = 0.05,
    control: str = CONTROL,
) -> None:
    """Share of known gene pairs among the most similar or most opposite pairs, as EFAAR benchmarks report it.

    Not the recall of :func:`petri_scvi.tl.edge_recall`: both tails count, so chance is ``2 * tail``, and ranks are among
    all pairs, known ones included.

    Parameters
    ----------
    profiles, edges, layer, similarity_key, min_score, control
        As in :func:`petri_scvi.tl.edge_recall`.
    tail
        Share of all pairs in each tail.

    Returns
    -------
    ``None``. Writes ``uns["petri_scvi"]["efaar_recall"]``: ``score``, ``chance`` (``2 * tail``), the counts of
    :func:`petri_scvi.tl.edge_recall` and ``parameters``.

    Raises
    ------
    KeyError, ValueError
        As :func:`petri_scvi.tl.edge_recall`.

    References
    ----------
    Celik et al., Building, benchmarking, and exploring perturbative maps of transcriptional and morphological data, PLOS
    Computational Biology 2024, doi:10.1371/journal.pcbi.1012463.
    """
    if not 0 < tail < 0.5:
        raise ValueError(f"tail={tail!r} is not accepted; pass a share between 0 and 0.5, for example 0.05")
    likeness, genes = scored_guides(profiles, control, layer=layer, similarity_key=similarity_key)
    matched = match_edges(edges, genes, min_score)
    everything = likeness.of_all_pairs()
    known = everything[matched.positive_index]
    everything.sort()
    rank_low = np.searchsorted(everything, known, side="right") / len(everything)
    rank_high = np.searchsorted(everything, known, side="left") / len(everything)
    is_found = (rank_low <= tail) | (rank_high >= 1 - tail)
    parameters = {"layer": layer, "similarity_key": similarity_key, "min_score": min_score, "tail": tail}
    result = {"score": float(is_found.mean()), "chance": 2 * tail} | matched.counts
    write_result(profiles, "efaar_recall", result, parameters | {"control": control})


def roc_curve(positive: NDArray[np.float64], sorted_negative: NDArray[np.float64]) -> pd.DataFrame:
    """ROC curve at its corners, which are at the positives; the negatives must be sorted."""
    thresholds = np.unique(positive)[::-1]
    n_positive, n_negative = len(positive), len(sorted_negative)
    ordered = np.sort(positive)
    fpr, tpr = np.zeros(2 * len(thresholds) + 2), np.zeros(2 * len(thresholds) + 2)
    # Two corners per threshold: before and after the pairs of exactly this similarity.
    for offset, side in ((1, "right"), (2, "left")):
        fpr[offset:-1:2] = 1 - np.searchsorted(sorted_negative, thresholds, side=side) / n_negative  # type: ignore[call-overload]
        tpr[offset:-1:2] = 1 - np.searchsorted(ordered, thresholds, side=side) / n_positive  # type: ignore[call-overload]
    fpr[-1] = tpr[-1] = 1
    return pd.DataFrame({"fpr": fpr, "tpr": tpr})


def tpr_at(curve: pd.DataFrame, fpr: float) -> float:
    """Linear interpolation on a ROC curve."""
    return float(np.interp(fpr, curve["fpr"], curve["tpr"]))


def area(curve: pd.DataFrame) -> float:
    """Area under a ROC curve."""
    return float(np.trapezoid(curve["tpr"], curve["fpr"]))


def average_precision(positive: NDArray[np.float64], sorted_negative: NDArray[np.float64]) -> float:
    """Precision at each distinct similarity of a positive, weighted by the recall it adds."""
    thresholds, n_at = np.unique(positive, return_counts=True)
    n_true = np.cumsum(n_at[::-1])[::-1]
    n_false = len(sorted_negative) - np.searchsorted(sorted_negative, thresholds, side="left")
    return float(np.sum(n_at / len(positive) * n_true / (n_true + n_false)))
