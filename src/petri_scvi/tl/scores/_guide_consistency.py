"""Share of target genes with consistent guides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_alpha
from petri_scvi.tl._profile_labels import profile_controls, read_targets
from petri_scvi.tl._results import adjust, data_to_change, null_p_values, one_or_several, share, write_result
from petri_scvi.tl._similarity import read_similarities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._similarity import Similarities

QUANTILES = np.linspace(0, 1, 101)


def guide_consistency(
    profiles: AnnData,
    *,
    layer: str | None = None,
    similarity_key: str | None = None,
    control: Labels | None = CONTROL,
    n_null: int = 20_000,
    alpha: float = 0.05,
    seed: int = 0,
    key_added: str = "guide_consistency",
    copy: bool = False,
) -> AnnData | None:
    """Compute the share of target genes whose guides are more similar than guides of different genes.

    Parameters
    ----------
    profiles
        One whitened profile per guide in ``X``, shape ``(n_guides, D)``, and ``obs["target_gene"]``, from
        :func:`petri_scvi.tl.aggregate_profiles`.
    layer
        Use this layer, for example a modality, instead of ``X``.
    similarity_key
        Use this ``obsp`` matrix instead of cosines of profiles.
    control
        Value of ``obs["target_gene"]`` that marks non-targeting guides, or several, or ``None`` if there are none. They
        are neither scored nor drawn.
    n_null
        Draws of guides of different genes, per number of guides. More than ``n_genes / alpha - 1`` let a single
        consistent gene pass.
    alpha
        Genes with a Benjamini-Hochberg q-value below this are consistent.
    seed
        Seed of the draws.
    key_added
        Name of the result.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"][key_added]``:

    - ``table``, one row per gene with at least two guides: ``target_gene``, ``n_guides``, ``similarity`` (mean pairwise
      cosine, -1 to 1), ``null_mean``, ``null_95`` (95 % quantile of the null), ``p_value``, ``q_value``,
      ``is_consistent``;
    - ``score``, the share of these genes that are consistent, and its 95 % Wilson interval, ``score_low`` and
      ``score_high``;
    - ``n_genes``, and ``n_single_guide``, the genes with one guide, which are drawn but not scored;
    - ``null_quantiles``: one row per quantile 0, 0.01, ..., 1 and one column per number of guides;
    - ``parameters``.

    Raises
    ------
    KeyError
        ``obs["target_gene"]``, the layer or the similarity is missing.
    ValueError
        No gene has two guides, a gene has more guides than there are target genes to draw from, no profile has a label
        of ``control``, or ``n_null`` or ``alpha`` is out of range.

    Warns
    -----
    UserWarning
        Genes have one guide, ``n_null`` is so small that a single consistent gene cannot pass, or profiles are NaN or
        zero, or have no target gene, and are left out.

    Notes
    -----
    A null draw takes one guide from each of ``n_guides`` different genes, all genes being equally likely. One is added
    to both counts of the p-value, so that it is never 0 :cite:p:`PETRI2026`.
    """
    profiles = data_to_change(profiles, copy)
    check_sizes(n_null=n_null)
    check_alpha(alpha)
    labels = read_targets(profiles)
    controls = profile_controls(labels, control)
    similarities, targets = scored_guides(profiles, labels, controls, layer=layer, similarity_key=similarity_key)
    genes, codes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    tested = np.flatnonzero(counts >= 2)
    if reason := why_not_testable(targets):
        raise ValueError(reason)
    warn_single_guides(genes[counts == 1], len(genes))
    if len(tested) / (n_null + 1) >= alpha:
        warn(
            f"n_null={n_null} is too small for {len(tested)} genes: a single consistent gene cannot reach "
            f"q < {alpha}. Pass n_null={int(np.ceil(len(tested) / alpha))} or more."
        )
    rng = np.random.default_rng(seed)
    order = np.argsort(codes, kind="stable")
    start = np.cumsum(counts) - counts
    table = pd.DataFrame({"target_gene": genes[tested], "n_guides": counts[tested]})
    table[["similarity", "null_mean", "null_95", "p_value"]] = np.nan
    quantiles = {}
    for n in np.unique(counts[tested]):
        # Draw genes first: a gene with many guides must not be drawn more often.
        drawn = draw_distinct([np.arange(len(genes))] * n, n_null, rng)  # (n_null, n)
        guides = order[start[drawn] + rng.integers(counts[drawn])]
        null = similarities.of_sets(guides)
        rows = np.flatnonzero(counts[tested] == n)
        members = order[start[tested[rows], None] + np.arange(n)]
        similarity = similarities.of_sets(members)
        p_values = null_p_values(similarity, null)
        table.loc[rows, "similarity"], table.loc[rows, "p_value"] = similarity, p_values
        table.loc[rows, "null_mean"], table.loc[rows, "null_95"] = null.mean(), np.quantile(null, 0.95)
        quantiles[str(n)] = np.quantile(null, QUANTILES)
    result = consistent_share(table, alpha) | {
        "n_genes": len(tested),
        "n_single_guide": int((counts == 1).sum()),
        "null_quantiles": pd.DataFrame(quantiles, index=QUANTILES.round(2).astype(str)),
    }
    parameters: dict[str, Any] = {
        "layer": layer,
        "similarity_key": similarity_key,
        "control": None if control is None else one_or_several(controls),
        "n_null": n_null,
    }
    write_result(profiles, key_added, result, parameters | {"alpha": alpha, "seed": seed})
    return profiles if copy else None


def scored_guides(
    profiles: AnnData,
    targets: pd.Series,
    controls: Sequence[str],
    *,
    layer: str | None,
    similarity_key: str | None,
) -> tuple[Similarities, NDArray[np.str_]]:
    """Similarities and target gene of every guide that is not a control and has a direction."""
    rows = np.flatnonzero((targets.notna() & ~targets.isin(controls)).to_numpy())
    similarities, rows = read_similarities(profiles, rows, layer=layer, similarity_key=similarity_key)
    return similarities, targets.to_numpy()[rows].astype(np.str_)


def consistent_share(table: pd.DataFrame, alpha: float) -> dict[str, Any]:
    """Add q-values and calls to a table with p-values; return it with the share of calls."""
    table["q_value"] = adjust(table["p_value"].to_numpy(dtype=np.float64))
    table["is_consistent"] = table["q_value"] < alpha
    return {"table": table} | share(table["is_consistent"].to_numpy())


def draw_distinct(pools: Sequence[NDArray[np.intp]], n_draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw one member of each pool, no member twice, shape ``(n_draws, len(pools))``."""
    drawn = np.empty((n_draws, len(pools)), dtype=np.intp)
    for position, pool in enumerate(pools):
        open_draws = np.arange(n_draws)
        while len(open_draws):  # terminates because each pool has more members than are drawn
            drawn[open_draws, position] = pool[rng.integers(len(pool), size=len(open_draws))]
            clashes = (drawn[open_draws, :position] == drawn[open_draws, position, None]).any(axis=1)
            open_draws = open_draws[clashes]
    return drawn


def warn_single_guides(single: NDArray[Any], n_genes: int) -> None:
    """Warn about genes with a single guide, which cannot be scored."""
    if len(single):
        warn(
            f"{len(single)} of {n_genes} target genes have one guide with a profile, for example {str(single[0])!r}; "
            "they are not scored"
        )


def why_not_testable(targets: NDArray[np.str_]) -> str | None:
    """Why consistency cannot be tested among guides of these target genes; ``None`` if it can."""
    genes, counts = np.unique(targets, return_counts=True)
    if counts.max(initial=0) < 2:
        return (
            f"none of the {len(counts)} target genes has two guides with a profile. Pass one row per guide, from "
            "petri_scvi.tl.aggregate_profiles(..., level='guide')."
        )
    if counts.max() > len(counts):
        return (
            f"a target gene has {int(counts.max())} guides, but there are only {len(counts)} target genes to draw "
            f"unrelated guides from: {genes[:10].tolist()}. Score a screen with more genes."
        )
    return None
