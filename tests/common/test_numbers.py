"""Arrays without numbers, or with numbers that cannot be computed with, are refused at entry, by their name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI, SparseAutoencoder, io, tl
from petri_scvi.common._numbers import check_float32, check_numbers, number_dtype

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

DATES = pd.date_range("2020", periods=3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 2), dtype=complex), r"dtype complex128.*Store x.real and x.imag"),
        (np.ones((3, 2), dtype=object), r"dtype object; expected integers or floats"),
        (np.ones((3, 2), dtype="datetime64[D]"), r"dtype datetime64\[D\]"),
        (np.ones((3, 2), dtype="timedelta64[s]"), r"dtype timedelta64\[s\]"),
        (np.ones((3, 2), dtype=str), "dtype <U"),
        (np.ones((3, 0)), r"shape \(3, 0\)"),
        (pd.DataFrame(index=range(3)), r"shape \(3, 0\)"),
        (pd.DataFrame({"a": [1.0, 2, 3], "when": DATES}), "1 of 2 columns of x hold no numbers, for example 'when'"),
        (pd.DataFrame({"a": pd.interval_range(0, 3)}), "'a' with dtype interval"),
        (pd.DataFrame({"a": ["1", "2", "3"]}), "1 of 1 columns"),
        (pd.DataFrame({"a": [1j, 2, 3]}), "complex"),
        ([1, 2], "is a list"),
        (np.ma.masked_less(np.eye(3), 1), r"is a masked array.*x\.filled\(numpy\.nan\)"),
    ],
)
def test_what_is_no_number_is_named(array: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_numbers(array, "x")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones((3, 2), dtype=bool), bool),
        (np.ones((3, 2), dtype=np.float16), np.float16),
        (sparse.csr_matrix(np.eye(3, dtype=np.int64)), np.int64),
        (pd.DataFrame({"a": np.ones(3, np.float32), "b": np.ones(3, np.int8)}), np.float32),
        (pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")}), np.float64),
    ],
)
def test_numbers_of_any_kind_are_accepted(array: Any, expected: Any) -> None:
    check_numbers(array, "x")
    assert number_dtype(array) == expected


def test_values_beyond_single_precision_are_refused_and_others_are_not() -> None:
    with pytest.raises(ValueError, match=r"x has 1 values that are too large for float32, for example 1e\+39"):
        check_float32(np.array([1.0, 1e39, np.inf, np.nan]), "x")
    check_float32(np.array([1e38, np.inf, np.nan]), "x")


@pytest.fixture
def cells(make_screen: Callable[..., MuData]) -> AnnData:
    return make_screen()["rna"]


READERS: dict[str, Callable[[AnnData], Any]] = {
    "center_scale": lambda a: tl.center_scale(a, "X"),
    "whiten": lambda a: tl.whiten(a, "X"),
    "aggregate_profiles": lambda a: tl.aggregate_profiles(a, "X"),
    "score_screen": lambda a: tl.score_screen(a, ["X"], n_bootstrap=0, progress=False),
    "probe": lambda a: tl.probe(a, "X", obs_key="batch"),
    "variance_shares": lambda a: tl.variance_shares(a, "X", obs_keys="batch"),
    "mixing": lambda a: tl.mixing(a, "X", obs_key="batch"),
    "perturbation_strength": lambda a: tl.perturbation_strength(a, "X", progress=False),
    "replicate_consistency": lambda a: tl.replicate_consistency(a, "X"),
    "fit_sae": lambda a: tl.fit_sae(a, "X", progress=False),
    "dimension_genes": lambda a: tl.dimension_genes(a, "X", progress=False),
    "dimension_activity": lambda a: tl.dimension_activity(a, "X"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("dtype", [complex, object, "datetime64[D]"])
def test_an_embedding_that_is_no_numbers_is_refused(
    cells: AnnData, reader: Callable[[AnnData], Any], dtype: Any
) -> None:
    cells.obsm["X"] = np.arange(2 * cells.n_obs).reshape(-1, 2).astype(dtype)
    with pytest.raises(ValueError, match=r"obsm\['X'\] has dtype"):
        reader(cells)


@pytest.mark.parametrize("name", ["fit_sae", "dimension_genes", "dimension_activity"])
def test_an_embedding_beyond_single_precision_is_refused_where_that_is_computed_in(cells: AnnData, name: str) -> None:
    cells.obsm["X"] = np.random.default_rng(0).random((cells.n_obs, 4))
    cells.obsm["X"][3, 1] = 1e39
    with pytest.raises(ValueError, match=r"obsm\['X'\] has 1 values that are too large for float32"):
        READERS[name](cells)


def test_an_autoencoder_refuses_to_encode_what_is_beyond_single_precision(cells: AnnData) -> None:
    cells.obsm["X"] = np.random.default_rng(0).random((cells.n_obs, 4))
    sae: SparseAutoencoder = tl.fit_sae(cells, "X", n_dimensions=8, max_epochs=1, progress=False)
    with pytest.raises(ValueError, match="the embedding has 1 values that are too large"):
        sae.encode(np.array([[1e39, 0, 0, 0]]))
    with pytest.raises(ValueError, match="the embedding has dtype complex128"):
        sae.encode(cells.obsm["X"] + 0j)


def test_integers_of_many_digits_keep_them(cells: AnnData) -> None:
    values = 2**30 + np.random.default_rng(0).integers(0, 1000, size=(cells.n_obs, 3))
    for key, array in (("X_integers", values), ("X_floats", values.astype(np.float64))):
        cells.obsm[key] = array
        tl.center_scale(cells, key)
    np.testing.assert_array_equal(cells.obsm["X_integers_scaled"], cells.obsm["X_floats_scaled"])


def test_a_table_with_missing_numbers_is_an_embedding_with_nan(cells: AnnData) -> None:
    values = np.random.default_rng(0).integers(0, 9, size=(cells.n_obs, 3)).astype(np.float64)
    values[5, 0] = np.nan
    cells.obsm["X_array"] = values
    table = pd.DataFrame(values, index=cells.obs_names, columns=["a", "b", "c"])
    cells.obsm["X_table"] = table.astype("Int64")
    for key in ("X_array", "X_table"):
        with pytest.warns(UserWarning, match="1 cells are NaN"):
            cells.uns[key] = tl.aggregate_profiles(cells, key).X
    np.testing.assert_array_equal(cells.uns["X_table"], cells.uns["X_array"])


def test_several_values_of_one_place_of_a_sparse_matrix_count_as_their_sum(planted: MuData) -> None:
    def split(matrix: Any) -> Any:
        halves = [sparse.csr_matrix(matrix) * share for share in (0.25, 0.75)]
        parts = [np.concatenate([half[i].data for half in halves]) for i in range(matrix.shape[0])]
        columns = [np.concatenate([half[i].indices for half in halves]) for i in range(matrix.shape[0])]
        starts = np.cumsum([0, *map(len, parts)])
        return sparse.csr_matrix((np.concatenate(parts), np.concatenate(columns), starts), shape=matrix.shape)

    def results() -> list[Any]:
        tl.multimodal_dimensions(planted)
        tl.dimension_activity(planted)
        tl.dimension_genes(planted, progress=False)
        tl.dimension_wells(planted, progress=False)
        found = planted.uns["petri_scvi"]
        return [
            found["multimodal_dimensions"]["table"],
            pd.DataFrame(found["dimension_activity_X_sae"]["active"]),
            found["dimension_genes_X_sae"]["table"].drop(columns="gene"),
            found["dimension_wells_X_sae_well"]["table"],
        ]

    expected = results()
    planted.obsm["X_sae"] = split(planted.obsm["X_sae"])
    assert not planted.obsm["X_sae"].has_canonical_format
    for found, wanted in zip(results(), expected, strict=True):
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float64) + 1e39, "values that are too large for float32"),
        (lambda x: x.astype(np.float16), "dtype float16, which rounds counts above 2048"),
        (lambda x: x.astype(complex), "dtype complex128"),
        (lambda x: x.astype(object), "dtype object"),
    ],
)
@pytest.mark.parametrize("place", ["X", "layer"])
def test_expression_that_models_cannot_read_is_refused_in_setup_and_in_stores(
    screen: MuData, change: Callable[[Any], Any], message: str, place: str, tmp_path: Path
) -> None:
    values = change(screen["rna"].X.toarray())
    if place == "X":
        screen["rna"].X = values
    else:
        screen["rna"].layers["odd"] = values
    layer = None if place == "X" else "odd"
    with pytest.raises(ValueError, match=message):
        PETRI.setup_mudata(screen, rna_layer=layer)
    with pytest.raises(ValueError, match=message):
        io.write_training_store(screen, tmp_path / "store.h5mu", progress=False)
    assert list(tmp_path.iterdir()) == []
    screen.obsm["X"] = np.random.default_rng(0).random((screen.n_obs, 3))
    with pytest.raises(ValueError, match=message):
        tl.dimension_genes(screen, "X", layer=layer, progress=False)
    with pytest.raises(ValueError, match=message):
        tl.image_to_expression_r2(screen, key="X", layer=layer, progress=False)


def test_pixels_beyond_single_precision_are_refused(screen: MuData) -> None:
    images = screen["image"].obsm["single_cell_images"]
    screen["image"].obsm["single_cell_images"] = images.astype(np.float64)
    screen["image"].obsm["single_cell_images"][2, 0, 0, 0] = 1e39
    with pytest.raises(ValueError, match="single_cell_images.*1 values that are too large for float32"):
        PETRI.setup_mudata(screen)
    with pytest.raises(ValueError, match="too large for float32"):
        tl.image_features(screen, progress=False, n_jobs=1)


def test_profiles_without_dimensions_are_refused() -> None:
    obs = pd.DataFrame({"target_gene": ["a", "a", "b", "b"]}, index=list("wxyz"))
    with pytest.raises(ValueError, match=r"profiles.X has shape \(4, 0\), so there is nothing in it"):
        tl.profile_similarity(AnnData(X=np.ones((4, 0)), obs=obs))
    with pytest.raises(ValueError, match=r"profiles.X has shape \(4, 0\)"):
        tl.guide_consistency(AnnData(X=np.ones((4, 0)), obs=obs), control=None)


def test_names_that_stand_for_several_genes_are_refused_and_the_advice_helps(screen: MuData) -> None:
    names = screen["rna"].var_names.to_list()
    screen["rna"].var_names = [names[1], *names[1:]]
    advice = r"Call mdata\['rna'\].var_names_make_unique\(\) first"
    with pytest.raises(ValueError, match=advice):
        PETRI.setup_mudata(screen)
    screen.obsm["X"] = np.random.default_rng(0).random((screen.n_obs, 3))
    with pytest.raises(ValueError, match=advice):
        tl.dimension_genes(screen, "X", progress=False)
    screen["rna"].var_names_make_unique()
    PETRI.setup_mudata(screen)
    tl.dimension_genes(screen, "X", progress=False)


def test_features_of_one_name_are_refused(make_planted: Callable[..., MuData]) -> None:
    planted = make_planted(n_cells=400)
    table = planted["image"].obsm["image_features"]
    planted["image"].obsm["image_features"] = table.set_axis([table.columns[0]] * table.shape[1], axis=1)
    with pytest.raises(ValueError, match="names of features in .* are not unique"):
        tl.dimension_image_features(planted)
    planted["image"].obsm["image_features"] = table.assign(when=pd.Timestamp("2020"))
    with pytest.raises(ValueError, match=r"obsm\['image_features'\] hold no numbers, for example 'when'"):
        tl.dimension_image_features(planted)
