from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from petri_scvi.tl import _embedding, aggregate_guides, aggregate_profiles, replicate_consistency

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def cells(rows: list[tuple[str | None, str, float]], name: str = "c") -> AnnData:
    """Cells given by guide, target gene and a one-dimensional embedding."""
    obs = pd.DataFrame([r[:2] for r in rows], columns=["guide", "target_gene"])
    obs.index = [f"{name}{i}" for i in range(len(rows))]
    return AnnData(obs=obs, obsm={"X": np.array([[r[2]] for r in rows])})


def unpaired(image: list[tuple[str | None, str, float]], rna: list[tuple[str | None, str, float]]) -> MuData:
    mdata = MuData({"image": cells(image, "i"), "rna": cells(rna, "r")})
    mdata.obsm["X"] = np.vstack([mdata["image"].obsm["X"], mdata["rna"].obsm["X"]])
    return mdata


def test_cells_are_averaged_per_guide() -> None:
    profiles = aggregate_profiles(
        cells([("a1", "A", 1), ("a1", "A", 3), ("a2", "A", 10), ("n", "non-targeting", 0)]), "X"
    )
    assert profiles.obs_names.tolist() == ["a1", "a2", "n"]
    assert profiles.X.ravel().tolist() == [2, 10, 0]
    assert profiles.obs["n_cells"].tolist() == [2, 1, 1]
    assert profiles.obs["target_gene"].tolist() == ["A", "A", "non-targeting"]
    assert "modalities" not in profiles.obs


def test_guides_without_a_finite_cell_have_no_profile_with_two_modalities_either() -> None:
    mdata = unpaired([("a1", "A", 1.0), ("a2", "A", np.nan)], [("a1", "A", 3.0), ("a2", "A", np.nan)])
    with (
        pytest.warns(UserWarning, match="2 cells are NaN"),
        pytest.warns(UserWarning, match="1 guides have no cell with a finite embedding"),
    ):
        profiles = aggregate_profiles(mdata, "X")
    assert profiles.obs_names.tolist() == ["a1"]
    assert profiles.obs["modalities"].tolist() == ["image+rna"]


def test_a_gene_is_the_mean_or_median_of_its_guides_not_of_its_cells() -> None:
    adata = cells([*[("a1", "A", 0.0)] * 98, ("a2", "A", 10.0), ("a3", "A", 50.0)])
    assert aggregate_profiles(adata, "X", level="gene").X.item() == 20
    median = aggregate_profiles(adata, "X", level="gene", over_guides="median")
    assert median.X.item() == 10
    assert median.obs.loc["A", ["n_guides", "n_cells"]].tolist() == [3, 100]


def test_modalities_count_the_same_however_many_cells_they_have() -> None:
    mdata = unpaired([("a1", "A", 0)] * 9, [("a1", "A", 10)])
    profiles = aggregate_profiles(mdata, "X")
    assert profiles.X.item() == 5
    assert profiles.layers["image"].item() == 0
    assert profiles.layers["rna"].item() == 10
    assert profiles.obs["modalities"].tolist() == ["image+rna"]
    assert profiles.obs[["n_cells_image", "n_cells_rna"]].to_numpy().tolist() == [[9, 1]]


def test_a_guide_of_one_modality_keeps_that_one_and_says_so() -> None:
    mdata = unpaired([("a1", "A", 2), ("b1", "B", 4)], [("a1", "A", 10)])
    with pytest.warns(
        UserWarning, match=r"1 of 2 guides have cells in some modalities only \(\{'image': 1\}.*'b1'"
    ) as w:
        profiles = aggregate_profiles(mdata, "X")
    assert w[0].filename == __file__  # the line of the user, not of the package
    assert profiles.X.ravel().tolist() == [6, 4]
    assert np.isnan(profiles.layers["rna"][1, 0])
    assert profiles.obs["modalities"].tolist() == ["image+rna", "image"]


def test_gene_profiles_average_guides_within_each_modality_first() -> None:
    mdata = unpaired([("a1", "A", 2), ("a2", "A", 4)], [("a1", "A", 10)])
    with pytest.warns(UserWarning, match="some modalities only"):
        genes = aggregate_profiles(mdata, "X", level="gene")
    assert genes.layers["image"].item() == 3
    assert genes.layers["rna"].item() == 10
    assert genes.X.item() == 6.5
    assert genes.obs["modalities"].tolist() == ["image+rna"]


def test_one_modality_can_be_chosen() -> None:
    mdata = unpaired([("a1", "A", 2)], [("a1", "A", 10)])
    assert aggregate_profiles(mdata, "X", modality="rna").X.item() == 10
    with pytest.raises(KeyError, match=r"modality='dna' is not in mdata.mod; it has \['image', 'rna'\]"):
        aggregate_profiles(mdata, "X", modality="dna")


def test_separate_spaces_are_not_averaged(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    with pytest.raises(ValueError, match="separate spaces.*late_fusion"):
        aggregate_profiles(mdata, "X_emb")
    assert aggregate_profiles(mdata, "X_emb", modality="image").n_obs == 16


def test_guide_names_that_two_genes_share_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 values of obs\['guide'\].*'sg1': \['A', 'B'\]"):
        aggregate_profiles(cells([("sg1", "A", 0), ("sg1", "B", 0)]), "X")
    with pytest.raises(ValueError, match="'sg1'"):
        aggregate_profiles(unpaired([("sg1", "A", 0)], [("sg1", "B", 0)]), "X")


def test_nan_cells_are_left_out_and_counted() -> None:
    adata = cells([("a1", "A", 1), ("a1", "A", np.nan), ("a1", "A", np.inf), ("b1", "B", np.nan)])
    with (
        pytest.warns(UserWarning, match="3 cells are NaN or infinite"),
        pytest.warns(UserWarning, match="1 guides have"),
    ):
        profiles = aggregate_profiles(adata, "X")
    assert profiles.X.ravel().tolist() == [1]
    assert profiles.obs["n_cells"].tolist() == [1]


def test_cells_without_a_guide_are_left_out() -> None:
    profiles = aggregate_profiles(cells([("a1", "A", 1), (None, "A", 100)]), "X")
    assert profiles.X.item() == 1
    with pytest.raises(ValueError, match="no cell has both a 'guide' and a 'target_gene'"):
        aggregate_profiles(cells([(None, "A", 100)]), "X")


def test_many_guides_and_modalities_in_chunks_equal_a_group_by(
    make_mudata: Callable[..., MuData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_embedding, "CHUNK_ROWS", 29)
    mdata = make_mudata(n_genes=90, n_per_guide=4)  # more guides than an int8 can number
    profiles = aggregate_profiles(mdata, "X_emb")
    values = mdata.obsm["X_emb"].astype(float)
    mdata.obsm["X_dask"] = da.from_array(values, chunks=(100, -1))
    obs = pd.concat([mdata["image"].obs, mdata["rna"].obs])
    modality = np.repeat(["image", "rna"], [mdata["image"].n_obs, mdata["rna"].n_obs])
    expected = pd.DataFrame(values).groupby([modality, obs["guide"].to_numpy()]).mean()
    for name in ("image", "rna"):
        np.testing.assert_allclose(profiles.layers[name], expected.loc[name].loc[profiles.obs_names], rtol=1e-6)
    np.testing.assert_allclose(aggregate_profiles(mdata, "X_dask").X, profiles.X, rtol=1e-12)


def test_chunks_without_a_cell_to_average_are_passed_over(
    make_mudata: Callable[..., MuData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared slot, whole chunks belong to the other modality; in a screen, some hold controls only."""
    mdata = make_mudata()
    expected = aggregate_profiles(mdata, "X_emb", modality="rna")
    replicate_consistency(mdata, "X_emb", n_null=200)
    table = mdata.uns["petri_scvi"]["replicate_consistency_X_emb"]["table"]
    monkeypatch.setattr(_embedding, "CHUNK_ROWS", 29)
    np.testing.assert_allclose(aggregate_profiles(mdata, "X_emb", modality="rna").X, expected.X)
    replicate_consistency(mdata, "X_emb", n_null=200)
    pd.testing.assert_frame_equal(mdata.uns["petri_scvi"]["replicate_consistency_X_emb"]["table"], table)


def test_profiles_survive_a_file(make_mudata: Callable[..., MuData], tmp_path: Path) -> None:
    profiles = aggregate_profiles(make_mudata(), "X_emb")
    profiles.write_h5ad(tmp_path / "profiles.h5ad")
    read = anndata.read_h5ad(tmp_path / "profiles.h5ad")
    np.testing.assert_array_equal(read.layers["rna"], profiles.layers["rna"])
    assert read.uns["petri_scvi"]["aggregate_profiles"]["parameters"]["key"] == "X_emb"
    np.testing.assert_array_equal(aggregate_guides(read).X, aggregate_guides(profiles).X)


def test_errors_name_what_is_accepted() -> None:
    adata = cells([("a1", "A", 1)])
    with pytest.raises(ValueError, match=r"level='cell' is not accepted; pass one of \['guide', 'gene'\]"):
        aggregate_profiles(adata, "X", level="cell")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="profiles.obs has no 'target_gene'"):
        aggregate_guides(AnnData(np.ones((2, 2))))
    with pytest.raises(ValueError, match="names a modality of a MuData"):
        aggregate_profiles(adata, "X", modality="rna")
