"""Draw effects given the parameters of the guide model, and summarise them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from petri_scvi.tl._similarity import unit_rows

from ._guide_likelihood import effects_given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._guide_likelihood import Posterior
    from ._guide_statistics import GuideStatistics

LOW, HIGH = 0.05, 0.95
"""Quantiles at the bounds of the intervals."""
MAX_KEPT = 150_000_000
"""Largest number of drawn values held at once; if there are more, only every n-th draw is kept."""
BLOCK = 20_000_000
"""Cosines held at once."""


@dataclass
class EffectDraws:
    """Effects of all draws, in the units of the profiles."""

    shared: NDArray[np.float64]  # (G, D), posterior mean of the shared effect
    within: NDArray[np.float64]  # (M, G, D), of the effect in each modality
    unit: NDArray[np.float32]  # (n_kept, G, D), direction of the effect, mean over modalities
    length: NDArray[np.float64]  # (n_draws, G), its root mean square over dimensions
    variance: dict[str, NDArray[np.float64]]  # component: (n_draws, M), per dimension
    correlation: NDArray[np.float64]  # (n_draws, n_pairs), of effects in two modalities
    by_dimension: NDArray[np.float64]  # (D, 1 + M), variance of shared and specific effects


def draw_effects(posterior: Posterior, statistics: GuideStatistics, rng: np.random.Generator) -> EffectDraws:
    """One draw of all effects per draw of the parameters."""
    n_genes, _, n_modalities, n_dims = statistics.means.shape
    n_draws = len(posterior.draws["shared"])
    step = max(1, -(-n_draws * n_genes * n_dims // MAX_KEPT))
    kept = range(0, n_draws, step)
    pairs = list(combinations(range(n_modalities), 2))
    found = EffectDraws(
        shared=np.zeros((n_genes, n_dims)),
        within=np.zeros((n_modalities, n_genes, n_dims)),
        unit=np.empty((len(kept), n_genes, n_dims), dtype=np.float32),
        length=np.empty((n_draws, n_genes)),
        variance={name: np.empty((n_draws, n_modalities)) for name in ("shared", "specific", "off_target", "sampling")},
        correlation=np.empty((n_draws, len(pairs))),
        by_dimension=np.zeros((n_dims, 1 + n_modalities)),
    )
    squared = statistics.scale**2
    inverse_cells = np.array([np.mean(1 / n[n > 0]) for n in np.moveaxis(statistics.n_cells, 2, 0)])  # (M,)
    for draw in range(n_draws):
        parameters = posterior.parameters(draw)
        effects = effects_given(parameters, statistics)
        shared = effects.shared_mean + effects.shared_sd[:, None] * rng.standard_normal((n_genes, n_dims))
        mean, sd = effects.specific(shared)
        specific = mean + sd[..., None] * rng.standard_normal(mean.shape)  # (G, M, D)
        # Means of conditional means vary less than means of draws.
        found.shared += statistics.scale * effects.shared_mean / n_draws
        of_mean, _ = effects.specific(effects.shared_mean)
        found.within += statistics.scale * np.moveaxis(effects.shared_mean[:, None] + of_mean, 1, 0) / n_draws
        total = shared[:, None] + specific  # (G, M, D)
        effect = total.mean(axis=1)  # (G, D)
        if draw % step == 0:
            found.unit[draw // step] = unit_rows(effect)
        found.length[draw] = statistics.scale * np.sqrt(np.square(effect).mean(axis=1))
        found.variance["shared"][draw] = squared * np.square(shared).mean()
        found.variance["specific"][draw] = squared * np.square(specific).mean(axis=(0, 2))
        found.variance["off_target"][draw] = squared * parameters.off_target**2
        found.variance["sampling"][draw] = squared * parameters.noise**2 * inverse_cells
        norm = np.sqrt(np.square(total).sum(axis=(0, 2)))
        for i, (a, b) in enumerate(pairs):
            found.correlation[draw, i] = np.sum(total[:, a] * total[:, b]) / (norm[a] * norm[b])
        found.by_dimension[:, 0] += squared * np.square(shared).mean(axis=0) / n_draws
        found.by_dimension[:, 1:] += squared * np.square(specific).mean(axis=0).T / n_draws
    return found


def cosine_summary(unit: NDArray[np.float32], above: float) -> dict[str, NDArray[np.float64]]:
    """Mean, 90 % credible interval and probability above a value, of the cosine of all gene pairs; each ``(G, G)``."""
    n_draws, n_genes, _ = unit.shape
    names = ("cosine", "cosine_low", "cosine_high", "p_similar")
    found = {name: np.empty((n_genes, n_genes)) for name in names}
    step = max(1, BLOCK // (n_draws * n_genes))
    for start in range(0, n_genes, step):
        rows = slice(start, min(start + step, n_genes))
        cosine = unit[:, rows] @ np.swapaxes(unit, 1, 2)  # (n_draws, n_rows, G)
        found["cosine"][rows] = cosine.mean(axis=0, dtype=np.float64)
        found["p_similar"][rows] = (cosine > above).mean(axis=0)
        found["cosine_low"][rows], found["cosine_high"][rows] = np.quantile(cosine, [LOW, HIGH], axis=0)
    for values in found.values():
        values[:] = (values + values.T) / 2  # single precision, summed in another order
        np.fill_diagonal(values, 1.0)
    return found


def guide_table(
    posterior: Posterior, statistics: GuideStatistics, efficacy_prior: tuple[float, float], dead_below: float
) -> pd.DataFrame:
    """Efficacy of every guide."""
    gene, slot = np.nonzero(statistics.is_guide)
    efficacy = posterior.draws["efficacy"][:, gene, slot]  # (n_draws, n_guides)
    table = pd.DataFrame(
        {"guide": statistics.guides[gene, slot].astype(str), "target_gene": statistics.genes[gene].astype(str)}
    )
    table["n_cells"] = statistics.n_cells[gene, slot].sum(axis=1).astype(int)
    table = pd.concat([table, with_interval("efficacy", efficacy)], axis=1)
    table["p_dead"] = (efficacy < dead_below).mean(axis=0)
    prior = beta(*efficacy_prior).cdf(dead_below)
    half = 0.5 / len(efficacy)  # so that no finite number of draws is infinite evidence
    chance = np.clip(table["p_dead"], half, 1 - half)
    table["log10_bayes_factor"] = np.log10(chance / (1 - chance)) - np.log10(prior / (1 - prior))
    return table


def variance_table(draws: EffectDraws, modalities: Sequence[str]) -> pd.DataFrame:
    """Variance components of profiles per dimension, by modality."""
    parts = [pd.DataFrame({"modality": list(modalities)})]
    parts += [with_interval(name, values) for name, values in draws.variance.items()]
    of_genes = draws.variance["shared"] + draws.variance["specific"]
    return pd.concat([*parts, with_interval("shared_fraction", draws.variance["shared"] / of_genes)], axis=1)


def pair_table(draws: EffectDraws, modalities: Sequence[str], n_dims: int) -> pd.DataFrame:
    """Correlation of the effects in two modalities, and their mutual information."""
    pairs = list(combinations(map(str, modalities), 2))
    parts = [pd.DataFrame(pairs, columns=["modality", "other"], dtype=object)]
    bits = -0.5 * n_dims * np.log2(1 - np.clip(draws.correlation, -1, 1) ** 2 + 1e-12)
    return pd.concat([*parts, with_interval("correlation", draws.correlation), with_interval("bits", bits)], axis=1)


def with_interval(name: str, draws: NDArray[Any]) -> pd.DataFrame:
    """Mean and 90 % credible interval over draws, the first axis."""
    low, high = np.quantile(draws, [LOW, HIGH], axis=0)
    return pd.DataFrame({name: draws.mean(axis=0), f"{name}_low": low, f"{name}_high": high})
