from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import CategoricalNB

from petri_scvi.tl import dimension_wells, multimodal_dimensions
from petri_scvi.tl.concepts.dimensions._dimension_wells import auc_of_dimension

if TYPE_CHECKING:
    from pathlib import Path

SHARES = {"image": [0.5, 0.5, 0.05, 0.95, 0.1, 0.0], "rna": [0.5, 0.0, 0.5, 0.5, 0.9, 0.0]}
"""Share of cells that activate each dimension; the first and the fifth are multimodal, as the range has its ends."""
N_CELLS = {"image": 400, "rna": 200}


def screen(seed: int = 0) -> MuData:
    """Activations with these shares, exactly; wells of images move dimension 1."""
    rng = np.random.default_rng(seed)
    mods, parts = {}, []
    for name, shares in SHARES.items():
        n = N_CELLS[name]
        codes = np.zeros((n, len(shares)), dtype=np.float32)
        for dimension, share in enumerate(shares):
            rows = rng.permutation(n)[: round(share * n)]
            codes[rows, dimension] = rng.uniform(1, 2, size=len(rows))
        well = (
            np.where(codes[:, 1] > 1.5, "a", rng.choice(["b", "c"], size=n))
            if name == "image"
            else rng.choice(["a", "b"], n)
        )
        mods[name] = AnnData(obs=pd.DataFrame({"well": well}, index=[f"{name}{i}" for i in range(n)]))
        parts.append(codes)
    mdata = MuData(mods)
    mdata.obsm["X_sae"] = sparse.csr_matrix(np.vstack(parts))
    return mdata


def test_dimensions_in_range_in_both_modalities_are_multimodal(tmp_path: Path) -> None:
    mdata = screen()
    multimodal_dimensions(mdata)
    mdata.write(tmp_path / "screen.h5mu")
    for data in (mdata, mudata.read(tmp_path / "screen.h5mu")):
        result = data.uns["petri_scvi"]["multimodal_dimensions"]
        table, summary = result["table"], result["summary"].iloc[0]
        np.testing.assert_allclose(table["activity_image"], SHARES["image"])
        np.testing.assert_allclose(table["activity_rna"], SHARES["rna"])
        assert table["is_multimodal"].tolist() == [True, False, False, False, True, False]
        assert (summary["n_dimensions"], summary["n_alive"], summary["n_multimodal"]) == (6, 5, 2)
        assert (summary["n_within_image"], summary["n_within_rna"]) == (3, 4)
        assert summary["n_expected"] == pytest.approx(3 * 4 / 5)


def test_models_are_compared_in_one_call_and_the_range_can_be_changed() -> None:
    mdata = screen()
    mdata.obsm["X_other"] = mdata.obsm["X_sae"][:, [1, 2]]
    multimodal_dimensions(mdata, {"PETRI": "X_sae", "CLIP": "X_other"}, min_activity=0.04, max_activity=0.96)
    summary = mdata.uns["petri_scvi"]["multimodal_dimensions"]["summary"].set_index("model")
    assert summary["n_multimodal"].to_dict() == {"PETRI": 4, "CLIP": 1}
    assert summary.loc["CLIP", "key"] == "X_other"


@pytest.mark.parametrize("layout", ["modalities", "anndata"])
def test_it_does_not_matter_where_the_activations_lie(layout: str) -> None:
    mdata, expected = screen(), screen()
    multimodal_dimensions(expected)
    if layout == "modalities":
        for name in mdata.mod:
            mdata[name].obsm["X_sae"] = mdata.obsm["X_sae"][np.asarray(mdata.obsmap[name]).ravel() > 0]
        del mdata.obsm["X_sae"]
        data: Any = mdata
        multimodal_dimensions(data)
    else:
        obs = pd.DataFrame({"kind": np.repeat(["image", "rna"], [400, 200])}, index=mdata.obs_names)
        data = AnnData(obs=obs, obsm={"X_sae": mdata.obsm["X_sae"].toarray()})
        multimodal_dimensions(data, modality_key="kind")
    pd.testing.assert_frame_equal(
        data.uns["petri_scvi"]["multimodal_dimensions"]["table"],
        expected.uns["petri_scvi"]["multimodal_dimensions"]["table"],
    )


def test_cells_without_activations_are_no_inactive_cells() -> None:
    mdata = screen()
    dense = mdata.obsm["X_sae"].toarray()
    mdata.obsm["X_sae"] = dense.copy()
    mdata.obsm["X_sae"][:100] = np.nan  # of 400 image cells
    with pytest.warns(UserWarning, match="100 of 600 cells of obsm..X_sae.. are NaN"):
        multimodal_dimensions(mdata)
    result = mdata.uns["petri_scvi"]["multimodal_dimensions"]
    np.testing.assert_allclose(result["table"]["activity_image"], (dense[100:400] > 0).mean(axis=0))
    with pytest.warns(UserWarning, match="are NaN"):
        dimension_wells(mdata, progress=False)
    mdata.obsm["X_sae"][500] = -1
    with pytest.raises(ValueError, match="has negative values"):
        multimodal_dimensions(mdata)


def test_modalities_of_an_anndata_may_be_numbers() -> None:
    mdata = screen()
    cells = AnnData(obs=pd.concat([mdata[name].obs for name in SHARES]), obsm={"X_sae": mdata.obsm["X_sae"]})
    cells.obs["assay"] = np.repeat([0, 1], list(N_CELLS.values()))
    multimodal_dimensions(cells, modality_key="assay")
    assert cells.uns["petri_scvi"]["multimodal_dimensions"]["summary"]["n_multimodal"].item() == 2
    dimension_wells(cells, modality_key="assay", progress=False)
    assert set(cells.uns["petri_scvi"]["dimension_wells_X_sae_well"]["table"]["modality"]) == {"0", "1"}


def test_what_has_no_activations_or_one_modality_is_refused() -> None:
    mdata = screen()
    with pytest.raises(
        KeyError, match=r"no activations 'X_none'.*petri_scvi.tl.fit_sae\(data, 'X_petri', key_added='X_none'\)"
    ):
        multimodal_dimensions(mdata, "X_none")
    mdata.obsm["X_petri"] = np.random.default_rng(0).normal(size=(600, 3))
    with pytest.raises(ValueError, match="negative values, so it holds no activations. Fit an autoencoder to it first"):
        multimodal_dimensions(mdata, "X_petri")
    with pytest.raises(ValueError, match="min_activity=0.9, max_activity=0.1 are not accepted"):
        multimodal_dimensions(mdata, min_activity=0.9, max_activity=0.1)
    with pytest.raises(ValueError, match="keys is empty"):
        multimodal_dimensions(mdata, [])
    with pytest.raises(ValueError, match="modality_key='kind' is for an AnnData"):
        multimodal_dimensions(mdata, modality_key="kind")
    adata = AnnData(obs=pd.DataFrame({"kind": "image"}, index=mdata.obs_names), obsm={"X_sae": mdata.obsm["X_sae"]})
    with pytest.raises(ValueError, match="Pass the obs column that does as modality_key"):
        multimodal_dimensions(adata)
    with pytest.raises(ValueError, match=r"of 1 modalities, \['image'\]; at least two are needed"):
        multimodal_dimensions(adata, modality_key="kind")
    assert "petri_scvi" not in mdata.uns


def test_auc_of_a_dimension_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    values = np.where(rng.random(300) < 0.6, 1 + rng.exponential(size=300) + 0.5 * labels, 0)
    folds, scores = np.empty(300, dtype=np.intp), []
    edges = np.quantile(values[values > 0], np.arange(1, 10) / 10)
    level = np.where(values > 0, 1 + np.searchsorted(edges, values, side="right"), 0)[:, None]
    for fold, (fit, held_out) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)):
        folds[held_out] = fold
        chances = CategoricalNB(min_categories=11).fit(level[fit], labels[fit]).predict_proba(level[held_out])
        scores.append(roc_auc_score(labels[held_out], chances, multi_class="ovr"))
    found = auc_of_dimension(sparse.csc_matrix(values[:, None]), 0, labels, folds)
    assert found == pytest.approx(np.mean(scores), abs=1e-9)
    assert found > 0.6


def test_the_dimension_that_depends_on_the_well_is_found_and_ranks_are_compared(tmp_path: Path) -> None:
    mdata = screen()
    dimension_wells(mdata, n_folds=4, progress=False)
    result = mdata.uns["petri_scvi"]["dimension_wells_X_sae_well"]
    image = result["table"].query("modality == 'image'").set_index("dimension")
    assert image["auc"].idxmax() == 1
    assert image.loc[1, "auc"] > 0.7
    assert image.loc[[0, 3, 4], "auc"].to_numpy() == pytest.approx(0.5, abs=0.1)
    assert np.isnan(image.loc[5, "auc"])
    row = result["summary"].query("modality == 'image' and other == 'all'").iloc[0]
    others = image.loc[[1, 2, 3], "auc"]
    test = mannwhitneyu(image.loc[[0, 4], "auc"], others)
    assert (row["n_multimodal"], row["n_other"], row["p_value"]) == (2, 3, pytest.approx(test.pvalue))
    assert row["share_larger"] == pytest.approx(test.statistic / 6)
    as_active = result["summary"].query("modality == 'image' and other == 'as_active'").iloc[0]
    assert (as_active["n_other"], as_active["median_other"]) == (1, image.loc[1, "auc"])
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["dimension_wells_X_sae_well"]
    np.testing.assert_array_equal(read["table"]["auc"], result["table"]["auc"])


def test_wells_that_cannot_be_predicted_are_refused() -> None:
    mdata = screen()
    with pytest.raises(KeyError, match="'plate' is not a column"):
        dimension_wells(mdata, obs_key="plate", progress=False)
    with pytest.raises(ValueError, match="n_folds=1 is not accepted; pass 2 or more"):
        dimension_wells(mdata, n_folds=1, progress=False)
    for modality in mdata.mod.values():
        modality.obs["batch"] = "one"
    with pytest.raises(ValueError, match="1 of 1 values.*at least two are needed"):
        dimension_wells(mdata, obs_key="batch", progress=False)
