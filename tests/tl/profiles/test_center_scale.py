from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from petri_scvi.tl import (
    _embedding,
    _read_rows,
    aggregate_profiles,
    center_scale,
    guide_consistency,
    mean_average_precision,
    perturbation_strength,
    replicate_consistency,
    whiten,
)
from petri_scvi.tl.guides._guide_statistics import read_statistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tiny() -> AnnData:
    """Two replicates of three controls and one treated cell; medians 2 and 20, deviations 1 and 10 before 1.4826."""
    obs = pd.DataFrame(
        {
            "target_gene": ["non-targeting"] * 3 + ["A"] + ["non-targeting"] * 3 + ["A"],
            "replicate": ["r1"] * 4 + ["r2"] * 4,
        },
        index=[str(i) for i in range(8)],
    )
    values = np.array([[1.0], [2.0], [3.0], [5.0], [10.0], [20.0], [30.0], [50.0]])
    return AnnData(obs=obs, obsm={"X_emb": np.hstack([values, -values])})


def test_each_replicate_is_centred_on_its_own_controls() -> None:
    adata = tiny()
    before = adata.obsm["X_emb"].copy()
    center_scale(adata, "X_emb")
    expected = np.array([-1, 0, 1, 3, -1, 0, 1, 3]) / 1.482602218505602
    np.testing.assert_allclose(adata.obsm["X_emb_scaled"], np.stack([expected, -expected], axis=1), rtol=1e-12)
    np.testing.assert_array_equal(adata.obsm["X_emb"], before)
    table = adata.uns["petri_scvi"]["center_scale_X_emb_scaled"]["table"]
    assert table["n_controls"].tolist() == [3, 3]
    assert table["n_cells"].tolist() == [4, 4]
    assert table[["modality", "replicate"]].to_numpy().tolist() == [["all", "r1"], ["all", "r2"]]


def test_the_same_slot_is_overwritten_without_a_second_array() -> None:
    adata, other = tiny(), tiny()
    array = adata.obsm["X_emb"]
    center_scale(adata, "X_emb", key_added="X_emb")
    center_scale(other, "X_emb")
    assert adata.obsm["X_emb"] is array
    np.testing.assert_array_equal(array, other.obsm["X_emb_scaled"])


def test_replicates_can_be_defined_by_several_columns() -> None:
    adata = tiny()
    adata.obs["plate"], adata.obs["well"] = "p", adata.obs["replicate"]
    center_scale(adata, "X_emb", key_added="one")
    center_scale(adata, "X_emb", key_added="two", replicate_key=("plate", "well"))
    np.testing.assert_array_equal(adata.obsm["one"], adata.obsm["two"])


def test_modalities_with_the_same_replicate_names_are_kept_apart(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata()
    mdata.obsm["X_emb"][: mdata["image"].n_obs] += 100
    center_scale(mdata, "X_emb")
    scaled = mdata.obsm["X_emb_scaled"]
    for modality, rows in (("image", slice(0, mdata["image"].n_obs)), ("rna", slice(mdata["image"].n_obs, None))):
        obs = mdata[modality].obs
        for replicate in ("r0", "r1"):
            is_control = ((obs["target_gene"] == "non-targeting") & (obs["replicate"] == replicate)).to_numpy()
            np.testing.assert_allclose(np.median(scaled[rows][is_control], axis=0), 0, atol=1e-5)
    assert len(mdata.uns["petri_scvi"]["center_scale_X_emb_scaled"]["table"]) == 4


def test_slots_of_modalities_are_scaled_where_they_are(make_mudata: Callable[..., MuData]) -> None:
    apart, shared = make_mudata(shared=False), make_mudata()
    center_scale(apart, "X_emb")
    center_scale(shared, "X_emb")
    joined = np.vstack([apart["image"].obsm["X_emb_scaled"], apart["rna"].obsm["X_emb_scaled"]])
    np.testing.assert_array_equal(joined, shared.obsm["X_emb_scaled"])


@pytest.mark.parametrize("kind", ["dask", "memmap", "sparse", "frame"])
def test_any_kind_of_array_gives_the_same_numbers(
    kind: str, make_cells: Callable[..., AnnData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in (_embedding, _read_rows):
        monkeypatch.setattr(reader, "CHUNK_ROWS", 37)  # several chunks
    adata = make_cells()
    values = adata.obsm["X_emb"]
    center_scale(adata, "X_emb", key_added="expected")
    if kind == "dask":
        other = da.from_array(values, chunks=(50, -1))
    elif kind == "memmap":
        other = np.memmap(tmp_path / "embedding", dtype=values.dtype, mode="w+", shape=values.shape)
        other[:] = values
    elif kind == "sparse":
        other = sparse.csr_matrix(values)
    else:
        other = pd.DataFrame(values, index=adata.obs_names)
    adata.obsm["X_other"] = other
    center_scale(adata, "X_other", key_added="X_other")
    np.testing.assert_allclose(adata.obsm["X_other"], adata.obsm["expected"], rtol=1e-6)
    if kind == "memmap":
        np.testing.assert_array_equal(np.asarray(other), values)  # the user's file is as it was


def test_a_constant_dimension_is_counted_and_stays_finite() -> None:
    adata = tiny()
    adata.obsm["X_emb"][:, 1] = 7
    with pytest.warns(UserWarning, match="2 dimensions of 2 of 2 replicates do not vary"):
        center_scale(adata, "X_emb")
    assert np.isfinite(adata.obsm["X_emb_scaled"]).all()
    np.testing.assert_array_equal(adata.obsm["X_emb_scaled"][:, 1], 0)
    assert adata.uns["petri_scvi"]["center_scale_X_emb_scaled"]["table"]["n_floored"].tolist() == [1, 1]


def test_a_flat_dimension_is_scaled_like_a_typical_one() -> None:
    adata = tiny()
    adata.obsm["X_emb"][:3, 1] = 7
    adata.obsm["X_emb"][3, 1] = 7 + 1.482602218505602
    with pytest.warns(UserWarning, match="1 dimensions of 1 of 2"):
        center_scale(adata, "X_emb")
    np.testing.assert_allclose(adata.obsm["X_emb_scaled"][3, 1], 1)


def test_a_replicate_with_one_control_is_named_and_only_centered() -> None:
    adata = tiny()
    adata.obs.loc[["5", "6"], "target_gene"] = "A"
    with pytest.warns(UserWarning, match=r"controls of 1 of 2 replicates do not vary in any dimension: \['all/r2'\]"):
        center_scale(adata, "X_emb")
    np.testing.assert_array_equal(adata.obsm["X_emb_scaled"][4:, 0], [0, 10, 20, 40])


def test_a_replicate_without_controls_is_named() -> None:
    adata = tiny()
    adata.obs.loc[adata.obs["replicate"] == "r2", "target_gene"] = "A"
    with pytest.raises(ValueError, match=r"1 of 2 replicates have no control cell: \['all/r2'\].*coarser"):
        center_scale(adata, "X_emb")


def test_a_replicate_whose_controls_are_all_nan_is_named() -> None:
    adata = tiny()
    adata.obsm["X_emb"][4:7] = np.nan
    with pytest.raises(
        ValueError, match=r"in 1 of 2 replicates all control cells have NaN .*'X_emb'\]: \['all/r2'\].*measure more"
    ):
        center_scale(adata, "X_emb")


def test_nan_controls_are_counted_and_do_not_spoil_the_others() -> None:
    adata, clean = tiny(), tiny()
    extra = AnnData(
        obs=pd.DataFrame({"target_gene": ["non-targeting"], "replicate": ["r1"]}, index=["bad"]),
        obsm={"X_emb": np.array([[np.nan, 0.0]])},
    )

    adata = anndata.concat([adata, extra])
    with pytest.warns(UserWarning, match="1 of 7 controls are NaN"):
        center_scale(adata, "X_emb")
    center_scale(clean, "X_emb")
    np.testing.assert_array_equal(adata.obsm["X_emb_scaled"][:8], clean.obsm["X_emb_scaled"])
    assert np.isnan(adata.obsm["X_emb_scaled"][8, 0])
    table = adata.uns["petri_scvi"]["center_scale_X_emb_scaled"]["table"]
    assert table["n_controls"].tolist() == [3, 3]
    assert table["n_cells"].tolist() == [5, 4]


@pytest.mark.parametrize("control", [0, "0"])
def test_controls_named_by_a_number_are_controls_of_every_function(
    make_cells: Callable[..., AnnData], control: str
) -> None:
    adata = make_cells()
    numbered = adata.copy()
    genes = [c for c in adata.obs["target_gene"].unique() if c != "non-targeting"]
    numbered.obs["target_gene"] = [0 if c == "non-targeting" else 1 + genes.index(c) for c in adata.obs["target_gene"]]
    found = []
    for cells, name in ((adata, "non-targeting"), (numbered, control)):
        center_scale(cells, "X_emb", control=name)
        whiten(cells, "X_emb_scaled", fit_on="controls", control=name)
        guides = aggregate_profiles(cells, key="X_emb_scaled_whitened")
        guide_consistency(guides, control=name, n_null=500)
        mean_average_precision(guides, control=name, n_null=500)
        perturbation_strength(cells, "X_emb", perturbation_key="target_gene", control=name, n_permutations=19)
        replicate_consistency(cells, "X_emb", perturbation_key="target_gene", control=name, n_null=500)
        results = cells.uns["petri_scvi"] | guides.uns["petri_scvi"]
        found.append([cells.obsm["X_emb_scaled_whitened"], len(read_statistics(guides, name).genes)])
        found[-1] += [
            len(results[key]["table"])
            for key in (
                "guide_consistency",
                "mean_average_precision",
                "perturbation_strength_X_emb",
                "replicate_consistency_X_emb",
            )
        ]
    np.testing.assert_allclose(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
    assert set(found[0][1:]) == {len(genes)}


def test_errors_name_what_was_found() -> None:
    adata = tiny()
    with pytest.raises(KeyError, match=r"key='X_pca' is not in adata.obsm, which has \['X_emb'\]"):
        center_scale(adata, "X_pca")
    with pytest.raises(TypeError, match=r"found ndarray\. Store an array in the obsm"):
        center_scale(adata.obsm["X_emb"], "X_emb")
    with pytest.raises(KeyError, match="'well' is not a column of adata.obs"):
        center_scale(adata, "X_emb", replicate_key="well")
    with pytest.raises(ValueError, match=r"no row of adata.obs\['target_gene'\] has 'NTC'.*\['non-targeting'\]"):
        center_scale(adata, "X_emb", control="NTC")
    adata.obs["replicate"] = [None, *adata.obs["replicate"][1:]]
    with pytest.raises(ValueError, match="missing for 1 of 8 cells"):
        center_scale(adata, "X_emb")
    adata.obsm["flat"] = np.zeros((8, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(8, 2, 2\)"):
        center_scale(adata, "flat")


def test_a_row_that_belongs_to_two_modalities_is_refused(make_cells: Callable[..., AnnData]) -> None:
    mdata = MuData({"image": make_cells(), "rna": make_cells()})
    mdata.obsm["X_joint"] = np.asarray(mdata["image"].obsm["X_emb"])
    with pytest.raises(ValueError, match=r"320 cells are in mdata\['rna'\] and in another"):
        center_scale(mdata, "X_joint")
    with pytest.raises(KeyError, match=r"nor in \{'image': \['X_emb'\], 'rna': \['X_emb'\]\}"):
        center_scale(mdata, "X_missing")


def test_in_place_changes_no_other_slot_that_has_the_same_array(make_cells: Callable[..., AnnData]) -> None:
    adata, expected = make_cells(), make_cells()
    adata.obsm["X_kept"] = adata.obsm["X_emb"]
    center_scale(adata, "X_emb", key_added="X_emb")
    np.testing.assert_array_equal(adata.obsm["X_kept"], expected.obsm["X_emb"])
    center_scale(expected, "X_emb")
    np.testing.assert_array_equal(adata.obsm["X_emb"], expected.obsm["X_emb_scaled"])


def test_without_controls_all_cells_of_a_replicate_are_the_reference(make_cells: Callable[..., AnnData]) -> None:
    adata = make_cells()
    adata.obs = adata.obs[["replicate"]]
    center_scale(adata, "X_emb", control=None)
    for replicate in ("r0", "r1"):
        rows = (adata.obs["replicate"] == replicate).to_numpy()
        cells = np.asarray(adata.obsm["X_emb"][rows], dtype=float)
        deviation = 1.4826 * np.median(np.abs(cells - np.median(cells, axis=0)), axis=0)
        expected = (cells - np.median(cells, axis=0)) / deviation
        np.testing.assert_allclose(adata.obsm["X_emb_scaled"][rows], expected, rtol=1e-4, atol=1e-5)
    found = adata.uns["petri_scvi"]["center_scale_X_emb_scaled"]
    assert (found["table"]["n_controls"] == found["table"]["n_cells"]).all()
    assert "control" not in found["parameters"]
