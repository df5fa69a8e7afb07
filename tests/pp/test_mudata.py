from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from petri_scvi.pp import build_mudata

if TYPE_CHECKING:
    from pathlib import Path


def make(names: list[str], n_vars: int = 2, prefix: str = "g") -> AnnData:
    n_cells = len(names)
    adata = AnnData(
        sparse.csr_matrix(np.arange(n_cells * n_vars, dtype="float32").reshape(n_cells, n_vars)),
        obs=pd.DataFrame({"perturbation": [f"p{i % 2}" for i in range(n_cells)]}, index=names),
        var=pd.DataFrame({"length": np.arange(n_vars)}, index=[f"{prefix}{i}" for i in range(n_vars)]),
    )
    adata.obs["perturbation"] = adata.obs["perturbation"].astype("category")
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_pca"] = np.ones((n_cells, 3))
    adata.varm["loadings"] = np.ones((n_vars, 3))
    adata.uns["channel_names"] = ["dna", "rna"]
    return adata


def test_unique_names_stay_as_they_are() -> None:
    image, rna = make(["a", "b"], prefix="i"), make(["c", "d", "e"])
    mdata = build_mudata(image=image, rna=rna)
    assert list(mdata.mod) == ["image", "rna"]
    assert mdata["image"].obs_names.tolist() == ["a", "b"]
    assert mdata.obs_names.tolist() == ["a", "b", "c", "d", "e"]
    assert mdata["image"] is image
    assert mdata["rna"] is rna


def test_names_that_collide_get_their_modality_as_prefix_in_every_modality() -> None:
    mdata = build_mudata(image=make(["0", "1"], prefix="i"), rna=make(["1", "2"]))
    assert mdata["image"].obs_names.tolist() == ["image:0", "image:1"]
    assert mdata["rna"].obs_names.tolist() == ["rna:1", "rna:2"]
    assert mdata.n_obs == 4


def test_numbers_as_names_may_collide_across_three_modalities() -> None:
    mdata = build_mudata(a=make(["0"], prefix="a"), b=make(["1"], prefix="b"), c=make(["0"], prefix="c"))
    assert mdata.obs_names.tolist() == ["a:0", "b:1", "c:0"]


def test_one_modality_is_a_mudata_too() -> None:
    mdata = build_mudata(image=make(["0", "1"]))
    assert isinstance(mdata, MuData)
    assert mdata.obs_names.tolist() == ["0", "1"]


def test_renamed_modalities_keep_their_contents() -> None:
    rna = make(["0", "1"])
    renamed = build_mudata(image=make(["0", "1"], prefix="i"), rna=rna)["rna"]
    np.testing.assert_array_equal(renamed.X.toarray(), rna.X.toarray())
    np.testing.assert_array_equal(renamed.layers["counts"].toarray(), rna.layers["counts"].toarray())
    np.testing.assert_array_equal(renamed.obsm["X_pca"], rna.obsm["X_pca"])
    np.testing.assert_array_equal(renamed.varm["loadings"], rna.varm["loadings"])
    pd.testing.assert_frame_equal(renamed.var, rna.var)
    pd.testing.assert_frame_equal(renamed.obs.reset_index(drop=True), rna.obs.reset_index(drop=True))
    assert renamed.uns["channel_names"] == ["dna", "rna"]


@pytest.mark.parametrize("slot", ["obsp", "varp", "raw"])
def test_renamed_modalities_keep_their_graphs_and_raw_values(slot: str) -> None:
    rna = make(["0", "1"])
    rna.obsp["connectivities"] = sparse.csr_matrix(np.eye(2))
    rna.varp["correlation"] = np.eye(2)
    rna.raw = rna.copy()
    renamed = build_mudata(image=make(["0", "1"], prefix="i"), rna=rna)["rna"]
    if slot == "raw":
        assert renamed.raw is not None
        np.testing.assert_array_equal(renamed.raw.X.toarray(), rna.raw.X.toarray())
    else:
        assert list(getattr(renamed, slot)) == list(getattr(rna, slot))


def test_renamed_modalities_share_their_arrays_and_do_not_copy_them() -> None:
    image = make(["0", "1"], prefix="i")
    image.obsm["single_cell_images"] = np.zeros((2, 1, 4, 4), dtype="uint16")
    renamed = build_mudata(image=image, rna=make(["0", "1"]))["image"]
    assert np.shares_memory(renamed.obsm["single_cell_images"], image.obsm["single_cell_images"])
    assert np.shares_memory(renamed.X.data, image.X.data)


@pytest.mark.parametrize("names", [["a", "b"], ["0", "1"]])
def test_what_is_put_in_is_not_changed(names: list[str]) -> None:
    """Whether the names collide or not; later changes of the renamed copy do not reach back either."""
    image, rna = make(["0", "1"], prefix="i"), make(names)
    before = {name: adata.copy() for name, adata in [("image", image), ("rna", rna)]}
    mdata = build_mudata(image=image, rna=rna)
    if names == ["0", "1"]:
        mdata["rna"].uns["new"] = mdata["rna"].obs["new"] = mdata["rna"].var["new"] = 1
    for name, adata in [("image", image), ("rna", rna)]:
        pd.testing.assert_frame_equal(adata.obs, before[name].obs)
        pd.testing.assert_frame_equal(adata.var, before[name].var)
        assert list(adata.uns) == list(before[name].uns)
        assert list(adata.obsm) == list(before[name].obsm)


@pytest.mark.parametrize("other", ["z", "0"])
def test_columns_stay_in_their_modality(other: str) -> None:
    mdata = build_mudata(image=make(["0", "1"], prefix="i"), rna=make([other]))
    assert list(mdata.obs.columns) == []
    assert list(mdata["rna"].obs.columns) == ["perturbation"]


@pytest.mark.parametrize("other", ["z", "0"])
def test_images_on_disk_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("images", data=np.arange(2 * 4 * 4, dtype="uint16").reshape(2, 1, 4, 4))
        image = make(["0", "1"], prefix="i")
        image.obsm["single_cell_images"] = images

        def refused(*_: object, **__: object) -> None:
            raise AssertionError("images were read")

        for method in ("__getitem__", "__array__", "read_direct"):
            monkeypatch.setattr(h5py.Dataset, method, refused)
        stored = build_mudata(image=image, rna=make([other]))["image"].obsm["single_cell_images"]
        assert isinstance(stored, h5py.Dataset)
        assert stored == images


def test_an_empty_transcriptome_matrix_is_allowed() -> None:
    image = AnnData(obs=pd.DataFrame({"perturbation": ["a", "b"]}, index=["0", "1"]))
    mdata = build_mudata(image=image, rna=make(["0"]))
    assert mdata["image"].X is None
    assert mdata["image"].n_obs == 2


def test_a_view_is_renamed_like_any_other() -> None:
    rna = make(["0", "1", "2"])[[2, 0]]
    mdata = build_mudata(image=make(["0"], prefix="i"), rna=rna)
    assert mdata["rna"].obs_names.tolist() == ["rna:2", "rna:0"]
    assert mdata["rna"].X.toarray().tolist() == [[4, 5], [0, 1]]


def test_names_that_repeat_inside_a_modality_are_refused_with_the_fix() -> None:
    rna = make(["a", "b"])
    rna.obs_names = pd.Index(["a", "a"])
    with pytest.raises(ValueError, match=r"obs_names of 'rna' are not unique\. Call rna\.obs_names_make_unique\(\)"):
        build_mudata(image=make(["c"], prefix="i"), rna=rna)


def test_no_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="no modality was passed"):
        build_mudata()


def test_cells_that_share_a_name_with_the_modality_in_front_are_refused() -> None:
    parts = {"a": ["b:1", "1"], "a:b": ["1"]}
    cells = {name: AnnData(obs=pd.DataFrame(index=names)) for name, names in parts.items()}
    with pytest.raises(ValueError, match="Name the modalities without ':'"):
        build_mudata(**cells)
    assert build_mudata(a=cells["a"], b=cells["a:b"]).n_obs == 3
