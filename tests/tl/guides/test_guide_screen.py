"""The guide model finds dead guides of the synthetic screen and of the THP-1 knock-outs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pooch
import pytest
import scanpy as sc
from sklearn.cross_decomposition import PLSCanonical
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from petri_scvi import tl
from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets.cache._registry import PAPALEXI
from petri_scvi.datasets.public._papalexi import read_transcriptomes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

pytest.importorskip("numpyro")


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
