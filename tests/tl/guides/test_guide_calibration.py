"""The guide model is calibrated: the truth has any rank among draws from the posterior :cite:p:`Talts2018`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, ttest_1samp

from petri_scvi.tl.guides._guide_likelihood import Posterior
from petri_scvi.tl.guides._guide_statistics import summarise
from petri_scvi.tl.guides._guide_summary import draw_effects

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from petri_scvi.tl.guides._guide_statistics import GuideStatistics

pytest.importorskip("numpyro")

PRIOR = (2.0, 1.0)
N_GENES, N_GUIDES, N_DIMS, N_MODALITIES, N_CONTROLS = 25, 4, 8, 2, 10
N_RUNS, N_DRAWS, EVERY = 64, 1600, 16
ARRAYS = ("n_cells", "products", "control_squares", "control_cells", "residual_squares", "residual_count")
COMMON = ("strength", "specific_strength", "off_target", "noise")
OF_GENES = ("efficacy", "shared", "specific", "cosine")


def draw_design(rng: np.random.Generator) -> pd.DataFrame:
    """2 to 4 guides per gene, 1 to 3 replicates of a guide in a modality, and some guides seen in one modality only."""
    rows = []
    for g in range(N_GENES):
        for j in range(rng.integers(2, N_GUIDES + 1)):
            lost = rng.choice([-1, 0, 1], p=[0.8, 0.1, 0.1])
            for m in range(N_MODALITIES):
                for r in range(0 if m == lost else rng.integers(1, 4)):
                    cells = int(rng.integers(20, 100))
                    rows.append((f"G{g:02d}", f"G{g:02d}_{j}", f"m{m}", f"r{r}", cells, False, g, j, m))
    columns = ["target_gene", "guide", "modality", "replicate", "n_cells", "is_control", "g", "j", "m"]
    return pd.DataFrame(rows, columns=columns).sort_values(["m", "g", "j", "replicate"], ignore_index=True)


def draw_from_prior(rng: np.random.Generator) -> tuple[GuideStatistics, dict[str, NDArray[np.float64]]]:
    """Parameters, effects and profiles as the model says."""
    rows = draw_design(rng)
    design = summarise(rows, np.zeros((len(rows), N_DIMS)), scale=1.0)
    strength, specific_strength = np.abs(rng.normal()), np.abs(rng.normal(size=N_MODALITIES))
    off_target = np.abs(rng.normal(size=N_MODALITIES))
    noise = np.abs(rng.normal(size=N_MODALITIES)) * np.sqrt(typical_cells(design))
    shared = np.abs(rng.standard_cauchy(N_GENES)) * strength
    specific = np.abs(rng.standard_cauchy((N_GENES, N_MODALITIES))) * specific_strength
    efficacy = rng.beta(*PRIOR, size=design.guides.shape)
    effect = shared[:, None, None] * rng.normal(size=(N_GENES, 1, N_DIMS))
    effect = effect + specific[..., None] * rng.normal(size=(N_GENES, N_MODALITIES, N_DIMS))
    g, j, m = (rows[name].to_numpy() for name in ("g", "j", "m"))
    beside = off_target[:, None] * rng.normal(size=(*design.guides.shape, N_MODALITIES, N_DIMS))
    cells = rows["n_cells"].to_numpy(dtype=np.float64)
    of_cells = (noise[m] / np.sqrt(cells))[:, None] * rng.normal(size=(len(rows), N_DIMS))
    values = efficacy[g, j, None] * effect[g, m] + beside[g, j, m] + of_cells
    # Controls lie around a known origin here; the profiles of a screen are measured from their mean.
    control_cells = rng.integers(20, 100, size=(N_CONTROLS, N_MODALITIES)).astype(np.float64)
    variance = off_target**2 + noise**2 / control_cells
    squares = variance * rng.chisquare(N_DIMS, size=variance.shape)
    statistics = replace(summarise(rows, values, scale=1.0), control_squares=squares, control_cells=control_cells)
    truth = {"strength": np.array(strength), "specific_strength": specific_strength, "off_target": off_target}
    truth |= {"noise": noise / np.sqrt(typical_cells(design)), "efficacy": efficacy, "shared": shared}
    truth |= {"specific": specific, "cosine": cosines(effect.mean(axis=1))}
    return statistics, truth


def typical_cells(statistics: GuideStatistics) -> NDArray[np.float64]:
    """Median number of cells of a guide in each modality."""
    return np.array([np.median(n[n > 0]) for n in np.moveaxis(statistics.n_cells, 2, 0)])


def cosines(effects: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each pair of genes; effects ``(..., G, D)``."""
    unit = (effects / np.linalg.norm(effects, axis=-1, keepdims=True)).astype(np.float64)
    return (unit @ np.swapaxes(unit, -1, -2))[(..., *np.triu_indices(unit.shape[-2], k=1))]


@lru_cache
def compiled_sampler() -> Callable[..., Any]:
    """NUTS as ``tl.guide_model`` calls it, compiled once for all screens of one size."""
    import jax

    from petri_scvi.tl.guides._guide_inference import draw_chains

    template, _ = draw_from_prior(np.random.default_rng(0))

    def sample(arrays: dict[str, Any], seed: int) -> Any:
        return draw_chains(replace(template, **arrays), "nuts", PRIOR, N_DRAWS, seed, progress=False)

    return cast("Callable[..., Any]", jax.jit(sample))


def calibrate(seed: int) -> tuple[Posterior, dict[str, NDArray[np.float64]]]:
    """Draws of one run, and the rank of the truth among every 16th draw, from 0 to 1."""
    import jax

    from petri_scvi.tl.guides._guide_inference import diagnose

    rng = np.random.default_rng(seed)
    statistics, truth = draw_from_prior(rng)
    assert statistics.guides.shape == (N_GENES, N_GUIDES)  # else it is compiled anew
    with jax.enable_x64(True):
        chains, n_divergent, losses = compiled_sampler()({name: getattr(statistics, name) for name in ARRAYS}, seed)
        chains = {name: np.asarray(values) for name, values in chains.items()}
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in chains.items()}
    posterior = Posterior(flat, diagnose(chains, statistics), int(n_divergent), np.asarray(losses))
    draws = {name: values[::EVERY] for name, values in flat.items()}
    draws["noise"] = draws["noise"] / np.sqrt(typical_cells(statistics))
    draws["cosine"] = cosines(draw_effects(posterior, statistics, rng).unit[::EVERY])
    ranks = {}
    for name, values in truth.items():
        n_below = (draws[name] < values).sum(axis=0)
        rank = (n_below + rng.random(n_below.shape)) / (len(draws[name]) + 1)
        ranks[name] = rank[statistics.is_guide] if name == "efficacy" else np.ravel(rank)
    return posterior, ranks


def summarise_ranks(of_runs: list[NDArray[np.float64]]) -> dict[str, float]:
    """Coverage of 90 % intervals with its standard error, and p-values of uniform ranks.

    Values of one run share its common parameters, so a run is one observation.
    """
    covered = np.array([np.mean((rank > 0.05) & (rank < 0.95)) for rank in of_runs])
    return {
        "covered": covered.mean(),
        "error": covered.std(ddof=1) / np.sqrt(len(covered)),
        "location": ttest_1samp([rank.mean() for rank in of_runs], 0.5).pvalue,
        "spread": ttest_1samp([np.mean((rank - 0.5) ** 2) for rank in of_runs], 1 / 12).pvalue,
        "uniform": kstest([rank[0] for rank in of_runs], "uniform").pvalue,
    }


@pytest.mark.long
def test_ranks_of_the_truth_are_uniform_and_90_percent_intervals_cover_85_to_95_percent() -> None:
    runs = [calibrate(seed) for seed in range(N_RUNS)]
    r_hat = pd.DataFrame([posterior.diagnostics.set_index("parameter")["r_hat"] for posterior, _ in runs])
    names = (*COMMON, *OF_GENES)
    table = pd.DataFrame([summarise_ranks([ranks[name] for _, ranks in runs]) for name in names], index=names)
    seen = f"{table}\nlargest R-hat:\n{r_hat.max()}"
    # The largest of some 15,000 values; a chain that is stuck is far beyond.
    assert r_hat.max().max() < 1.1, seen
    assert (r_hat.max(axis=1) < 1.05).mean() >= 0.9, seen
    # A common parameter is one value per run: 64 of them leave an error of 0.04.
    slack = 2 * table["error"].where(table.index.isin(COMMON), 0.0)
    assert table["covered"].between(0.85 - slack, 0.95 + slack).all(), seen
    p_values = table[["location", "spread", "uniform"]].to_numpy()
    assert p_values.min() > 0.01 / p_values.size, seen


@pytest.mark.long
def test_a_seed_repeats_the_draws() -> None:
    (first, _), (second, _) = calibrate(0), calibrate(0)
    for name, draws in first.draws.items():
        np.testing.assert_array_equal(second.draws[name], draws)
