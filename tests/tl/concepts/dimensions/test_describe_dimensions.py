"""One row per dimension, with what the tools found, and a search through all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

from petri_scvi import pl, tl
from petri_scvi.tl.concepts.dimensions import _activations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SILENT, NOISE = 7, 8


@pytest.fixture
def described(planted: MuData) -> MuData:
    """All tools called."""
    loadings = planted.uns["synthetic_screen"]["gene_loadings"]
    sets = {f"GO_PROGRAM-{i}": list(loadings.index[loadings.iloc[:, i] != 0]) for i in (0, 1, 2, 3, 5)}
    tl.dimension_image_features(planted)
    tl.dimension_genes(planted, rankby_abs=True, progress=False)
    tl.dimension_gene_sets(planted, sets)
    tl.dimension_activity(planted)
    return planted


def test_each_dimension_has_its_activity_and_its_findings(described: MuData) -> None:
    table = tl.describe_dimensions(described)
    assert list(table.index) == list(range(9))
    activations = described.obsm["X_sae"].toarray() > 0
    for name in ("image", "rna"):
        rows = np.flatnonzero(np.asarray(described.obsmap[name]).ravel())
        np.testing.assert_allclose(table[f"active_{name}"], activations[rows].mean(axis=0))
    np.testing.assert_allclose(table["active"], activations.mean(axis=0))
    assert table["is_multimodal"][[6, NOISE]].all()
    assert not table["is_multimodal"][[4, 5, SILENT]].any()
    for dimension, feature in ((0, "droplet_number (+"), (1, "droplet_number (-"), (2, "nucleus_size (+")):
        assert table.loc[dimension, "image_features"].startswith(feature)
        assert table.loc[dimension, "gene_sets"].startswith(f"GO_PROGRAM-{dimension} (")
        assert table.loc[dimension, "genes"].count("; ") == 2
        assert table.loc[dimension, "n_genes"] > 3
    assert (table.loc[SILENT, ["image_features", "gene_sets", "genes"]] == "").all()
    assert table.loc[SILENT, "n_image_features"] == 0


def test_the_range_is_the_callers_and_dense_embeddings_have_none(described: MuData) -> None:
    tl.multimodal_dimensions(described, min_activity=0.35, max_activity=0.8)
    expected = described.uns["petri_scvi"]["multimodal_dimensions"]["table"]["is_multimodal"]
    table = tl.describe_dimensions(described, min_activity=0.35, max_activity=0.8)
    assert list(table["is_multimodal"]) == list(expected)
    assert 0 < table["is_multimodal"].sum() < tl.describe_dimensions(described)["is_multimodal"].sum()
    described.obsm["X_dense"] = np.random.default_rng(0).normal(size=(described.n_obs, 3))
    assert "is_multimodal" not in tl.describe_dimensions(described, "X_dense")


def test_another_autoencoder_has_no_findings_of_the_one_before(described: MuData) -> None:
    described.obsm["X"] = np.random.default_rng(0).normal(size=(described.n_obs, 4)).astype(np.float32)
    tl.fit_sae(described, "X", key_added="X_new", n_dimensions=5, n_active=1, max_epochs=1, progress=False)
    assert "n_genes" in tl.describe_dimensions(described)
    tl.fit_sae(described, "X", n_dimensions=5, n_active=1, max_epochs=1, progress=False)
    assert not {"n_genes", "n_gene_sets", "n_image_features"} & set(tl.describe_dimensions(described))
    with pytest.raises(KeyError, match="dimension_activity"):
        pl.dimension(described, 8)


def test_a_keyword_finds_dimensions_by_what_goes_along_with_them(described: MuData) -> None:
    found = tl.describe_dimensions(described, keyword="Droplet number")
    assert {0, 1} <= set(found.index)
    assert found.loc[0, "matches"] == "droplet_number"
    found = tl.describe_dimensions(described, keyword="program 3")
    assert 3 in found.index
    assert (found["matches"] == "GO_PROGRAM-3").all()
    # Found although it is not among the findings that are written out.
    last = described.uns["petri_scvi"]["dimension_genes_X_sae"]["table"]
    last = last[(last["dimension"] == 0) & (last["q_value"] <= 0.05)].iloc[-1]
    found = tl.describe_dimensions(described, keyword=last["gene"], n_top=1)
    assert 0 in found.index
    assert last["gene"] not in found.loc[0, "genes"]
    assert len(tl.describe_dimensions(described, keyword="no such thing")) == 0


def test_what_has_not_been_called_has_no_column(planted: MuData) -> None:
    assert list(tl.describe_dimensions(planted)) == ["active", "active_image", "active_rna", "is_multimodal"]
    tl.dimension_genes(planted, progress=False)
    assert {"n_genes", "genes"} <= set(tl.describe_dimensions(planted))
    assert "image_features" not in tl.describe_dimensions(planted)


def test_results_survive_a_file(described: MuData, tmp_path: Path, assert_same: Callable[..., None]) -> None:
    table = tl.describe_dimensions(described, keyword="droplet")
    described.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu")
    assert_same(read.uns["petri_scvi"], described.uns["petri_scvi"])
    pd.testing.assert_frame_equal(tl.describe_dimensions(read, keyword="droplet"), table, check_dtype=False)
    loadings = read.uns["synthetic_screen"]["gene_loadings"]
    tl.dimension_gene_sets(read, {"A": list(loadings.index[loadings.iloc[:, 0] != 0])})
    assert set(read.uns["petri_scvi"]["dimension_gene_sets_X_sae"]["table"]["dimension"]) >= {0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"keyword": " "}, ValueError, "has no word to search for"),
        ({"keyword": "lipid"}, KeyError, "there are no results about the dimensions of 'X_sae'"),
        ({"n_top": 0}, ValueError, "n_top=0"),
        ({"alpha": 2}, ValueError, "alpha=2"),
        ({"key": "X_other"}, KeyError, "no activations 'X_other'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    planted: MuData, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tl.describe_dimensions(planted, **arguments)


# Activity per perturbation, and examples


def activity_of(mdata: MuData, **changes: object) -> dict:
    tl.dimension_activity(mdata, **changes)  # type: ignore[arg-type]
    return mdata.uns["petri_scvi"]["dimension_activity_X_sae"]


def test_mean_activity_is_that_of_each_perturbation_and_modality(planted: MuData) -> None:
    result = activity_of(planted)
    for name in ("image", "rna"):
        rows = np.flatnonzero(np.asarray(planted.obsmap[name]).ravel())
        frame = pd.DataFrame(planted.obsm["X_sae"].toarray()[rows])
        expected = frame.groupby(planted[name].obs["perturbation"].astype(str).to_numpy()).mean()
        assert list(result["perturbations"]) == list(expected.index)
        np.testing.assert_allclose(result["mean"][name], expected, atol=1e-6)
        np.testing.assert_allclose(result["overall"][name], frame.mean(), atol=1e-6)


def test_examples_are_the_cells_at_both_ends(planted: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_activations, "CHUNK_VALUES", 4 * 1600)
    result = activity_of(planted, n_examples=5)
    rows = np.flatnonzero(np.asarray(planted.obsmap["image"]).ravel())
    frame = pd.DataFrame(planted.obsm["X_sae"].toarray()[rows], index=planted["image"].obs_names)
    for dimension in (0, 4, 6, NOISE):
        largest = frame[dimension].sort_values(ascending=False)[:5]
        np.testing.assert_allclose(frame[dimension][result["most"][dimension]], largest)
        assert (frame[dimension][result["least"][dimension]] == 0).all()
    assert (result["most"][SILENT] == "").all()  # no cell differs from the others
    assert len({tuple(cells) for cells in (activity_of(planted, seed=seed)["least"][0] for seed in (0, 0, 1))}) == 2


def test_a_dimension_with_few_active_cells_has_few_examples(planted: MuData) -> None:
    image = planted["image"].copy()
    image.obsm["X_sae"] = sparse.csr_matrix(([3.0, 1.0, 2.0], ([5, 7, 9], [0, 0, 0])), shape=(image.n_obs, 1))
    most = activity_of(image, n_examples=4)["most"]
    assert most.tolist() == [[*image.obs_names[[5, 9, 7]], ""]]


def test_signed_dimensions_have_their_lowest_cells_as_examples(planted: MuData) -> None:
    image = planted["image"].copy()
    image.obsm["X_sae"] = np.random.default_rng(0).normal(size=(image.n_obs, 2))
    result = activity_of(image, n_examples=3)
    order = np.argsort(image.obsm["X_sae"][:, 1])
    assert result["least"][1].tolist() == image.obs_names[order[:3]].tolist()
    assert result["most"][1].tolist() == image.obs_names[order[:-4:-1]].tolist()


def test_a_perturbation_of_one_modality_has_nan_in_the_other(planted: MuData) -> None:
    image = planted["image"].copy()
    image.obs["perturbation"] = image.obs["perturbation"].astype(str).replace("TARGET01", "ELSEWHERE")
    changed = MuData({"image": image, "rna": planted["rna"]})
    changed.obsm["X_sae"] = planted.obsm["X_sae"]
    result = activity_of(changed)
    names = list(result["perturbations"])
    assert np.isnan(result["mean"]["image"][names.index("TARGET01")]).all()
    assert np.isfinite(result["mean"]["rna"][names.index("TARGET01")]).all()
    assert np.isnan(result["mean"]["rna"][names.index("ELSEWHERE")]).all()


def test_examples_are_of_the_modality_that_is_named(planted: MuData) -> None:
    assert activity_of(planted)["parameters"]["modality"] == "image"
    assert set(activity_of(planted, modality="rna")["most"][0]) <= set(planted["rna"].obs_names)
    with pytest.raises(KeyError, match=r"modality='imgae' has no activations in obsm\['X_sae'\]; \['image', 'rna'\]"):
        activity_of(planted, modality="imgae")
    only = MuData({"rna": planted["rna"].copy()})
    only["rna"].obsm["X_sae"] = np.random.default_rng(0).normal(size=(only["rna"].n_obs, 2))
    assert activity_of(only)["parameters"]["modality"] == "rna"
    assert activity_of(only["rna"], modality="ignored")["parameters"]["modality"] == "all"


def test_a_modality_without_activations_is_nan_and_gives_no_examples(planted: MuData) -> None:
    values = planted.obsm["X_sae"].toarray()
    values[np.flatnonzero(np.asarray(planted.obsmap["image"]).ravel())] = np.nan
    planted.obsm["X_sae"] = values
    with pytest.warns(UserWarning, match="1600 of 1600 cells of 'image'"):
        result = activity_of(planted, modality="rna")
    assert np.isnan(result["overall"]["image"]).all()
    assert np.isnan(result["active"]["image"]).all()
    with (
        pytest.warns(UserWarning, match="1600 of 1600 cells of 'image'"),
        pytest.raises(ValueError, match="NaN or infinite in all 1600 cells of modality 'image'. Compute it again"),
    ):
        activity_of(planted)


def test_activity_needs_its_column(planted: MuData) -> None:
    with pytest.raises(KeyError, match=r"perturbation_key='gene' is not a column of mdata\['image'\].obs"):
        activity_of(planted, perturbation_key="gene")
    with pytest.raises(ValueError, match="n_examples=0"):
        activity_of(planted, n_examples=0)
