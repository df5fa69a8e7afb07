"""The guide model is calibrated, and finds what means over guides miss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pooch
import pytest
import scanpy as sc
from scipy.stats import kstest
from sklearn.cross_decomposition import PLSCanonical
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from petri_scvi import tl
from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets._papalexi import read_transcriptomes
from petri_scvi.datasets._registry import PAPALEXI
from petri_scvi.tl._guide_statistics import summarise

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._guide_statistics import GuideStatistics

pytest.importorskip("numpyro")

PRIOR = (2.0, 1.0)
N_GENES, N_GUIDES, N_DIMS, N_CELLS, N_RUNS = 25, 3, 8, 60, 16
EVERY = 8


def draw_from_prior(rng: np.random.Generator) -> tuple[GuideStatistics, dict[str, NDArray[np.float64]]]:
    """Parameters and profiles as the model says: 2 modalities, 2 replicates, 10 controls."""
    strength, specific_strength = np.abs(rng.normal()), np.abs(rng.normal(size=2))
    off_target, noise = np.abs(rng.normal(size=2)), np.abs(rng.normal(size=2)) * np.sqrt(2 * N_CELLS)
    shared = np.abs(rng.standard_cauchy(N_GENES)) * strength
    specific = np.abs(rng.standard_cauchy((N_GENES, 2))) * specific_strength
    efficacy = rng.beta(*PRIOR, size=(N_GENES, N_GUIDES))
    effect = shared[:, None, None] * rng.normal(size=(N_GENES, 1, N_DIMS))
    effect = effect + specific[..., None] * rng.normal(size=(N_GENES, 2, N_DIMS))
    rows, values = [], []
    # Controls lie around a known origin here: their statistics are corrected for a mean that is not.
    for g in range(N_GENES):
        for j in range(N_GUIDES):
            for m in range(2):
                of_guide = efficacy[g, j] * effect[g, m] + off_target[m] * rng.normal(size=N_DIMS)
                for r in range(2):
                    rows.append((f"G{g:02d}", f"G{g:02d}_{j}", f"m{m}", f"r{r}", N_CELLS, False))
                    values.append(of_guide + noise[m] / np.sqrt(N_CELLS) * rng.normal(size=N_DIMS))
    columns = ["target_gene", "guide", "modality", "replicate", "n_cells", "is_control"]
    truth = {"strength": np.array(strength), "specific_strength": specific_strength, "off_target": off_target}
    truth |= {"noise": noise, "efficacy": efficacy, "shared": shared, "specific": specific}
    mean = effect.mean(axis=1)
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    truth["cosine"] = (unit @ unit.T)[np.triu_indices(N_GENES, k=1)]
    return summarise(pd.DataFrame(rows, columns=columns), np.array(values), scale=1.0), truth


def ranks(seed: int, method: str) -> dict[str, NDArray[np.float64]]:
    """Share of posterior draws below the truth, thinned so that they are nearly independent."""
    from petri_scvi.tl._guide_inference import sample_posterior
    from petri_scvi.tl._guide_summary import draw_effects

    rng = np.random.default_rng(seed)
    statistics, truth = draw_from_prior(rng)
    posterior = sample_posterior(
        statistics, method=method, efficacy_prior=PRIOR, n_draws=100 * EVERY, seed=seed, progress=False
    )
    unit = draw_effects(posterior, statistics, rng).unit[::EVERY]
    draws = {name: values[::EVERY] for name, values in posterior.draws.items()}
    draws["cosine"] = (unit @ np.swapaxes(unit, 1, 2)).astype(np.float64)[(slice(None), *np.triu_indices(N_GENES, k=1))]
    found: dict[str, NDArray[np.float64]] = {}
    for name, values in truth.items():
        below = (draws[name] < values).mean(axis=0)
        found[name] = np.ravel(below + rng.random(below.shape) / (len(draws[name]) + 1) * (1 - below))
    return found


@pytest.mark.long
@pytest.mark.parametrize("method", ["nuts"])
def test_ranks_of_the_truth_are_uniform_and_90_percent_intervals_cover_85_to_95_percent(method: str) -> None:
    """Simulation-based calibration; values of one run share the common parameters, so each run is one test of those."""
    runs = [ranks(seed, method) for seed in range(N_RUNS)]
    pooled = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    for name in ("efficacy", "shared", "specific", "cosine"):
        covered = np.mean((pooled[name] > 0.05) & (pooled[name] < 0.95))
        assert 0.85 < covered < 0.95, (name, covered)
    common = np.concatenate([pooled[name] for name in ("strength", "specific_strength", "off_target", "noise")])
    assert kstest(common, "uniform").pvalue > 0.01
    for name in ("efficacy", "shared"):
        one_per_gene = np.concatenate([run[name].reshape(N_GENES, -1)[:, 0] for run in runs])
        assert kstest(one_per_gene, "uniform").pvalue > 0.01, name


def embed(mdata: MuData) -> None:
    """A shared space without training: principal components, joined by PLS over target genes."""
    expression = mdata["rna"].copy()
    sc.pp.normalize_total(expression)
    sc.pp.log1p(expression)
    sc.pp.pca(expression, n_comps=30)
    image = mdata["image"]
    pixels = image.obsm["single_cell_images"].reshape(image.n_obs, -1).astype(np.float32)
    image.obsm["X_pca"] = PCA(30, random_state=0, svd_solver="randomized").fit_transform(pixels)
    mdata["rna"].obsm["X_pca"] = expression.obsm["X_pca"]
    tl.center_scale(mdata, "X_pca")
    genes = mdata.uns["synthetic_screen"]["perturbations"]["perturbation"]
    cells = {name: mdata[name].obsm["X_pca_scaled"] for name in ("image", "rna")}
    targets = {name: mdata[name].obs["target_gene"].astype(str).to_numpy() for name in cells}
    means = {name: np.stack([cells[name][targets[name] == g].mean(axis=0) for g in genes]) for name in cells}
    pls = PLSCanonical(12).fit(means["image"], means["rna"])
    rotations = {"image": pls.x_rotations_, "rna": pls.y_rotations_}
    joined = [(cells[name] - means[name].mean(axis=0)) @ rotations[name] for name in cells]
    mdata.obsm["X_joined"] = np.vstack([values / values.std(axis=0) for values in joined])
    tl.center_scale(mdata, "X_joined")
    tl.whiten(mdata, "X_joined_scaled")


def leave_one_out(guides: AnnData) -> pd.Series:
    """Cosine of each guide with the mean of the others of its gene."""
    targets = guides.obs["target_gene"].astype(str).to_numpy()
    values = np.asarray(guides.X) - np.asarray(guides.X)[targets == "non-targeting"].mean(axis=0)
    cosine = {}
    for i, name in enumerate(guides.obs_names):
        rest = values[(targets == targets[i]) & (np.arange(len(values)) != i)].mean(axis=0)
        cosine[name] = values[i] @ rest / np.linalg.norm(values[i]) / np.linalg.norm(rest)
    return pd.Series(cosine)


@pytest.mark.long
def test_dead_guides_are_told_better_than_by_leave_one_out_cosines_and_known_pairs_no_worse_than_by_means() -> None:
    scores: list[dict[str, Any]] = []
    for seed in range(5):
        mdata = synthetic_screen(seed, n_cells=6000, image_size=16)
        embed(mdata)
        key = "X_joined_scaled_whitened"
        genes = tl.guide_model(tl.replicate_profiles(mdata, key), method="svi", progress=False)
        guides = tl.aggregate_profiles(mdata, key)
        plain = tl.aggregate_guides(guides)
        table = genes.uns["petri_scvi"]["guide_model"]["guides"].set_index("guide")
        truth = mdata.uns["synthetic_screen"]["guides"].set_index("guide").loc[table.index]
        cosine = leave_one_out(guides).loc[table.index]
        row = {"dead": roc_auc_score(truth["is_dead"], -table["efficacy"])}
        row["dead_by_cosine"] = roc_auc_score(truth["is_dead"], -cosine)
        for name, profiles in (("pairs", genes), ("pairs_by_means", plain[plain.obs_names != "non-targeting"].copy())):
            tl.edge_recall(profiles, mdata.uns["synthetic_screen"]["edges"])
            row[name] = profiles.uns["petri_scvi"]["edge_recall"]["auc"]
        live = ~truth["is_dead"].to_numpy()
        is_in = table["efficacy_low"].le(truth["efficacy"]) & table["efficacy_high"].ge(truth["efficacy"])
        scores.append(row | {"covered": is_in[live].mean()})
    mean = pd.DataFrame(scores).mean()
    assert mean["dead"] > mean["dead_by_cosine"], mean
    assert mean["dead"] > 0.97
    assert mean["pairs"] >= mean["pairs_by_means"], mean
    assert 0.85 < mean["covered"] < 0.95


@pytest.mark.real
def test_real_guides_that_point_elsewhere_are_doubted_and_strong_ones_are_not() -> None:
    folder = Path(os.environ.get("PETRI_SCVI_CACHE") or pooch.os_cache("petri_scvi"))
    if not (folder / PAPALEXI.file_name).is_file():
        pytest.skip(f"{PAPALEXI.file_name} is not in {folder}; set PETRI_SCVI_CACHE to the folder that has it")
    cells = read_transcriptomes(folder)
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    sc.pp.pca(cells, n_comps=20)
    tl.center_scale(cells, "X_pca")
    tl.whiten(cells, "X_pca_scaled")
    profiles = tl.replicate_profiles(cells, "X_pca_scaled_whitened")
    genes = tl.guide_model(profiles, method="svi", progress=False)
    table = genes.uns["petri_scvi"]["guide_model"]["guides"].set_index("guide")
    strongest = table["log10_bayes_factor"].sort_values(ascending=False).index[:3]
    assert set(strongest) == {"CMTM6g2", "STAT1g4", "BRD4g3"}
    assert table.loc[[f"{g}g{i}" for g in ("IFNGR1", "JAK2") for i in (1, 2, 3)], "p_dead"].max() < 0.01
    pairs = genes[["IFNGR1", "IFNGR2", "JAK2", "STAT1"]].obsp["cosine_low"]
    assert np.asarray(pairs).min() > 0.8
    assert genes.obs.loc["STAT1", "strength_low"] > 3 * genes.obs.loc["CAV1", "strength_high"]
