from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from petri_scvi.tl import (
    aggregate_profiles,
    center_scale,
    edge_recall,
    guide_consistency,
    late_fusion,
    score_screen,
    whiten,
)
from petri_scvi.tl._similarity import Similarities, unit_rows
from petri_scvi.tl.scores._bootstrap import PairScores, bootstrap_share
from petri_scvi.tl.scores._edge_recall import area
from petri_scvi.tl.scores._score_screen import thin_curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

EDGES = pd.DataFrame({"a": ["GENE0", "GENE2", "GENE4", "GENE1"], "b": ["GENE1", "GENE3", "GENE5", "GENE2"]})


def value(table: pd.DataFrame, modality: str, metric: str, fusion: str | None = None) -> float:
    rows = table[(table["modality"] == modality) & (table["metric"] == metric)]
    return float((rows if fusion is None else rows[rows["fusion"] == fusion])["value"].item())


def test_it_gives_the_numbers_of_the_single_steps(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    before = mdata.obsm["X_emb"].copy()
    table = score_screen(mdata, ["X_emb"], edges=EDGES, n_bootstrap=0, progress=False)
    np.testing.assert_array_equal(mdata.obsm["X_emb"], before)
    assert "X_emb_scaled" not in mdata.obsm
    mdata.obsm["X_emb"] = before.astype(float)  # the steps keep their arrays in double precision then
    center_scale(mdata, "X_emb")
    whiten(mdata, "X_emb_scaled")
    guides, genes = (aggregate_profiles(mdata, "X_emb_scaled_whitened", level=level) for level in ("guide", "gene"))
    for modality, layer in (("image", "image"), ("rna", "rna"), ("image+rna", None)):
        guide_consistency(guides, layer=layer)
        edge_recall(genes, EDGES, layer=layer)
        consistency, recall = guides.uns["petri_scvi"]["guide_consistency"], genes.uns["petri_scvi"]["edge_recall"]
        assert value(table, modality, "guide_consistency") == consistency["score"]
        assert value(table, modality, "edge_auc") == pytest.approx(recall["auc"])
        assert value(table, modality, "edge_tpr_at_5_fpr") == pytest.approx(recall["score"])
    assert table.loc[table["modality"] == "image+rna", "fusion"].unique().tolist() == ["mean_embedding"]
    assert table["ci_low"].isna().all()


def test_separate_spaces_are_joined_by_late_fusion(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    table = score_screen(mdata, "X_emb", edges=EDGES, n_bootstrap=0, progress=False)
    fused = table.loc[table["modality"] == "image+rna", "fusion"].unique().tolist()
    assert fused == ["concatenate", "mean_cosine", "max_cosine"]
    center_scale(mdata, "X_emb", key_added="X_scaled")
    whiten(mdata, "X_scaled", key_added="X_white")
    parts = [aggregate_profiles(mdata, "X_white", level="gene", modality=m) for m in ("image", "rna")]
    genes = late_fusion(parts, "max_cosine")
    edge_recall(genes, EDGES, similarity_key="similarity")
    found = value(table, "image+rna", "edge_auc", "max_cosine")
    assert found == pytest.approx(genes.uns["petri_scvi"]["edge_recall"]["auc"])


def test_intervals_hold_the_value_and_narrow_with_more_genes(make_cells: Callable[..., AnnData]) -> None:
    widths = []
    for n_genes in (10, 40):
        names = [f"GENE{i}" for i in range(n_genes)]
        edges = pd.DataFrame({"a": names[::2], "b": names[1::2]})
        table = score_screen(make_cells(n_genes=n_genes), ["X_emb"], edges=edges, n_bootstrap=100, progress=False)
        auc = table[table["metric"] == "edge_auc"].iloc[0]
        assert auc["ci_low"] <= auc["value"] <= auc["ci_high"]
        widths.append(auc["ci_high"] - auc["ci_low"])
    assert widths[1] < widths[0]
    assert table["modality"].unique().tolist() == ["all"]


def test_equal_weights_give_the_plain_scores_and_whole_weights_those_of_copied_genes() -> None:
    rng = np.random.default_rng(0)
    vectors, names = rng.normal(size=(30, 4)), np.array([f"GENE{i}" for i in range(30)])
    edges = pd.DataFrame({"a": names[:-1:2], "b": names[1::2]})
    pairs = PairScores(Similarities(unit_rows(vectors)), names, edges, 0.95)
    plain, weighted = pairs.metrics(np.ones(30)), pairs.metrics(np.full(30, 3.0))
    weights = rng.integers(0, 4, size=30)
    mixed = pairs.metrics(weights.astype(float))

    first, second = np.triu_indices(30, k=1)
    cosine = (unit_rows(vectors) @ unit_rows(vectors).T)[first, second]
    is_edge = (second == first + 1) & (first % 2 == 0)
    for found, weight in ((plain, np.ones(30)), (weighted, np.ones(30)), (mixed, weights)):
        of_pair = (weight[first] * weight[second]).astype(float)
        fpr, tpr, _ = roc_curve(is_edge, cosine, sample_weight=of_pair)
        assert found["edge_auc"] == pytest.approx(roc_auc_score(is_edge, cosine, sample_weight=of_pair), abs=1e-9)
        assert found["edge_tpr_at_5_fpr"] == pytest.approx(np.interp(0.05, fpr, tpr), abs=1e-9)
        expected = average_precision_score(is_edge, cosine, sample_weight=of_pair)
        assert found["edge_average_precision"] == pytest.approx(expected, abs=1e-9)
    assert all(np.isnan(v) for v in pairs.metrics(np.eye(30)[0]).values())  # one gene has no pair


def test_bootstrap_of_a_share_has_the_binomial_width() -> None:
    low, high = bootstrap_share(np.arange(400) < 100, 4000, np.random.default_rng(0))
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 * 0.75 / 400), rel=0.1)


def test_the_table_survives_a_file_with_its_parameters(make_mudata: Callable[..., MuData], tmp_path: Path) -> None:
    mdata = make_mudata()
    table = score_screen(mdata, ["X_emb"], n_bootstrap=20, progress=False)
    assert table["metric"].unique().tolist() == ["guide_consistency"]
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["score_screen"]
    np.testing.assert_array_equal(read["table"]["value"], table["value"])
    assert read["parameters"]["keys"].tolist() == ["X_emb"]


def test_nothing_to_score_is_refused_and_one_name_is_as_good_as_a_list(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    with pytest.raises(ValueError, match="keys is empty; name the obsm slots"):
        score_screen(mdata, [], progress=False)
    with pytest.raises(ValueError, match="n_bootstrap=-1 is not accepted"):
        score_screen(mdata, ["X_emb"], n_bootstrap=-1, progress=False)
    one = score_screen(mdata, "X_emb", fusions="max_cosine", n_bootstrap=5, progress=False)
    pd.testing.assert_frame_equal(
        one, score_screen(mdata, ["X_emb"], fusions=["max_cosine"], n_bootstrap=5, progress=False)
    )


def test_missing_slots_show_before_the_work_starts(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    with pytest.raises(KeyError, match="key='X_pca' is not in mdata.obsm"):
        score_screen(mdata, ["X_emb", "X_pca"], progress=False)
    with pytest.raises(ValueError, match="fusions='sum' is not accepted"):
        score_screen(mdata, ["X_emb"], fusions=["sum"], progress=False)  # type: ignore[list-item]


def test_the_curves_are_kept_and_have_the_area_of_the_table(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    table = score_screen(mdata, ["X_emb"], edges=EDGES, n_bootstrap=0, progress=False)
    curves = mdata.uns["petri_scvi"]["score_screen"]["curves"]
    assert list(curves["modality"].unique()) == ["image", "rna", "image+rna"]
    for modality, curve in curves.groupby("modality"):
        expected = value(table, str(modality), "edge_auc")
        assert area(curve) == pytest.approx(expected, abs=1e-3)
    score_screen(mdata, ["X_emb"], n_bootstrap=0, progress=False)
    assert "curves" not in mdata.uns["petri_scvi"]["score_screen"]


def test_a_long_curve_is_thinned_and_keeps_its_course(rng: np.random.Generator) -> None:
    fpr = np.sort(np.concatenate([[0, 1], rng.random(20_000) ** 3]))
    thin = thin_curve(pd.DataFrame({"fpr": fpr, "tpr": fpr**0.2}))
    assert len(thin) <= 201
    rates = np.array([1e-3, 0.01, 0.05, 0.5])
    np.testing.assert_allclose(np.interp(rates, thin["fpr"], thin["tpr"]), rates**0.2, atol=0.01)
