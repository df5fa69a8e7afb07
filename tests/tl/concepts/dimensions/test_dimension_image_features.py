"""Features of a dimension are those of its program, and the correlations are Spearman's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import false_discovery_control, spearmanr

from petri_scvi import tl
from petri_scvi.tl.concepts.dimensions import _activations

if TYPE_CHECKING:
    from mudata import MuData

SILENT, NOISE = 7, 8


def features_of(data: Any, key: str = "X_sae", **changes: Any) -> dict[str, Any]:
    tl.dimension_image_features(data, key, **changes)
    return data.uns["petri_scvi"][f"dimension_image_features_{key}"]


def images_of(mdata: MuData) -> Any:
    """The imaging modality with its own activations."""
    image = mdata["image"].copy()
    image.obsm["X_sae"] = mdata.obsm["X_sae"][np.flatnonzero(np.asarray(mdata.obsmap["image"]).ravel())]
    return image


def test_the_strongest_feature_of_a_dimension_is_what_its_program_moves(planted: MuData) -> None:
    loadings = planted.uns["synthetic_screen"]["morphology_loadings"]
    table = features_of(planted)["table"]
    assert sorted(table["dimension"].unique()) == [0, 1, 2, 3, 4, 6, NOISE]  # 5 is seen in RNA only
    first = table.groupby("dimension").first()
    for dimension in range(5):
        strongest = loadings.iloc[:, dimension].abs().idxmax()
        assert first.loc[dimension, "feature"] == strongest
        assert first.loc[dimension, "q_value"] < 1e-3
        assert np.sign(first.loc[dimension, "correlation"]) == np.sign(loadings.iloc[:, dimension][strongest])
    assert (table.loc[table["dimension"] == NOISE, "q_value"] > 0.01).all()


def test_correlations_and_q_values_are_those_of_scipy(planted: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    image = images_of(planted)
    features = image.obsm["image_features"].copy()
    features.iloc[200:] = np.nan  # not measured
    features.iloc[3:9, 1] = np.nan  # not defined
    features.iloc[:, 2] = 1.0  # constant
    image.obsm["measured"] = features
    monkeypatch.setattr(_activations, "CHUNK_VALUES", 2 * image.n_obs)
    table = features_of(image, features_key="measured")["table"]
    activations = image.obsm["X_sae"].toarray()
    assert set(table["feature"]) == set(features.columns) - {features.columns[2]}
    for row in table.itertuples():
        is_used = features[row.feature].notna().to_numpy()
        expected = spearmanr(activations[is_used, row.dimension], features[row.feature][is_used])
        assert row.n_cells == is_used.sum() == (194 if row.feature == features.columns[1] else 200)
        assert row.correlation == pytest.approx(expected.statistic, abs=1e-6)
        assert row.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    np.testing.assert_allclose(table["q_value"], false_discovery_control(table["p_value"]))
    assert table["dimension"].is_monotonic_increasing
    falls = table.groupby("dimension")["correlation"].apply(lambda values: values.abs().is_monotonic_decreasing)
    assert falls.all()


def test_staining_of_a_batch_is_no_feature_of_a_dimension_once_it_is_removed(planted: MuData) -> None:
    image = planted["image"].copy()
    rng = np.random.default_rng(0)
    batch = (image.obs["batch"].cat.codes == 0).to_numpy()
    image.obsm["X_emb"] = (batch + rng.normal(size=image.n_obs))[:, None]
    image.obsm["stain"] = pd.DataFrame({"actin": 2 * batch + rng.normal(size=image.n_obs)}, index=image.obs_names)
    assert features_of(image, "X_emb", features_key="stain")["table"]["q_value"][0] < 1e-6
    assert features_of(image, "X_emb", features_key="stain", batch_key="batch")["table"]["q_value"][0] > 0.05


def test_dense_and_sparse_activations_and_arrays_of_features_agree(planted: MuData) -> None:
    expected = features_of(planted)["table"]
    image = images_of(planted)
    image.obsm["X_sae"] = image.obsm["X_sae"].toarray()
    image.obsm["array"] = image.obsm["image_features"].to_numpy()
    pd.testing.assert_frame_equal(features_of(image)["table"], expected)
    unnamed = features_of(image, features_key="array")["table"]
    names = dict(enumerate(image.obsm["image_features"].columns))
    assert [names[int(name)] for name in unnamed["feature"]] == list(expected["feature"])


def test_dimensions_active_in_few_measured_cells_are_not_tested(planted: MuData) -> None:
    image = images_of(planted)
    activations = image.obsm["X_sae"].tolil()
    activations[:, SILENT] = 0
    activations[:9, SILENT] = 1
    image.obsm["X_sae"] = sparse.csr_matrix(activations)
    assert SILENT not in set(features_of(image)["table"]["dimension"])
    assert SILENT in set(features_of(image, min_cells=9)["table"]["dimension"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key": "X_other"}, KeyError, "no activations 'X_other'.*petri_scvi.tl.fit_sae"),
        ({"features_key": "measured"}, KeyError, r"Call petri_scvi.tl.image_features\(mdata\) first"),
        ({"batch_key": "plate"}, KeyError, "batch_key='plate' is not a column of obs"),
        ({"min_cells": 2000}, ValueError, "1600 of 1600 cells have features. Measure more cells"),
        ({"min_cells": 0}, ValueError, "min_cells=0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    planted: MuData, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        features_of(planted, **arguments)
    assert "petri_scvi" not in planted.uns


def test_a_modality_without_cells_is_refused(planted: MuData) -> None:
    few = planted[~np.asarray(planted.obsmap["image"]).ravel().astype(bool)].copy()
    assert few["image"].n_obs == 0
    with pytest.raises(ValueError, match="modality='image' has no cells; name another one"):
        tl.dimension_image_features(few)
