"""A scored screen, and what an Axes shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from petri_scvi import tl
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.tl.guides._guide_likelihood import Posterior

if TYPE_CHECKING:
    from collections.abc import Iterator

    from petri_scvi.tl.guides._guide_statistics import GuideStatistics

N_GENES, N_GUIDES = 14, 3
SETTINGS = ("_vector_friendly", "_frameon", "_autosave", "_autoshow", "_figdir", "_file_format_figs", "_plot_suffix")


@pytest.fixture(autouse=True)
def _clean_figures() -> Iterator[None]:
    """No figure and no setting outlives its test."""
    before = {name: getattr(sc.settings, name) for name in SETTINGS}
    with mpl.rc_context():
        yield
    plt.close("all")
    for name, value in before.items():
        setattr(sc.settings, name, value)


@pytest.fixture(scope="session")
def edges() -> pd.DataFrame:
    """Known pairs."""
    return pd.DataFrame({"a": [f"GENE{i}" for i in (0, 2, 4, 6)], "b": [f"GENE{i}" for i in (1, 3, 5, 7)]})


@pytest.fixture(scope="session")
def _cells() -> MuData:
    """Scored cells of two modalities; every second gene does something, alike in pairs."""
    rng = np.random.default_rng(0)
    strength = np.append(np.linspace(3, 0, N_GENES), 0)
    directions = rng.normal(size=(N_GENES + 1, 6)).repeat(2, axis=0)[: N_GENES + 1]
    modalities = {}
    for name in ("image", "rna"):
        guide = np.repeat(np.arange((N_GENES + 1) * N_GUIDES), 8)
        gene = guide // N_GUIDES
        target = np.array([f"GENE{i}" for i in range(N_GENES)] + ["non-targeting"])[gene]
        columns = {"guide": [f"sg{i}" for i in guide], "target_gene": target, "perturbation": target}
        obs = pd.DataFrame(columns, index=[f"{name}{i}" for i in range(len(guide))])
        obs["replicate"] = [f"r{i % 2}" for i in range(len(obs))]
        obs["area"] = rng.normal(size=len(obs))
        embedding = (strength[:, None] * directions)[gene] + rng.normal(size=(len(obs), 6))
        modalities[name] = AnnData(obs=obs, obsm={"X_emb": embedding, "X_other": rng.normal(size=(len(obs), 5))})
    images = rng.integers(0, 1000, size=(len(guide), 3, 8, 8)).astype(np.uint16)
    modalities["image"].obsm["single_cell_images"] = images
    modalities["image"].uns["channel_names"] = ["dna", "lipid_droplets", "actin"]
    with columns_stay_in_modalities():
        cells = MuData(modalities)
    cells.obsm["X_umap"] = rng.normal(size=(cells.n_obs, 2))
    return cells


@pytest.fixture(scope="session")
def cells(_cells: MuData, edges: pd.DataFrame) -> MuData:
    """Scored cells; shared, so tests must not change them."""
    tl.perturbation_strength(_cells, "X_emb", n_permutations=199, progress=False)
    tl.replicate_consistency(_cells, "X_emb", n_null=1000)
    tl.probe(_cells, "X_emb", obs_key="perturbation", n_folds=3)
    tl.probe(_cells, "X_emb", obs_key="area", method="knn", n_folds=3)
    tl.mixing(_cells, "X_emb", obs_key="replicate")
    tl.foscttm(_cells, "X_emb", pair_key="perturbation")
    tl.context_recall(_cells, "X_emb", k=(1, 3))
    tl.variance_shares(_cells, "X_emb", obs_keys=["perturbation", "replicate"])
    tl.score_screen(_cells, ["X_emb", "X_other"], edges=edges, n_bootstrap=20, progress=False)
    return _cells


@pytest.fixture(scope="session")
def guides(_cells: MuData) -> AnnData:
    """Scored profiles of guides; shared, so tests must not change them."""
    profiles = tl.aggregate_profiles(_cells, "X_emb", modality="image")
    tl.guide_consistency(profiles, n_null=1000)
    tl.mean_average_precision(profiles, n_null=1000)
    return profiles


@pytest.fixture(scope="session")
def genes(guides: AnnData, edges: pd.DataFrame) -> AnnData:
    """Scored profiles of genes; shared, so tests must not change them."""
    profiles = tl.aggregate_guides(guides)
    tl.edge_recall(profiles, edges)
    tl.edge_recall(profiles, edges, max_fpr=0.2, key_added="loose")
    tl.efaar_recall(profiles, edges)
    tl.profile_similarity(profiles)
    rows = [name.removeprefix("GENE") for name in profiles.obs_names]
    profiles.obs["pathway"] = [f"P{int(row) // 4}" if row.isdigit() else None for row in rows]
    return profiles


def _posterior(statistics: GuideStatistics, *, n_draws: int, seed: int, **_: Any) -> Posterior:
    """Draws around plausible values instead of sampled ones, which take JAX and a while."""
    rng = np.random.default_rng(seed)
    n_genes, n_guides = statistics.guides.shape
    n_modalities = len(statistics.modalities)
    spread = np.exp(0.1 * rng.normal(size=(n_draws, 1)))
    efficacy = rng.beta(8, 2, size=(n_draws, n_genes, n_guides))
    efficacy[:, ::4, 0] *= 0.1  # dead
    shared = spread * np.linspace(1.5, 0.05, n_genes)
    draws = {
        "efficacy": efficacy,
        "shared": shared,
        "specific": 0.5 * np.repeat(shared[..., None], n_modalities, axis=2),
    }
    draws |= {"off_target": 0.1 * np.repeat(spread, n_modalities, axis=1)}
    draws |= {"noise": np.repeat(spread, n_modalities, axis=1)}
    return Posterior(draws, pd.DataFrame(), 0, np.zeros(100))


@pytest.fixture(scope="session")
def modelled(_cells: MuData) -> AnnData:
    """Genes of a guide model; shared, so tests must not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("petri_scvi.tl.guides._guide_model._sampler", lambda: _posterior)
        with columns_stay_in_modalities():
            cells = MuData(dict(_cells.mod))
        cells.obsm["X_joined"] = np.vstack([modality.obsm["X_emb"] for modality in _cells.mod.values()])
        return tl.guide_model(tl.replicate_profiles(cells, "X_joined"), n_draws=100, progress=False)
