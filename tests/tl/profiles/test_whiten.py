from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from petri_scvi.tl import _embedding, whiten

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def correlated(n: int = 400, n_dims: int = 6, seed: int = 0) -> np.ndarray:
    """Far from the origin, so that whitening without centering would fail."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_dims)) @ rng.normal(size=(n_dims, n_dims)) + 1000


def test_it_equals_pca_of_scikit_learn_signs_included(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_embedding, "CHUNK_ROWS", 61)
    values = correlated()
    adata = AnnData(obsm={"X": values})
    whiten(adata, "X")
    pca = PCA(6, whiten=True, svd_solver="full").fit(values)
    np.testing.assert_allclose(adata.obsm["X_whitened"], pca.transform(values), atol=1e-6)
    result = adata.uns["petri_scvi"]["whiten_X_whitened"]
    np.testing.assert_allclose(result["explained_variance"], pca.explained_variance_, rtol=1e-6)
    assert (result["n_cells"], result["n_flat"]) == (400, 0)


def test_whitened_cells_are_uncorrelated_with_unit_variance_and_keep_every_dimension() -> None:
    adata = AnnData(obsm={"X": correlated()})
    whiten(adata, "X", key_added="X")
    np.testing.assert_allclose(np.cov(adata.obsm["X"].T), np.eye(6), atol=1e-8)
    np.testing.assert_allclose(adata.obsm["X"].mean(axis=0), 0, atol=1e-8)


def test_it_can_be_fitted_on_controls_only(make_cells: Callable[..., AnnData]) -> None:
    adata = make_cells()
    whiten(adata, "X_emb", fit_on="controls")
    is_control = (adata.obs["target_gene"] == "non-targeting").to_numpy()
    np.testing.assert_allclose(np.cov(adata.obsm["X_emb_whitened"][is_control].T), np.eye(5), atol=1e-4)
    assert adata.uns["petri_scvi"]["whiten_X_emb_whitened"]["n_cells"] == is_control.sum()


def test_a_shared_slot_is_whitened_together_and_others_one_by_one(make_mudata: Callable[..., MuData]) -> None:
    shared, apart = make_mudata(), make_mudata(shared=False)
    whiten(shared, "X_emb")
    whiten(apart, "X_emb")
    np.testing.assert_allclose(np.cov(shared.obsm["X_emb_whitened"].T), np.eye(5), atol=1e-4)
    for name in ("image", "rna"):
        np.testing.assert_allclose(np.cov(apart[name].obsm["X_emb_whitened"].T), np.eye(5), atol=1e-4)
    assert set(apart.uns["petri_scvi"]["whiten_X_emb_whitened"]) == {"image", "rna", "parameters"}


def test_dask_gives_the_same_numbers() -> None:
    values = correlated()
    adata = AnnData(obsm={"X": values, "X_dask": da.from_array(values, chunks=(100, -1))})
    whiten(adata, "X")
    whiten(adata, "X_dask")
    np.testing.assert_allclose(adata.obsm["X_dask_whitened"], adata.obsm["X_whitened"])


def test_dimensions_without_variance_become_zero_and_are_counted() -> None:
    values = correlated()
    values[:, 2] = 5  # constant
    values[:, 3] = 2 * values[:, 0]  # depends on another
    adata = AnnData(obsm={"X": values})
    with pytest.warns(UserWarning, match="2 of 6 components"):
        whiten(adata, "X")
    whitened = adata.obsm["X_whitened"]
    np.testing.assert_allclose(np.diag(np.cov(whitened.T)), [1, 1, 1, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("offset", [0, 10, 1000])
def test_rounding_errors_of_dimensions_that_depend_on_each_other_are_not_amplified(offset: float) -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(500, 3))
    values = (latent @ rng.normal(size=(3, 8)) + offset).astype(np.float32)
    adata = AnnData(obsm={"X": values, "X_latent": latent})
    with pytest.warns(UserWarning, match="5 of 8 components"):
        whiten(adata, "X")
    whiten(adata, "X_latent")
    # Distances between whitened cells do not depend on how the three dimensions were mixed.
    np.testing.assert_allclose(pdist(adata.obsm["X_whitened"]), pdist(adata.obsm["X_latent_whitened"]), rtol=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_independent_dimensions_of_very_different_units_are_kept(dtype: type) -> None:
    values = np.random.default_rng(0).normal(size=(500, 3)) * [1e4, 1, 1e-1]
    adata = AnnData(obsm={"X": values.astype(dtype)})
    whiten(adata, "X")
    np.testing.assert_allclose(np.cov(adata.obsm["X_whitened"].T), np.eye(3), atol=1e-3)


def test_fewer_cells_than_dimensions_keep_what_varies_and_a_warning_says_that_it_tells_nothing() -> None:
    adata = AnnData(obsm={"X": correlated(4, 6)})
    with pytest.warns(UserWarning, match=r"3 of 6 components .* removes all structure.*for example by PCA"):
        whiten(adata, "X")
    np.testing.assert_allclose(pdist(adata.obsm["X_whitened"]), np.sqrt(6), rtol=1e-5)
    np.testing.assert_allclose(np.diag(np.cov(adata.obsm["X_whitened"].T)), [1, 1, 1, 0, 0, 0], atol=1e-6)


def test_nan_cells_stay_nan_and_out_of_the_fit() -> None:
    values = correlated()
    adata = AnnData(obsm={"X": np.vstack([values, np.full((1, 6), np.nan), [[np.inf, 0, 0, 0, 0, 0]]])})
    with pytest.warns(UserWarning, match="2 of 402 cells are NaN") as w:
        whiten(adata, "X")
    assert len(w) == 1  # and none from NumPy
    clean = AnnData(obsm={"X": values})
    whiten(clean, "X")
    np.testing.assert_allclose(adata.obsm["X_whitened"][:400], clean.obsm["X_whitened"])
    assert np.isnan(adata.obsm["X_whitened"][400:]).all()


def test_errors() -> None:
    adata = AnnData(obsm={"X": np.full((3, 2), np.nan)})
    with pytest.warns(UserWarning, match="NaN"), pytest.raises(ValueError, match="0 finite cells to whiten"):
        whiten(adata, "X")
    with pytest.raises(ValueError, match="fit_on='control' is not accepted"):
        whiten(adata, "X", fit_on="control")  # type: ignore[arg-type]
