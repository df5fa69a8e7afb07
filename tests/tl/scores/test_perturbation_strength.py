from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance, kstest

from petri_scvi.tl import center_scale, perturbation_strength
from petri_scvi.tl.scores._perturbation_strength import energy_test

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    MakeCells = Callable[..., AnnData]


def table_of(data: AnnData | MuData, **changes: Any) -> Any:
    perturbation_strength(data, "X_emb", **({"progress": False, "n_permutations": 199} | changes))
    return data.uns["petri_scvi"]["perturbation_strength_X_emb"]["table"]


def test_the_distance_is_its_definition_over_distinct_cells(rng: np.random.Generator) -> None:
    treated, control = rng.normal(size=(7, 3)), rng.normal(size=(9, 3)) + 1
    both, label = np.vstack([treated, control]), np.repeat([True, False], [7, 9])
    found, _ = energy_test(both, label, np.zeros(16, dtype=np.intp), 9, rng)
    within = [cdist(x, x)[~np.eye(len(x), dtype=bool)].mean() for x in (treated, control)]
    assert found == pytest.approx(2 * cdist(treated, control).mean() - sum(within), abs=1e-12)


def test_in_one_dimension_it_agrees_with_scipy(rng: np.random.Generator) -> None:
    """SciPy averages over all pairs of cells, self-pairs included, and takes the root of half."""
    treated, control = rng.normal(size=(30, 1)), rng.normal(size=(40, 1)) + 0.5
    found, _ = energy_test(
        np.vstack([treated, control]), np.repeat([True, False], [30, 40]), np.zeros(70, dtype=np.intp), 1, rng
    )
    of_self = sum(cdist(x, x).sum() / len(x) ** 2 / (len(x) - 1) for x in (treated, control))
    assert found + of_self == pytest.approx(energy_distance(treated.ravel(), control.ravel()) ** 2, abs=1e-12)


def test_active_perturbations_are_found_and_ranked(make_cells: MakeCells) -> None:
    adata = make_cells()
    is_silent = adata.obs["target_gene"].isin(["GENE0", "GENE1"]).to_numpy()
    adata.obsm["X_emb"][is_silent] = np.random.default_rng(0).normal(size=(is_silent.sum(), 5))
    adata.obsm["X_emb"][is_silent & (adata.obs["replicate"] == "r1").to_numpy()] += 6
    table = table_of(adata)
    assert table["energy_distance"].is_monotonic_decreasing
    assert set(table["perturbation"][-2:]) == {"GENE0", "GENE1"}
    assert table.set_index("perturbation")["is_active"].to_dict() == {
        f"GENE{i}": i > 1 for i in table["perturbation"].str.removeprefix("GENE").astype(int)
    }
    assert table["p_value"].min() == 1 / 200


def test_a_perturbation_in_another_replicate_mix_is_no_effect(make_cells: MakeCells) -> None:
    """Replicates differ; GENE0 has more cells in one of them. Only the exchange within replicates sees through it."""
    adata = make_cells(signal=0.0, n_per_guide=40)
    adata.obsm["X_emb"][(adata.obs["replicate"] == "r1").to_numpy()] += 3
    is_rare = (adata.obs["perturbation"] == "GENE0") & (adata.obs["replicate"] == "r0")
    adata = adata[~is_rare | (np.arange(adata.n_obs) % 8 == 0)].copy()
    stratified = table_of(adata).set_index("perturbation")
    free = table_of(adata, replicate_key=None).set_index("perturbation")
    assert not stratified.loc["GENE0", "is_active"]
    assert free.loc["GENE0", "is_active"]


@pytest.mark.slow
def test_p_values_are_uniform_without_effect(make_cells: MakeCells) -> None:
    p_values: list[float] = []
    for seed in range(200):
        adata = make_cells(n_genes=1, n_guides=1, n_per_guide=12, signal=0.0, seed=seed)
        p_values += table_of(adata, seed=seed)["p_value"].tolist()
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_at_most_so_many_cells_are_compared(make_cells: MakeCells) -> None:
    table = table_of(make_cells(), max_cells=11)
    assert (table["n_cells"] == 40).all()
    assert (table[["n_cells_compared", "n_controls_compared"]] == 11).all(axis=None)


def test_what_cannot_be_tested_is_counted(make_cells: MakeCells) -> None:
    adata = make_cells()
    lonely = np.flatnonzero(adata.obs["perturbation"] == "GENE0")[1:]
    adata = adata[np.setdiff1d(np.arange(adata.n_obs), lonely)].copy()
    adata.obsm["X_emb"][adata.n_obs - 1] = np.nan
    with (
        pytest.warns(UserWarning, match="1 of 6 perturbations have fewer than 2 cells"),
        pytest.warns(UserWarning, match="cells of modality 'all' are NaN"),
    ):
        table = table_of(adata).set_index("perturbation")
    assert np.isnan(table.loc["GENE0", "p_value"])
    assert not table.loc["GENE0", "is_active"]
    assert table.drop("GENE0")["q_value"].notna().all()


@pytest.mark.slow
def test_scaling_on_few_controls_makes_nothing_active(make_cells: MakeCells) -> None:
    """Controls lie closer to the origin than other cells, once they are what the scaling was estimated on."""
    p_values: list[float] = []
    for seed in range(40):
        adata = make_cells(n_genes=6, n_guides=1, n_per_guide=30, n_dims=32, signal=0.0, seed=seed)
        is_extra = adata.obs["guide"].isin(["sg8", "sg9"]).to_numpy()
        adata = adata[~is_extra].copy()  # 30 controls in each of two replicates
        center_scale(adata, "X_emb")
        perturbation_strength(adata, "X_emb_scaled", n_permutations=99, progress=False, seed=seed)
        scaled = adata.uns["petri_scvi"]["perturbation_strength_X_emb_scaled"]["table"]
        pd.testing.assert_frame_equal(scaled, table_of(adata, n_permutations=99, seed=seed), rtol=1e-4)
        p_values += scaled["p_value"].tolist()
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_a_constant_dimension_does_not_matter(make_cells: MakeCells) -> None:
    adata, other = make_cells(), make_cells()
    constant = np.full((other.n_obs, 1), 0.1, dtype=np.float32)
    other.obsm["X_emb"] = np.hstack([other.obsm["X_emb"], constant])
    pd.testing.assert_frame_equal(table_of(other), table_of(adata))


def test_cells_whose_replicate_has_no_control_are_left_out_and_counted(make_cells: MakeCells) -> None:
    """Otherwise the difference between replicates would be added to the distance."""
    adata = make_cells()
    is_control = (adata.obs["perturbation"] == "non-targeting").to_numpy()
    adata = adata[~(is_control & (adata.obs["replicate"] == "r1").to_numpy())].copy()
    with pytest.warns(UserWarning, match="120 cells of modality 'all' are in replicates without controls, or in none"):
        found = table_of(adata)
    expected = table_of(adata[(adata.obs["replicate"] == "r0").to_numpy()].copy())
    assert (found["n_cells"] == 40).all()
    assert (found["n_cells_compared"] == 20).all()
    pd.testing.assert_frame_equal(found.drop(columns="n_cells"), expected.drop(columns="n_cells"))
    adata.obs["replicate"] = adata.obs["replicate"].where(adata.obs["replicate"] == "r0")  # not named
    with pytest.warns(UserWarning, match="120 cells"):
        pd.testing.assert_frame_equal(table_of(adata), found)


def test_a_nan_control_is_counted_once_however_often_it_is_compared(make_cells: MakeCells) -> None:
    adata = make_cells()
    adata.obsm["X_emb"][np.flatnonzero(adata.obs["perturbation"] == "non-targeting")[:5]] = np.nan
    with pytest.warns(UserWarning, match="^5 cells of modality 'all' are NaN"):
        table_of(adata)


def test_the_units_of_dimensions_do_not_matter(make_cells: MakeCells) -> None:
    adata, other = make_cells(), make_cells()
    other.obsm["X_emb"] = other.obsm["X_emb"].astype(np.float64) * [1e9, 1, 1, 1, 1e-3]
    pd.testing.assert_frame_equal(table_of(other), table_of(adata), rtol=1e-5)


def test_numbers_out_of_range_are_refused(make_cells: MakeCells) -> None:
    for name in ("n_permutations", "max_cells"):
        with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
            table_of(make_cells(), **{name: 0})
    with pytest.raises(ValueError, match="alpha=0 is not accepted"):
        table_of(make_cells(), alpha=0)


def test_controls_are_needed(make_cells: MakeCells) -> None:
    with pytest.raises(ValueError, match=r"no row of adata.obs\['perturbation'\] has 'NTC'.*\['non-targeting'\]"):
        table_of(make_cells(), control="NTC")


def test_modalities_are_tested_apart_and_survive_a_file(make_mudata: Callable[..., MuData], tmp_path: Path) -> None:
    mdata = make_mudata()
    table = table_of(mdata)
    assert table.groupby("modality").size().to_dict() == {"image": 6, "rna": 6}
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["perturbation_strength_X_emb"]
    np.testing.assert_array_equal(read["table"]["energy_distance"], table["energy_distance"])
    assert read["parameters"]["n_permutations"] == 199
