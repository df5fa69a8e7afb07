from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from petri_scvi.tl import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

    MakeCells = Callable[..., AnnData]


def result_of(data: AnnData | MuData, obs_key: str, method: str = "linear", **changes: Any) -> dict[str, Any]:
    probe(data, "X_emb", obs_key=obs_key, method=method, **changes)  # type: ignore[arg-type]
    return data.uns["petri_scvi"][f"probe_X_emb_{obs_key}_{method}"]


def test_balanced_accuracy_is_that_of_scikit_learn(make_cells: MakeCells) -> None:
    adata = make_cells()
    labels = adata.obs["perturbation"].to_numpy(dtype=str)
    expected = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        adata.obsm["X_emb"],
        labels,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        scoring="balanced_accuracy",
    )
    np.testing.assert_allclose(result_of(adata, "perturbation")["table"]["balanced_accuracy"], expected)


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_what_is_in_the_embedding_is_found_and_noise_is_at_chance(make_cells: MakeCells, method: str) -> None:
    adata = make_cells(n_per_guide=40)
    adata.obs["noise"] = np.random.default_rng(0).choice(list("ab"), adata.n_obs)
    replicate = result_of(adata, "replicate", method)["summary"].iloc[0]
    noise = result_of(adata, "noise", method)["summary"].iloc[0]
    assert replicate["balanced_accuracy"] > 0.9
    assert replicate["auc"] > 0.95
    assert noise["balanced_accuracy"] == pytest.approx(noise["chance"], abs=0.08)
    assert noise["chance"] == 0.5


def test_no_cell_is_scored_by_a_model_that_saw_it(make_cells: MakeCells) -> None:
    """Duplicates would give one nearest neighbour a perfect score; labels here are noise."""
    adata = make_cells(n_per_guide=40)
    adata.obs["noise"] = np.random.default_rng(0).choice(list("ab"), adata.n_obs)
    table = result_of(adata, "noise", "knn", n_neighbors=1)["table"]
    assert table["balanced_accuracy"].mean() < 0.6
    assert table["n_cells"].sum() == adata.n_obs


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_columns_of_floats_are_regressed(make_cells: MakeCells, method: str) -> None:
    adata = make_cells(n_per_guide=40)
    adata.obs["dose"] = adata.obsm["X_emb"][:, 0].astype(float) * 2 + 1
    result = result_of(adata, "dose", method)
    assert result["summary"]["r2"].item() > 0.9
    assert (result["table"]["n_classes"] == 0).all()


def test_categories_of_floats_and_whole_numbers_that_miss_some_are_told_from_measurements(
    make_cells: MakeCells,
) -> None:
    adata = make_cells(n_per_guide=40)
    codes = np.arange(adata.n_obs) % 3
    adata.obs["plate"] = pd.Categorical(codes / 2)
    assert (result_of(adata, "plate")["table"]["n_classes"] == 3).all()
    expected = result_of(adata, "plate")["table"]
    adata.obs["plate"] = codes / 2
    assert "r2" in result_of(adata, "plate")["table"]
    adata.obs["plate"] = codes
    pd.testing.assert_frame_equal(result_of(adata, "plate")["table"], expected)
    adata.obs["plate"] = np.where(np.arange(adata.n_obs) == 5, np.nan, codes)
    with pytest.warns(UserWarning, match=r"missing for 1 cells and otherwise has floats that are whole.*'category'"):
        result_of(adata, "plate")
    adata.obs["plate"] = adata.obs["plate"].astype("category")
    assert (result_of(adata, "plate")["table"]["n_classes"] == 3).all()


def test_labels_in_one_modality_and_floats_in_another_are_refused(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    for name, dtype in (("image", int), ("rna", float)):
        mdata[name].obs["plate"] = (np.arange(mdata[name].n_obs) % 3).astype(dtype)
    message = r"obs\['plate'\] has floats in \['rna'\] and labels in \['image'\]\. Convert it in every modality"
    with pytest.raises(ValueError, match=message):
        result_of(mdata, "plate")
    for name in mdata.mod:
        mdata[name].obs["plate"] = mdata[name].obs["plate"].astype("category")
    assert (result_of(mdata, "plate")["table"]["n_classes"] == 3).all()


def test_rare_classes_are_left_out_and_counted(make_cells: MakeCells) -> None:
    adata = make_cells()
    adata.obs["batch"] = ["rare"] * 3 + ["a", "b"] * ((adata.n_obs - 3) // 2) + ["a"]
    with pytest.warns(UserWarning, match=r"1 of 3 values of obs\['batch'\] have fewer than n_folds=5 cells.*'rare'"):
        result = result_of(adata, "batch")
    assert (result["table"]["n_classes"] == 2).all()
    adata.obs["batch"] = "a"
    with pytest.raises(ValueError, match="1 of 1 values.*at least two are needed"):
        result_of(adata, "batch")


def test_modalities_are_probed_apart_and_survive_a_file(make_mudata: Callable[..., MuData], tmp_path: Path) -> None:
    mdata = make_mudata()
    mdata.obsm["X_emb"][0] = np.nan
    with pytest.warns(UserWarning, match="1 of 320 cells are NaN"):
        result = result_of(mdata, "replicate", "knn", max_cells=1000)
    assert result["summary"]["modality"].tolist() == ["image", "rna"]
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["probe_X_emb_replicate_knn"]
    np.testing.assert_array_equal(read["table"]["auc"], result["table"]["auc"])


def test_numbers_out_of_range_and_too_few_cells_are_refused(make_cells: MakeCells) -> None:
    adata = make_cells()
    with pytest.raises(ValueError, match="n_folds=1 is not accepted; pass 2 or more"):
        result_of(adata, "replicate", n_folds=1)
    with pytest.raises(ValueError, match="n_neighbors=0; it must be at least 1"):
        result_of(adata, "replicate", "knn", n_neighbors=0)
    adata.obsm["X_emb"][3:] = np.nan
    with (
        pytest.warns(UserWarning, match="317 of 320 cells are NaN"),
        pytest.raises(ValueError, match="3 cells of modality 'all' have.*n_folds=5 folds need at least as many"),
    ):
        result_of(adata, "replicate")


def test_cells_are_limited(make_cells: MakeCells) -> None:
    assert result_of(make_cells(), "replicate", "knn", max_cells=100)["table"]["n_cells"].sum() == 100
    with pytest.raises(ValueError, match="method='mlp' is not accepted"):
        result_of(make_cells(), "replicate", "mlp")


def test_equal_cells_predict_the_mean_whatever_the_order_of_their_rows() -> None:
    adata = AnnData(obs={"area": np.sort(np.random.default_rng(0).normal(size=200))}, obsm={"X_emb": np.ones((200, 3))})
    result = result_of(adata, "area", method="knn")
    np.testing.assert_allclose(result["table"]["r2"], 0, atol=0.35)
