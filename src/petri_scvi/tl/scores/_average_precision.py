"""Mean average precision of guides, as in copairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_alpha, check_choice
from petri_scvi.tl._profile_labels import profile_controls, read_targets
from petri_scvi.tl._results import TIE, data_to_change, one_or_several, write_result
from petri_scvi.tl._similarity import read_similarities

from ._guide_consistency import consistent_share, warn_single_guides

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._similarity import Similarities


def mean_average_precision(
    profiles: AnnData,
    *,
    negatives: Literal["other_genes", "controls"] = "other_genes",
    layer: str | None = None,
    similarity_key: str | None = None,
    n_null: int = 20_000,
    alpha: float = 0.05,
    seed: int = 0,
    control: Labels | None = CONTROL,
    copy: bool = False,
) -> AnnData | None:
    """Compute the mean average precision of retrieving the other guides of a gene, as in copairs :cite:p:`Kalinin2025`.

    Parameters
    ----------
    profiles
        One profile per guide; see :func:`petri_scvi.tl.guide_consistency`.
    negatives
        What a guide's siblings compete with: guides of other genes (controls left out), which asks whether genes
        differ, or non-targeting guides, which asks whether genes do anything.
    layer, similarity_key
        Use this layer, or this ``obsp`` matrix, instead of the cosine of ``X``.
    n_null
        Random rankings per number of siblings and competitors.
    alpha
        Genes with a Benjamini-Hochberg q-value below this are consistent.
    seed
        Seed of the random rankings.
    control
        Value of ``obs["target_gene"]`` that marks non-targeting guides, or several, or ``None`` if there are none.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["mean_average_precision"]``: ``table``, one row per gene with at
    least two guides: ``target_gene``, ``n_guides``, ``mean_average_precision``, ``mean_normalized_average_precision``
    (0 for a random ranking, 1 for a perfect one), ``p_value``, ``q_value``, ``is_consistent``; ``score``, the share of
    these that are consistent, with its 95 % Wilson interval, ``score_low`` and ``score_high``; ``n_genes``, and
    ``n_single_guide``, the genes with one guide, which compete but are not scored; ``parameters``.

    Raises
    ------
    KeyError
        ``obs["target_gene"]``, the layer or the similarity is missing.
    ValueError
        No gene has two guides, there is nothing to compete with, no profile has a label of ``control``, or ``n_null``
        or ``alpha`` is out of range.

    Warns
    -----
    UserWarning
        Genes have one guide, ``n_null`` is so small that a single gene cannot pass, or profiles are NaN or zero, or
        have no target gene, and are left out.

    Notes
    -----
    Where similarities tie (differ by less than 1e-12), average precision is its expected value over all orders of the
    tied guides. copairs ranks siblings first instead, so that its score of identical profiles is 1.

    As in copairs, guides with as many siblings and competitors share their random rankings, so the null of a gene's
    mean is about as wide as that of one guide. Without an effect, p-values therefore concentrate in the middle: few are
    small, and few are large. With few competitors even a perfect ranking is likely by chance and cannot be significant.
    """
    profiles = data_to_change(profiles, copy)
    check_choice("negatives", negatives, ("other_genes", "controls"))
    check_sizes(n_null=n_null)
    check_alpha(alpha)
    labels = read_targets(profiles)
    controls = profile_controls(labels, control)
    against_controls = negatives == "controls"
    rows = np.flatnonzero((labels.notna() & (~labels.isin(controls) | against_controls)).to_numpy())
    similarities, rows = read_similarities(profiles, rows, layer=layer, similarity_key=similarity_key)
    targets = labels.to_numpy()[rows].astype(np.str_)
    is_control = np.isin(targets, controls)
    per_guide = guide_average_precision(similarities, targets, is_control, against_controls)
    table = _per_gene(per_guide, n_null, np.random.default_rng(seed))
    genes, n_guides = np.unique(targets[~is_control], return_counts=True)
    warn_single_guides(genes[n_guides == 1], len(genes))
    if len(table) / (n_null + 1) >= alpha:
        warn(f"n_null={n_null} is too small for {len(table)} genes; pass {int(np.ceil(len(table) / alpha))} or more")
    parameters: dict[str, Any] = {
        "negatives": negatives,
        "layer": layer,
        "similarity_key": similarity_key,
        "n_null": n_null,
    }
    parameters |= {"alpha": alpha, "seed": seed}
    parameters |= {"control": None if control is None else one_or_several(controls)}
    result = consistent_share(table, alpha)
    result |= {"n_genes": len(table), "n_single_guide": int((n_guides == 1).sum())}
    write_result(profiles, "mean_average_precision", result, parameters)
    return profiles if copy else None


def guide_average_precision(
    similarities: Similarities, targets: NDArray[Any], is_control: NDArray[np.bool_], against_controls: bool
) -> pd.DataFrame:
    """Average precision of each guide that has a sibling."""
    records = []
    codes = np.unique(targets, return_inverse=True)[1]  # faster to compare than text
    for guide in np.flatnonzero(~is_control):
        is_sibling = codes == codes[guide]
        is_competitor = is_control if against_controls else ~is_sibling & ~is_control
        n_siblings, n_competitors = int(is_sibling.sum()) - 1, int(is_competitor.sum())
        if n_siblings == 0:
            continue
        if n_competitors == 0:
            raise ValueError(
                f"guide profiles of {targets[guide]!r} have nothing to compete with. Pass profiles of several genes, "
                "with controls for negatives='controls', and name the controls with control=..."
            )
        similarity = similarities.between(np.array([guide]))[0]
        is_sibling[guide] = False
        is_ranked = is_sibling | is_competitor
        precision = average_precision(similarity[is_ranked], is_sibling[is_ranked])
        records.append((targets[guide], n_siblings, n_siblings + n_competitors, precision))
    if not records:
        raise ValueError("no gene has two guides with a profile; pass one row per guide, not one per gene")
    return pd.DataFrame(records, columns=["target_gene", "n_siblings", "n_ranked", "average_precision"])


def average_precision(similarity: NDArray[np.floating[Any]], is_relevant: NDArray[np.bool_]) -> float:
    """Average precision of a ranking, most similar first; expected value over all orders of similarities that tie."""
    is_ranked = similarity >= similarity[is_relevant].min() - TIE  # rows after the last relevant one do not matter
    similarity, is_relevant = similarity[is_ranked], is_relevant[is_ranked]
    order = np.argsort(-similarity)
    is_relevant = is_relevant[order]
    group = np.concatenate([[0], np.cumsum(np.diff(similarity[order]) < -TIE)])
    size = np.bincount(group)
    n_relevant = np.bincount(group, weights=is_relevant)
    before = np.cumsum(size) - size  # rows before each group of ties, and the relevant ones among them
    relevant_before = np.cumsum(n_relevant) - n_relevant
    within = np.arange(len(group)) - before[group]  # place in the group, from 0
    # Given that one place of a group holds a relevant row, each other place does so with this probability.
    share = np.divide(n_relevant - 1, size - 1, out=np.zeros(len(size)), where=size > 1)
    precision = (relevant_before[group] + 1 + within * share[group]) / (np.arange(len(group)) + 1)
    return float(np.sum((n_relevant / size)[group] * precision) / is_relevant.sum())


def expected_average_precision(n_relevant: int, n_ranked: int) -> float:
    """Mean average precision of a random ranking."""
    harmonic = float(np.sum(1 / np.arange(1, n_ranked + 1)))
    if n_ranked == n_relevant:
        return 1.0
    return ((n_relevant - 1) / (n_ranked - 1) * (n_ranked - harmonic) + harmonic) / n_ranked


def random_average_precision(
    n_relevant: int, n_ranked: int, n_draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Average precision of random rankings, shape ``(n_draws,)``."""
    ranks = np.empty((n_draws, n_relevant), dtype=np.intp)
    for start in range(0, n_draws, step := max(1, 2_000_000 // n_ranked)):
        keys = rng.random((min(step, n_draws - start), n_ranked), dtype=np.float32)
        ranks[start : start + step] = np.argpartition(keys, n_relevant - 1, axis=1)[:, :n_relevant]
    ranks.sort(axis=1)
    return (np.arange(1, n_relevant + 1) / (ranks + 1)).mean(axis=1)


def _per_gene(per_guide: pd.DataFrame, n_null: int, rng: np.random.Generator) -> pd.DataFrame:
    """Mean, normalised mean and p-value of each gene."""
    sizes = per_guide[["n_siblings", "n_ranked"]].drop_duplicates().sort_values(["n_siblings", "n_ranked"])
    nulls, expected = {}, {}
    for n_siblings, n_ranked in sizes.itertuples(index=False, name=None):
        size = (n_siblings, n_ranked)
        nulls[size] = random_average_precision(n_siblings, n_ranked, n_null, rng)
        expected[size] = expected_average_precision(n_siblings, n_ranked)
    records = []
    for gene, guides in per_guide.groupby("target_gene", sort=True):
        size_of = list(guides[["n_siblings", "n_ranked"]].itertuples(index=False, name=None))
        precision = guides["average_precision"].to_numpy()
        baseline = np.array([expected[size] for size in size_of])
        null = np.mean([nulls[size] for size in size_of], axis=0)
        p_value = (1 + np.sum(null >= precision.mean() - TIE)) / (1 + n_null)
        normalized = np.mean((precision - baseline) / (1 - baseline))
        records.append((gene, len(guides), precision.mean(), normalized, p_value))
    names = ["target_gene", "n_guides", "mean_average_precision", "mean_normalized_average_precision", "p_value"]
    return pd.DataFrame(records, columns=names)
