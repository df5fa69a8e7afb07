"""The whole protocol, starting from cells, finds no effects where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy.stats import binomtest, kstest, ttest_1samp
from sklearn.decomposition import PCA

from petri_scvi import tl
from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

NAMES = [f"GENE{i}" for i in range(16)]
EDGES = pd.DataFrame({"a": NAMES[::2], "b": NAMES[1::2]})


def null_screen(make_mudata: Callable[..., MuData], seed: int) -> MuData:
    """Replicates differ, and dimensions are correlated and of different scale, but no perturbation does anything."""
    mdata = make_mudata(n_genes=16, n_guides=3, n_per_guide=6, n_dims=8, signal=0.0)
    rng = np.random.default_rng(seed)
    is_second = np.concatenate([(adata.obs["replicate"] == "r1").to_numpy() for adata in mdata.mod.values()])
    values = rng.normal(size=(len(is_second), 8)) + is_second[:, None]
    mdata.obsm["X_emb"] = values @ rng.normal(size=(8, 8))
    return mdata


@pytest.mark.slow
def test_p_values_are_uniform_and_scores_at_chance_in_200_screens_without_effect(
    make_mudata: Callable[..., MuData],
) -> None:
    """One gene per screen, so that p-values are independent."""
    consistency, strength, shares, aucs, recalls, distances = [], [], [], [], [], []
    for seed in range(200):
        mdata = null_screen(make_mudata, seed)
        tl.center_scale(mdata, "X_emb")
        tl.whiten(mdata, "X_emb_scaled")
        guides = tl.aggregate_profiles(mdata, "X_emb_scaled_whitened")
        genes = tl.aggregate_guides(guides)
        tl.guide_consistency(guides, n_null=999, seed=seed)
        tl.edge_recall(genes, EDGES)
        tl.perturbation_strength(mdata, "X_emb_scaled", n_permutations=99, seed=seed, progress=False)
        found = guides.uns["petri_scvi"]["guide_consistency"]
        consistency.append(found["table"]["p_value"].iloc[0])
        shares.append(found["score"])
        aucs.append(genes.uns["petri_scvi"]["edge_recall"]["auc"])
        recalls.append(genes.uns["petri_scvi"]["edge_recall"]["score"])
        table = mdata.uns["petri_scvi"]["perturbation_strength_X_emb_scaled"]["table"].set_index("perturbation")
        strength.append(table.loc["GENE0", "p_value"].iloc[0])
        distances.append(table.loc["GENE0", "energy_distance"].iloc[0])
    # P-values of 99 exchanges are multiples of 0.01; spread over their steps they are continuous.
    spread = np.array(strength) - np.random.default_rng(0).random(200) / 100
    for p_values in (np.array(consistency), spread):
        assert kstest(p_values, "uniform").pvalue > 0.01
        assert binomtest(int((p_values <= 0.05).sum()), 200, 0.05).pvalue > 0.01
    assert np.mean(shares) < 0.01
    for values, chance in ((aucs, 0.5), (recalls, 0.05), (distances, 0.0)):
        assert ttest_1samp(values, chance).pvalue > 0.01


@pytest.mark.slow
def test_a_simulated_screen_without_effects_scores_nothing_in_either_modality() -> None:
    """Wells, batches, cell cycle and depth vary as in a screen with effects."""
    shares, aucs, active = [], [], []
    for seed in range(4):
        mdata = synthetic_screen(seed, n_cells=2000, image_size=16, image_strength=0, rna_strength=0)
        expression = mdata.mod["rna"].copy()
        sc.pp.normalize_total(expression)
        sc.pp.log1p(expression)
        sc.pp.pca(expression, n_comps=20)
        mdata.mod["rna"].obsm["X_pca"] = expression.obsm["X_pca"]
        image = mdata.mod["image"]
        pixels = image.obsm["single_cell_images"].reshape(image.n_obs, -1).astype(np.float32)
        image.obsm["X_pca"] = PCA(20, random_state=0).fit_transform(pixels)
        edges = mdata.uns["synthetic_screen"]["edges"]
        table = tl.score_screen(mdata, ["X_pca"], edges=edges, n_bootstrap=0, progress=False)
        shares += table.loc[table["metric"] == "guide_consistency", "value"].tolist()
        aucs += table.loc[(table["metric"] == "edge_auc") & (table["fusion"] == "none"), "value"].tolist()
        tl.center_scale(mdata, "X_pca")
        tl.perturbation_strength(mdata, "X_pca_scaled", n_permutations=199, progress=False)
        active.append(mdata.uns["petri_scvi"]["perturbation_strength_X_pca_scaled"]["table"]["is_active"].mean())
    assert np.mean(shares) < 0.01
    assert np.mean(active) < 0.02
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.06)
