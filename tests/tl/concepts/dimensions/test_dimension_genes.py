"""Genes of a dimension are those of its program, and the correlations are the usual ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import false_discovery_control, pearsonr

from petri_scvi import tl
from petri_scvi.tl.concepts.dimensions import _activations
from petri_scvi.tl.concepts.dimensions._correlation import adjust_listed

if TYPE_CHECKING:
    from mudata import MuData

SILENT, NOISE = 7, 8


def genes_of(data: Any, key: str = "X_sae", **changes: Any) -> dict[str, Any]:
    tl.dimension_genes(data, key, progress=False, **changes)
    return data.uns["petri_scvi"][f"dimension_genes_{key}"]


def rna_rows(mdata: MuData) -> np.ndarray:
    return np.flatnonzero(np.asarray(mdata.obsmap["rna"]).ravel())


def same(table: pd.DataFrame, other: pd.DataFrame) -> None:
    """Same genes and numbers, whatever the order among equals."""
    first, second = (t.astype({"gene": str}).sort_values(["dimension", "gene"]) for t in (table, other))
    pd.testing.assert_frame_equal(
        first.drop(columns="rank").reset_index(drop=True),
        second.drop(columns="rank").reset_index(drop=True),
        check_dtype=False,
        rtol=1e-3,
        atol=1e-6,
    )


def test_genes_of_a_program_come_first_and_an_unseen_program_is_not_tested(planted: MuData) -> None:
    loadings = planted.uns["synthetic_screen"]["gene_loadings"]
    result = genes_of(planted, rankby_abs=True)
    table = result["table"]
    assert sorted(table["dimension"].unique()) == [0, 1, 2, 3, 5, 6, NOISE]  # 4 is seen in images only
    for dimension in (0, 1, 2, 3, 5):
        top = table[(table["dimension"] == dimension) & (table["rank"] <= 8)].set_index("gene")
        is_member = loadings.iloc[:, dimension].reindex(top.index) != 0
        assert is_member.mean() >= 0.6  # an eighth of all genes are members
        assert (top["q_value"][is_member] < 0.05).mean() > 0.8
        signs = np.sign(loadings.iloc[:, dimension].reindex(top.index)[is_member])
        assert (signs == np.sign(top["correlation"][is_member])).all()
    assert (table.loc[table["dimension"] == NOISE, "q_value"] > 0.01).all()


def test_genes_of_the_cell_cycle_are_found(planted: MuData) -> None:
    cycling = planted.uns["synthetic_screen"]["genes"]["cell_cycle_loading"] > 0
    table = genes_of(planted)["table"]
    top = table[(table["dimension"] == 6) & (table["rank"] <= 4)]["gene"]
    assert cycling[top].all()


def test_correlations_are_pearsons_of_what_scanpy_normalises(planted: MuData) -> None:
    result = genes_of(planted, n_genes=200, rankby_abs=True, min_cells=1)
    expected = planted["rna"].copy()
    sc.pp.normalize_total(expected)
    sc.pp.log1p(expected)
    activations = planted.obsm["X_sae"].toarray()[rna_rows(planted)]
    frame = pd.DataFrame(expected.X.toarray(), columns=expected.var_names)
    assert list(result["background"]) == [gene for gene in frame if frame[gene].any()]
    table = result["table"]
    for row in table.itertuples():
        assert row.correlation == pytest.approx(pearsonr(activations[:, row.dimension], frame[row.gene])[0], abs=1e-4)
    # All tests are listed here, so that the q-values are exact.
    assert len(table) == 7 * len(result["background"])
    np.testing.assert_allclose(table["q_value"], false_discovery_control(table["p_value"]), rtol=1e-6)
    rng = np.random.default_rng(0)
    for row in table[table["p_value"].between(0.01, 0.5)].sample(20, random_state=0).itertuples():
        values = frame[row.gene].to_numpy()
        shuffled = np.stack([rng.permutation(values) for _ in range(4000)])
        null = shuffled @ (activations[:, row.dimension] - activations[:, row.dimension].mean())
        observed = values @ (activations[:, row.dimension] - activations[:, row.dimension].mean())
        one_sided = min((null >= observed).mean(), (null <= observed).mean())
        assert row.p_value == pytest.approx(2 * one_sided, rel=0.3, abs=0.01)


def test_independent_sparse_values_are_no_finding() -> None:
    # A cell that alone has a rare activation and a rare gene is a large correlation, and by chance common among many.
    rng = np.random.default_rng(0)
    means, shares = np.geomspace(0.005, 3, 600), np.geomspace(0.005, 0.3, 60)
    cells = AnnData(sparse.csr_matrix(rng.poisson(means, (2000, 600)).astype(np.float32)))
    activations = (rng.random((2000, 60)) < shares) * rng.exponential(size=(2000, 60))
    cells.obsm["X_sae"] = sparse.csr_matrix(activations.astype(np.float32))
    table = genes_of(cells, rankby_abs=True, n_genes=600, min_cells=10)["table"]
    assert (table["q_value"] > 0.05).all()
    assert 0.002 < (table["p_value"] < 0.01).mean() < 0.015


def test_by_default_only_genes_that_rise_are_listed_and_short_lists_never_call_more(planted: MuData) -> None:
    every = genes_of(planted, n_genes=200, rankby_abs=True)["table"].set_index(["dimension", "gene"])
    table = genes_of(planted, n_genes=5)["table"]
    assert (table["correlation"] > 0).all()
    assert (table.groupby("dimension").size() == 5).all()
    falls = table.groupby("dimension")["correlation"].apply(lambda values: values.is_monotonic_decreasing)
    assert falls.all()
    exact = every.loc[pd.MultiIndex.from_frame(table[["dimension", "gene"]]), "q_value"].to_numpy()
    assert (table["q_value"] >= exact - 1e-12).all()


def test_a_batch_that_moves_both_makes_no_gene_of_a_dimension(planted: MuData) -> None:
    rng = np.random.default_rng(0)
    rna = planted["rna"].copy()
    batch = rng.integers(2, size=rna.n_obs)
    rna.obs["plate"] = pd.Categorical(np.array(["a", "b"])[batch])
    rna.X = sparse.csr_matrix(rna.X.toarray() + 3 * batch[:, None] * (np.arange(rna.n_vars) < 5))
    rna.obsm["X_sae"] = (batch + 0.3 * rng.normal(size=rna.n_obs))[:, None].astype(np.float32)
    plain = genes_of(rna)["table"].set_index("gene")
    removed = genes_of(rna, batch_key="plate", n_genes=200, rankby_abs=True)["table"].set_index("gene")
    moved = list(rna.var_names[:5])
    assert (plain.loc[moved, "q_value"] < 1e-6).all()
    assert (removed["q_value"] > 0.05).all()
    counts = rna.X.toarray()
    logged = np.log1p(counts[:, 7] * np.median(counts.sum(axis=1)) / counts.sum(axis=1))
    residual = [v - pd.Series(v).groupby(batch).transform("mean") for v in (rna.obsm["X_sae"][:, 0], logged)]
    assert removed.loc[rna.var_names[7], "correlation"] == pytest.approx(np.corrcoef(*residual)[0, 1], abs=1e-4)


def test_sparse_dense_and_per_modality_activations_and_small_blocks_agree(
    planted: MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = genes_of(planted)["table"]
    rna = planted["rna"].copy()
    rna.obsm["X_sae"] = planted.obsm["X_sae"][rna_rows(planted)].tocsc()
    same(genes_of(rna)["table"], expected)
    rna.obsm["X_sae"] = rna.obsm["X_sae"].toarray()
    same(genes_of(rna)["table"], expected)
    rna.layers["counts"], rna.X = rna.X, None
    same(genes_of(rna, layer="counts")["table"], expected)
    monkeypatch.setattr(_activations, "CHUNK_VALUES", 2 * rna.n_obs)  # two dimensions at a time
    same(genes_of(planted)["table"], expected)


def test_log_normalised_expression_is_taken_as_it_is(planted: MuData) -> None:
    expected = genes_of(planted)["table"]
    rna = planted["rna"].copy()
    rna.obsm["X_sae"] = planted.obsm["X_sae"][rna_rows(planted)]
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    same(genes_of(rna, is_normalized=True)["table"], expected)
    with pytest.raises(ValueError, match=r"not whole numbers, for example .*pass is_normalized=True"):
        genes_of(rna)
    rna.X = -rna.X
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        genes_of(rna, is_normalized=True)


def test_the_users_expression_is_not_changed(planted: MuData) -> None:
    before = planted["rna"].X.copy()
    genes_of(planted)
    assert (planted["rna"].X != before).nnz == 0


@pytest.mark.parametrize("is_sparse", [True, False])
def test_cells_without_a_finite_embedding_are_left_out(planted: MuData, is_sparse: bool) -> None:
    rna = planted["rna"].copy()
    dense = planted.obsm["X_sae"].toarray()[rna_rows(planted)]
    expected = rna[50:].copy()
    expected.obsm["X_sae"] = dense[50:]
    wanted = genes_of(expected)["table"]
    dense[:50, 0] = np.nan
    rna.obsm["X_sae"] = sparse.csr_matrix(dense) if is_sparse else dense
    with pytest.warns(UserWarning, match="50 of 1520 cells of 'all' are NaN or infinite"):
        found = genes_of(rna)["table"]
    # Totals are brought to the median of all cells, which these 50 hardly move.
    pd.testing.assert_series_equal(found.groupby("dimension").size(), wanted.groupby("dimension").size())
    first, second = (t[t["rank"] <= 3].set_index(["dimension", "gene"])["correlation"] for t in (found, wanted))
    np.testing.assert_allclose(first.to_numpy(), second.to_numpy(), atol=1e-3)


def test_q_values_of_listed_tests_are_exact_if_all_small_ones_are_listed() -> None:
    p_values = np.random.default_rng(0).uniform(size=200) ** 3
    exact = false_discovery_control(p_values)
    listed = np.flatnonzero(p_values < 0.3)
    found = adjust_listed(p_values[listed], 200)
    is_small = exact[listed] < 0.25
    np.testing.assert_allclose(found[is_small], exact[listed][is_small])
    assert (found >= exact[listed] - 1e-12).all()
    assert adjust_listed(np.zeros(0), 10).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key": "X_other"}, KeyError, "no activations 'X_other'.*petri_scvi.tl.fit_sae"),
        ({"modality": "protein"}, KeyError, "modality='protein' is not in mdata.mod"),
        ({"layer": "raw"}, KeyError, r"layer='raw' is not in mdata\['rna'\].layers"),
        ({"batch_key": "plate"}, KeyError, "batch_key='plate' is not a column of obs"),
        ({"n_genes": 0}, ValueError, "n_genes=0"),
        ({"min_cells": 10**6}, ValueError, "0 of 9 dimensions and 0 of 120 genes are nonzero in min_cells=1000000"),
        ({"modality": "image"}, ValueError, "X is empty; name the layer"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    planted: MuData, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        genes_of(planted, **arguments)
    assert "petri_scvi" not in planted.uns


def test_a_modality_without_cells_is_refused(planted: MuData) -> None:
    few = planted[~np.asarray(planted.obsmap["rna"]).ravel().astype(bool)].copy()
    assert few["rna"].n_obs == 0
    with pytest.raises(ValueError, match="modality='rna' has no cells; name another one"):
        tl.dimension_genes(few, progress=False)
