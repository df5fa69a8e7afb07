"""PCA of expression is scanpy's, PCA of pixels is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA, IncrementalPCA

from petri_scvi import pp
from petri_scvi.baselines import PCAExpression, PCAPixels
from petri_scvi.dataloaders import _readers, _row_reader

KEY = "single_cell_images"


def fit(system, mdata, setup=None, **arguments):
    system.setup_mudata(mdata, **(setup or {}))
    model = system(mdata, **arguments)
    model.train()
    return model


def assert_same_up_to_signs(found, expected, rtol=1e-3):
    """Components have no sign; all else must agree, in units of each component's spread."""
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs / expected.std(axis=0), expected / expected.std(axis=0), atol=rtol)


# Expression


@pytest.mark.parametrize("as_dense", [False, True])
@pytest.mark.parametrize("n_top_genes", [None, 25])
@pytest.mark.parametrize("scale", [False, True])
def test_expression_is_embedded_as_by_scanpys_workflow(screen, n_top_genes, scale, as_dense):
    if as_dense:
        screen["rna"].X = screen["rna"].X.toarray()
    model = fit(PCAExpression, screen, n_components=8, n_top_genes=n_top_genes, scale=scale)
    theirs = AnnData(screen["rna"].X.astype(np.float32), var=screen["rna"].var[[]])
    sc.pp.normalize_total(theirs)
    sc.pp.log1p(theirs)
    if n_top_genes:
        sc.pp.highly_variable_genes(theirs, n_top_genes=n_top_genes)
        theirs = theirs[:, theirs.var["highly_variable"]].copy()
    if scale:
        theirs.X = theirs.X if as_dense else theirs.X.toarray()
        sc.pp.scale(theirs, max_value=10)
    sc.pp.pca(theirs, n_comps=8)
    assert_same_up_to_signs(model.get_latent_representation(), theirs.obsm["X_pca"])


def test_log_normalised_expression_is_not_logged_again(make_screen):
    counts, logged = make_screen(), make_screen()
    logged["rna"].X = logged["rna"].X.astype(np.float32)
    sc.pp.normalize_total(logged["rna"])
    sc.pp.log1p(logged["rna"])
    from_logged = fit(PCAExpression, logged, n_components=8, is_normalized=True).get_latent_representation()
    from_counts = fit(PCAExpression, counts, n_components=8).get_latent_representation()
    assert_same_up_to_signs(from_logged, from_counts)


def test_log_normalised_expression_is_refused_where_counts_are_expected(screen):
    sc.pp.log1p(screen["rna"])
    PCAExpression.setup_mudata(screen)
    with pytest.raises(ValueError, match=r"values that are not whole numbers.*pass is_normalized=True"):
        PCAExpression(screen).train()


def test_the_layer_is_that_of_setup(screen):
    expected = fit(PCAExpression, screen).get_latent_representation()
    screen["rna"].layers["umis"] = screen["rna"].X.copy()
    screen["rna"].X = sparse.csr_matrix(np.ones(screen["rna"].shape))
    found = fit(PCAExpression, screen, {"rna_layer": "umis"}).get_latent_representation()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_few_genes_give_fewer_components_than_the_default(screen):
    assert fit(PCAExpression, screen).get_latent_representation().shape[1] == 39
    assert fit(PCAExpression, screen, n_top_genes=20).get_latent_representation().shape[1] == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 40}, "n_components=40; .* 40 genes allow at most 39"),
        ({"n_components": 0}, "n_components=0"),
        ({"n_top_genes": 41}, "n_top_genes=41; there are 40 genes"),
        ({"n_top_genes": 0}, "n_top_genes=0"),
    ],
)
def test_more_than_the_expression_holds_is_refused(screen, arguments, message):
    PCAExpression.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        PCAExpression(screen, **arguments)


# Pixels


def normalised_pixels(screen):
    images = screen["image"].obsm[KEY].astype(np.float64)
    mean, std = images.mean(axis=(0, 2, 3), keepdims=True), images.std(axis=(0, 2, 3), keepdims=True)
    return ((images - mean) / std).reshape(len(images), -1)


def test_pixels_that_fit_one_batch_are_embedded_as_by_exact_pca(screen):
    model = fit(PCAPixels, screen, n_components=6)
    expected = PCA(n_components=6, svd_solver="full").fit_transform(normalised_pixels(screen))
    assert_same_up_to_signs(model.get_latent_representation(), expected)


@pytest.mark.slow
def test_pixels_in_batches_are_embedded_as_by_incremental_pca_of_the_whole(screen):
    model = fit(PCAPixels, screen, n_components=6, fit_batch_size=50, seed=3)
    pixels = normalised_pixels(screen)
    order = np.random.default_rng([3, 0]).permutation(len(pixels))
    theirs = IncrementalPCA(n_components=6, batch_size=50).fit(pixels[order])
    assert_same_up_to_signs(model.get_latent_representation(), theirs.transform(pixels))


def test_batches_explain_nearly_the_variance_that_exact_pca_explains(screen):
    exact = PCA(n_components=6).fit(normalised_pixels(screen)).explained_variance_.sum()
    found = fit(PCAPixels, screen, n_components=6, fit_batch_size=60).get_latent_representation().var(axis=0).sum()
    assert 0.97 * exact < found <= 1.001 * exact


@pytest.mark.filterwarnings("ignore:.* is stored in chunks:UserWarning")
@pytest.mark.slow
def test_images_on_disk_read_row_by_row_give_the_same(make_screen, on_disk, monkeypatch):
    expected = fit(PCAPixels, make_screen(), fit_batch_size=64).get_latent_representation()
    monkeypatch.setattr(_row_reader, "CHUNK_BYTES", 4096)
    largest = 0
    read = _readers._HDF5.read

    def counted(self, rows):
        nonlocal largest
        largest = max(largest, len(rows))
        return read(self, rows)

    monkeypatch.setattr(_readers._HDF5, "read", counted)
    found = fit(PCAPixels, on_disk, fit_batch_size=64).get_latent_representation(batch_size=50)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert 50 <= largest < 128  # a batch, of which the last may be up to a batch and n_components long


def test_only_the_registered_channels_count(screen):
    fewer = pp.build_mudata(image=screen["image"].copy())
    images = fewer["image"].obsm[KEY].copy()
    images[:, 0] = 0
    fewer["image"].obsm[KEY] = images
    kept = list(range(1, images.shape[1]))
    found = fit(PCAPixels, fewer, {"image_channels": kept}).get_latent_representation()
    expected = fit(PCAPixels, screen, {"image_channels": kept}).get_latent_representation()
    np.testing.assert_array_equal(found, expected)


def test_brightness_of_a_channel_does_not_matter_and_a_constant_one_is_no_problem(screen):
    images = screen["image"].obsm[KEY].astype(np.float32)
    images[:, 0] = 7
    screen["image"].obsm[KEY] = images
    expected = fit(PCAPixels, screen, n_components=5).get_latent_representation()
    changed = images.copy()
    changed[:, 1] = 1000 + 3 * changed[:, 1]
    screen["image"].obsm[KEY] = changed
    found = fit(PCAPixels, screen, n_components=5).get_latent_representation()
    assert np.isfinite(expected).all()
    assert_same_up_to_signs(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 5000}, "n_components=5000; .* allow at most"),
        ({"n_components": 0}, "n_components=0"),
        ({"n_components": 20, "fit_batch_size": 10}, "fit_batch_size=10 is less than n_components=20"),
    ],
)
def test_more_than_the_images_hold_is_refused(screen, arguments, message):
    PCAPixels.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        PCAPixels(screen, **arguments)


def test_cells_of_equal_expression_have_no_components(screen):
    screen["rna"].X = sparse.csr_matrix(np.repeat(screen["rna"].X[:1].toarray(), screen["rna"].n_obs, axis=0))
    with pytest.raises(ValueError, match=r"all \d+ cells of mdata\['rna'\] have the same expression"):
        fit(PCAExpression, screen, n_components=2)
