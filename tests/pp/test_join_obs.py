"""Columns of modalities become columns of all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData, read_h5mu

import petri_scvi
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.io import open_screen
from petri_scvi.pp import build_mudata, join_obs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make(names: list[str], **columns: Any) -> AnnData:
    var = pd.DataFrame(index=[f"{names[0]}_{i}" for i in range(2)])
    return AnnData(np.ones((len(names), 2), dtype="float32"), obs=pd.DataFrame(columns, index=names), var=var)


def make_two(image: dict[str, Any], rna: dict[str, Any]) -> MuData:
    return build_mudata(image=make(["a", "b"], **image), rna=make(["c", "d", "e"], **rna))


def test_a_column_has_the_value_of_each_cell_and_cells_have_their_modality() -> None:
    mdata = make_two({"perturbation": ["y", "x"]}, {"perturbation": ["x", "z", "y"]})
    join_obs(mdata)
    assert mdata.obs["perturbation"].to_dict() == {"a": "y", "b": "x", "c": "x", "d": "z", "e": "y"}
    assert mdata.obs["modality"].tolist() == ["image"] * 2 + ["rna"] * 3
    assert mdata.obs["perturbation"].cat.categories.tolist() == ["x", "y", "z"]
    assert mdata.obs["modality"].cat.categories.tolist() == ["image", "rna"]
    assert list(mdata["rna"].obs) == ["perturbation"]


def test_rows_follow_the_cells_in_any_order() -> None:
    mdata = make_two({"perturbation": ["y", "x"]}, {"perturbation": ["x", "z", "y"]})
    shuffled = mdata[["e", "a", "d", "b", "c"]].copy()
    join_obs(shuffled)
    expected = {"a": "y", "b": "x", "c": "x", "d": "z", "e": "y"}
    assert shuffled.obs["perturbation"].to_dict() == expected
    assert (shuffled.obs["modality"] == "image").to_dict() == {name: name in "ab" for name in expected}


@pytest.mark.parametrize(
    ("image", "rna", "dtype", "values"),
    [
        ([1, 2], [3, 4, 5], "int64", [1, 2, 3, 4, 5]),
        ([1, 2], [0.5, 1, 2], "float64", [1, 2, 0.5, 1, 2]),
        (None, [3, 4, 5], "float64", [None, None, 3, 4, 5]),
        (["u", None], None, "category", ["u", None, None, None, None]),
        ([True, False], [True, True, False], "bool", [True, False, True, True, False]),
        ([True, False], None, "category", [True, False, None, None, None]),
        ([1, 2], ["1", "z", "2"], "category", ["1", "2", "1", "z", "2"]),
        (pd.Categorical(["u", "v"]), pd.Categorical(["w", "u", "w"]), "category", ["u", "v", "w", "u", "w"]),
        (pd.Categorical([2, 1]), pd.Categorical([3, 1, 2]), "category", [2, 1, 3, 1, 2]),
        (pd.Categorical([None, None]), [3, 4, 5], "float64", [None, None, 3, 4, 5]),
        (np.array([1, 2], dtype=object), [3, 4, 5], "int64", [1, 2, 3, 4, 5]),
        (pd.Categorical([None, None]), None, "category", [None] * 5),
    ],
    ids=lambda argument: argument if isinstance(argument, str) else "",
)
def test_text_becomes_categories_numbers_stay_and_what_is_not_there_is_missing(
    tmp_path: Path, image: Any, rna: Any, dtype: str, values: list[Any]
) -> None:
    mdata = make_two(*({} if column is None else {"column": column} for column in (image, rna)))
    join_obs(mdata, "column")
    joined = mdata.obs["column"]
    assert str(joined.dtype) == dtype
    versions = [joined]
    if not isinstance(image, np.ndarray):  # an array of Python objects cannot be written
        mdata.write_h5mu(tmp_path / "screen.h5mu")
        versions.append(read_h5mu(tmp_path / "screen.h5mu").obs["column"])
    for version in versions:
        assert version.isna().tolist() == [value is None for value in values]
        assert version.dropna().tolist() == [value for value in values if value is not None]


def test_categories_that_modalities_share_keep_their_order() -> None:
    dose = pd.CategoricalDtype(["low", "high", "never"], ordered=True)
    mdata = make_two(
        {"dose": pd.Categorical(["high", "low"], dtype=dose)}, {"dose": pd.Categorical(["low"] * 3, dtype=dose)}
    )
    join_obs(mdata, ["dose"])
    assert mdata.obs["dose"].dtype == dose


def make_matched(image: list[Any], rna: list[Any]) -> MuData:
    with columns_stay_in_modalities():
        return MuData(
            {
                "image": make(["a", "b", "c"], perturbation=image, area=[1, 2, 3]),
                "rna": make(["c", "d", "a"], perturbation=rna),
            }
        )


def test_cells_of_several_modalities_name_them_all_and_keep_what_they_agree_on() -> None:
    mdata = make_matched(["x", "y", None], ["z", "w", "x"])
    join_obs(mdata, ["perturbation", "area"])
    assert mdata.obs["modality"].to_dict() == {"a": "image+rna", "b": "image", "c": "image+rna", "d": "rna"}
    assert mdata.obs["perturbation"].to_dict() == {"a": "x", "b": "y", "c": "z", "d": "w"}
    assert mdata.obs["area"].dropna().to_dict() == {"a": 1, "b": 2, "c": 3}


def test_cells_whose_modalities_disagree_are_refused_and_nothing_is_written() -> None:
    mdata = make_matched(["x", "y", "z"], ["z", "w", "u"])
    with pytest.raises(ValueError, match=r"1 cells have different values of 'perturbation'.*'a': \['x', 'u'\]"):
        join_obs(mdata, ["area", "perturbation"])
    assert list(mdata.obs) == []


def test_a_column_of_no_modality_is_refused_with_those_there_are() -> None:
    mdata = make_two({"perturbation": ["y", "x"]}, {"gene": ["x", "z", "y"]})
    with pytest.raises(KeyError, match=r"'guide'.*'image': \['perturbation'\], 'rna': \['gene'\]"):
        join_obs(mdata, ["perturbation", "guide"])
    assert list(mdata.obs) == []


def test_columns_that_were_there_are_replaced_and_others_stay() -> None:
    mdata = make_two({"perturbation": ["y", "x"]}, {"perturbation": ["x", "z", "y"]})
    mdata.obs["perturbation"], mdata.obs["mine"] = "old", 1
    join_obs(mdata)
    mdata["rna"].obs["perturbation"] = "new"
    join_obs(mdata, modality_key="assay")
    assert mdata.obs["perturbation"].tolist() == ["y", "x", "new", "new", "new"]
    assert set(mdata.obs) == {"mine", "perturbation", "modality", "assay"}


def test_the_modality_alone_can_be_written() -> None:
    mdata = make_two({}, {})
    join_obs(mdata, ())
    assert list(mdata.obs) == ["modality"]


def test_a_key_that_is_a_column_views_and_unknown_cells_are_refused_with_the_fix() -> None:
    mdata = make_two({"modality": [1, 2]}, {"perturbation": ["x", "z", "y"]})
    with pytest.raises(ValueError, match="modality_key='modality' is one of columns"):
        join_obs(mdata, ["modality"])
    with pytest.raises(ValueError, match=r"mdata is a view\. Copy it first"):
        join_obs(mdata[:3])
    mdata.mod["rna"] = mdata["rna"][1:].copy()
    with pytest.raises(
        ValueError,
        match=r"mdata\['rna'\] has other cells, or its cells in another order, than when mdata was last.*mdata\.update",
    ):
        join_obs(mdata)
    mdata.update()
    join_obs(mdata)
    assert mdata.obs["perturbation"].dropna().to_dict() == {"d": "z", "e": "y"}
    with pytest.raises(TypeError, match="expected a MuData, found AnnData"):
        join_obs(mdata["rna"])


@pytest.mark.parametrize("pull", [True, False, None])
@pytest.mark.filterwarnings("ignore:From 0.4:FutureWarning")
def test_joined_columns_survive_updates_copies_and_files(screen: MuData, tmp_path: Path, pull: bool | None) -> None:
    """Whether mudata pulls columns up or not; ``None`` is its default before 0.4."""
    join_obs(screen, ["perturbation", "guide", "true_effect"])
    before = screen.obs.copy()
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(mudata, "set_options"):
            patch.setitem(mudata._core.config.OPTIONS, "pull_on_update", pull)
        screen.update()
        copied = screen.copy()
        screen.write_h5mu(tmp_path / "screen.h5mu")
        again = read_h5mu(tmp_path / "screen.h5mu")
    for mdata in (screen, copied, again):
        pd.testing.assert_frame_equal(mdata.obs[list(before)], before)


@pytest.mark.filterwarnings("ignore:The method obs_vector is deprecated:FutureWarning")  # scanpy on newer anndata
def test_scanpy_colours_all_cells_by_joined_columns(screen: MuData, rng: np.random.Generator) -> None:
    import matplotlib.pyplot as plt

    screen.obsm["X_umap"] = rng.normal(size=(screen.n_obs, 2))
    columns = ["perturbation", "true_effect", "is_image"]
    screen["image"].obs["is_image"] = True
    join_obs(screen, columns)
    axes = sc.pl.umap(screen, color=["modality", *columns], show=False)
    assert [ax.get_title() for ax in axes] == ["modality", *columns]
    legend = axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["image", "rna"]
    plt.close("all")


def test_scores_are_the_same_with_joined_columns(screen: MuData, rng: np.random.Generator) -> None:
    screen.obsm["X"] = rng.normal(size=(screen.n_obs, 4))
    edges = screen.uns["synthetic_screen"]["edges"]
    scores = [petri_scvi.tl.score_screen(screen, ["X"], edges=edges, n_bootstrap=0, progress=False)]
    join_obs(screen, ["perturbation", "guide", "target_gene", "replicate"])
    scores += [petri_scvi.tl.score_screen(screen, ["X"], edges=edges, n_bootstrap=0, progress=False)]
    pd.testing.assert_frame_equal(*scores)


def test_arrays_on_disk_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_screen: Callable[..., MuData]
) -> None:
    make_screen().write_h5mu(tmp_path / "screen.h5mu")
    mdata = open_screen(tmp_path / "screen.h5mu")

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("an array was read")

    for method in ("__getitem__", "__array__", "read_direct"):
        monkeypatch.setattr(h5py.Dataset, method, refused)
    join_obs(mdata, ["perturbation", "guide"])
    assert isinstance(mdata["image"].obsm["single_cell_images"], h5py.Dataset)
    expected = [value for adata in mdata.mod.values() for value in adata.obs["guide"]]
    assert mdata.obs["guide"].tolist() == expected
