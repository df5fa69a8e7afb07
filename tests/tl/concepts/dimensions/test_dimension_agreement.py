from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, concat
from mudata import MuData
from scipy import sparse
from scipy.stats import pearsonr

from petri_scvi.tl import dimension_agreement

if TYPE_CHECKING:
    from pathlib import Path

N_PERTURBATIONS, N_EACH = 12, 30


def screen(meaning: str, n_dimensions: int = 4, seed: int = 0) -> MuData:
    """Activations of half of the cells.

    Perturbations move each dimension ``"alike"`` in both modalities, in an order of its own, ``"apart"`` in each, or
    all dimensions by their strength alone.
    """
    rng = np.random.default_rng(seed)
    effects = {"image": rng.normal(size=(N_PERTURBATIONS, n_dimensions))}
    effects["rna"] = effects["image"] if meaning == "alike" else rng.normal(size=(N_PERTURBATIONS, n_dimensions))
    if meaning == "strength":
        effects = dict.fromkeys(effects, np.repeat(np.linspace(-2, 2, N_PERTURBATIONS)[:, None], n_dimensions, axis=1))
    labels = np.repeat([f"p{i:02}" for i in range(N_PERTURBATIONS)], N_EACH)
    mods, parts = {}, []
    for name, of_modality in effects.items():
        mean = np.repeat(of_modality, N_EACH, axis=0)
        active = rng.random(mean.shape) < 0.5
        parts.append(np.where(active, np.maximum(3 + mean + rng.normal(size=mean.shape), 0.01), 0))
        obs = pd.DataFrame({"perturbation": labels}, index=[f"{name}{i}" for i in range(len(labels))])
        mods[name] = AnnData(obs=obs)
    mdata = MuData(mods)
    mdata.obsm["X_sae"] = sparse.csr_matrix(np.vstack(parts))
    return mdata


def found(data: AnnData | MuData) -> tuple[pd.DataFrame, pd.DataFrame]:
    result = data.uns["petri_scvi"]["dimension_agreement"]
    return result["table"], result["summary"].set_index("model")


def test_shared_meaning_is_told_from_none_and_from_common_strength() -> None:
    mdata = screen("alike")
    for other in ("apart", "strength"):
        mdata.obsm[f"X_{other}"] = screen(other).obsm["X_sae"]
    dimension_agreement(mdata, {"alike": "X_sae", "apart": "X_apart", "strength": "X_strength"}, n_permutations=2000)
    table, summary = found(mdata)
    assert summary["n_multimodal"].tolist() == [4, 4, 4]
    assert summary["n_agreeing"].to_dict() == {"alike": 4, "apart": 0, "strength": 4}
    assert summary.loc["alike", "mean_correlation"] > 0.7
    assert abs(summary.loc["alike", "mean_between"]) < 0.3
    assert summary.loc["alike", "p_value"] < 0.06  # four dimensions have 24 orders
    # All move with the strength, so that dimensions agree with others as with themselves.
    assert summary.loc["strength", "mean_between"] > 0.7
    assert summary.loc["strength", "p_value"] > 0.1
    assert table.groupby("model", sort=False)["agrees"].sum().tolist() == [4, 0, 4]


def test_correlation_is_that_of_mean_activations(tmp_path: Path) -> None:
    mdata = screen("apart")
    mdata.obsm["X_sae"] = sparse.hstack([mdata.obsm["X_sae"], sparse.csr_matrix((mdata.n_obs, 1))]).tocsr()
    dimension_agreement(mdata, n_permutations=200)
    table, _ = found(mdata)
    assert table["dimension"].tolist() == [0, 1, 2, 3]  # the last is never active
    codes = mdata.obsm["X_sae"].toarray()
    means = {}
    for name in mdata.mod:
        rows = np.asarray(mdata.obsmap[name]).ravel() > 0
        frame = pd.DataFrame(codes[rows]).groupby(mdata[name].obs["perturbation"].to_numpy()).mean()
        means[name] = frame.to_numpy()
    for i, correlation in enumerate(table["correlation"]):
        assert correlation == pytest.approx(pearsonr(means["image"][:, i], means["rna"][:, i]).statistic)
    mdata.write(tmp_path / "screen.h5mu")
    again, _ = found(mudata.read(tmp_path / "screen.h5mu"))
    np.testing.assert_allclose(again["p_value"], table["p_value"])


def test_p_values_of_dimensions_without_shared_meaning_are_uniform() -> None:
    mdata = screen("apart", n_dimensions=300)
    dimension_agreement(mdata, n_permutations=500)
    table, summary = found(mdata)
    assert 0.02 < (table["p_value"] < 0.05).mean() < 0.09
    assert table["p_value"].mean() == pytest.approx(0.5, abs=0.06)
    assert summary["p_value"].iloc[0] > 0.05


def test_an_anndata_names_the_modality_and_rows_without_a_label_are_left_out() -> None:
    mdata = screen("alike")
    expected = screen("alike")
    dimension_agreement(expected, n_permutations=100)
    parts = []
    for name, modality in mdata.mod.items():
        rows = np.asarray(mdata.obsmap[name]).ravel() > 0
        part = AnnData(obs=modality.obs.assign(assay=name), obsm={"X_sae": mdata.obsm["X_sae"][rows]})
        unlabelled = part[:20].copy()
        unlabelled.obs["perturbation"] = np.nan
        unlabelled.obs_names = [f"unlabelled {name} {i}" for i in range(20)]
        parts += [part, unlabelled]
    adata = concat(parts)
    adata.obs["perturbation"] = adata.obs["perturbation"].astype("category")
    dimension_agreement(adata, modality_key="assay", n_permutations=100)
    np.testing.assert_allclose(found(adata)[0]["correlation"], found(expected)[0]["correlation"])


def test_a_dimension_that_does_not_vary_has_no_correlation() -> None:
    mdata = screen("alike")
    constant = np.tile([0.0, 1.0], mdata.n_obs // 2)[:, None]
    mdata.obsm["X_sae"] = sparse.hstack([mdata.obsm["X_sae"], sparse.csr_matrix(constant)]).tocsr()
    dimension_agreement(mdata, n_permutations=300)
    table, summary = found(mdata)
    assert np.isnan(table["correlation"].iloc[-1])
    assert not table["agrees"].iloc[-1]
    assert summary["n_agreeing"].iloc[0] == 4
    assert summary["mean_correlation"].iloc[0] > 0.7


def test_no_multimodal_dimension_gives_an_empty_table() -> None:
    mdata = screen("alike")
    dimension_agreement(mdata, min_activity=0.9, max_activity=1.0)
    table, summary = found(mdata)
    assert len(table) == 0
    assert summary[["n_multimodal", "n_agreeing"]].iloc[0].tolist() == [0, 0]
    assert np.isnan(summary["p_value"].iloc[0])


def test_too_few_perturbations_name_the_way_out() -> None:
    mdata = screen("alike")
    with pytest.raises(ValueError, match=r"0 values of 'perturbation' have min_cells=31 cells in both 'image'"):
        dimension_agreement(mdata, min_cells=31)
    with pytest.raises(ValueError, match=r"modalities=\['image'\] are not accepted; pass two of"):
        dimension_agreement(mdata, modalities=["image"])
    with pytest.raises(KeyError, match="'gene' is not a column"):
        dimension_agreement(mdata, obs_key="gene")
    with pytest.raises(KeyError, match="Fit an autoencoder"):
        dimension_agreement(mdata, "X_other")
