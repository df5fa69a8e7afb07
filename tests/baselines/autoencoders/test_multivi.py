"""MULTIVI is scvi-tools' own, on counts and on binned components of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scanpy as sc
import scvi

from petri_scvi import pp
from petri_scvi.baselines import MULTIVI, PCAPixels

TINY: dict[str, Any] = {"n_hidden": 8, "n_latent": 4, "n_components": 6, "n_bins": 3}
QUICK: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}


def fit(mdata, **arguments):
    scvi.settings.seed = 0
    MULTIVI.setup_mudata(mdata)
    model = MULTIVI(mdata, **{**TINY, **arguments})
    model.train(**QUICK)
    return model


def test_scvi_tools_is_given_counts_and_equally_full_bins_and_zeros_where_nothing_was_measured(screen):
    model = fit(screen)
    tables = model.scvi_.adata
    is_image = (tables["genes"].obs["modality"] == "image").to_numpy()
    assert (tables["genes"].X[~is_image] != screen["rna"].X).nnz == 0
    assert tables["genes"].X[is_image].nnz == tables["bins"].X[~is_image].nnz == 0
    bins = tables["bins"].X[is_image].toarray().reshape(-1, 6, 3)
    np.testing.assert_array_equal(bins.sum(axis=2), 1)
    assert np.ptp(bins.sum(axis=0)) <= 2
    PCAPixels.setup_mudata(screen)
    components = PCAPixels(screen, n_components=6)
    components.train()
    found = components.get_latent_representation()
    means = np.stack([[found[bins[:, i, j] > 0, i].mean() for j in range(3)] for i in range(6)])
    assert (np.diff(means) > 0).all()


def test_modalities_rows_batches_and_new_data_agree(screen, make_screen):
    model = fit(screen)
    every = model.get_latent_representation()
    assert every.shape == (screen.n_obs, 4)
    assert every.dtype == np.float32
    assert np.isfinite(every).all()
    for name in ("image", "rna"):
        of_modality = model.get_latent_representation(modality=name)
        np.testing.assert_allclose(of_modality, every[np.asarray(screen.obsmap[name]).ravel() > 0], atol=1e-5)
        np.testing.assert_allclose(
            model.get_latent_representation(modality=name, indices=[8, 2, 2], batch_size=2),
            of_modality[[8, 2, 2]],
            atol=1e-5,
        )
        new = pp.build_mudata(**{name: make_screen()[name][10:40].copy()})
        np.testing.assert_allclose(model.get_latent_representation(new), of_modality[10:40], atol=1e-5)
    assert model.get_latent_representation(indices=[]).shape == (0, 4)


def test_cells_are_embedded_as_they_are_now_and_no_copy_is_kept(screen):
    model = fit(screen)
    before = {name: model.get_latent_representation(modality=name) for name in ("image", "rna")}
    screen = screen.copy()
    for order in (-1, 1):
        screen["rna"].X = screen["rna"].X[::-1].copy()
        screen["image"].obsm["single_cell_images"] = screen["image"].obsm["single_cell_images"][::-1].copy()
        for name, expected in before.items():
            found = model.get_latent_representation(screen, modality=name)
            np.testing.assert_allclose(found, expected[::order], atol=1e-5)
    assert len(scvi.model.MULTIVI._per_instance_manager_store[model.scvi_.id]) == 1


def test_module_device_and_split_are_those_of_scvi_tools(screen):
    MULTIVI.setup_mudata(screen)
    model = MULTIVI(screen, **TINY)
    for use in (lambda: model.device, lambda: model.to_device("cpu")):
        with pytest.raises(ValueError, match="this MULTIVI is not trained"):
            use()
    model.train(**QUICK)
    assert model.module is model.scvi_.module
    model.to_device("cpu")
    assert model.device == model.scvi_.device
    for name, adata in screen.mod.items():
        split = np.concatenate([model.train_indices[name], model.validation_indices[name], model.test_indices[name]])
        np.testing.assert_array_equal(np.sort(split), np.arange(adata.n_obs))


def test_training_leaves_the_data_as_it_was_and_records_losses(screen, unchanged):
    MULTIVI.setup_mudata(screen)
    with unchanged(screen):
        model = MULTIVI(screen, **TINY)
        assert model.history is None
        model.train(**QUICK)
        model.get_latent_representation()
    assert len(model.history["elbo_train"]) == 2


def test_training_may_end_before_the_first_validation_although_early_stopping_is_its_default(screen):
    MULTIVI.setup_mudata(screen)
    model = MULTIVI(screen, **TINY)
    model.train(**{**QUICK, "max_steps": 2})
    assert model.is_trained
    assert len(model.history["elbo_train"]) == 1


def test_one_modality_and_three_are_refused(screen, make_screen):
    three = make_screen(n_proteins=8)
    MULTIVI.setup_mudata(three, modalities={"image": "images", "rna": "counts", "protein": "counts"})
    with pytest.raises(ValueError, match=r"was set up with \['image', 'protein', 'rna'\]"):
        MULTIVI(three)
    MULTIVI.setup_mudata(screen, modalities={"images_key": None})
    with pytest.raises(ValueError, match=r"reads images and expression, and the data was set up with \['rna'\]"):
        MULTIVI(screen)


def test_expression_that_is_not_counts_is_refused(screen):
    sc.pp.log1p(screen["rna"])
    MULTIVI.setup_mudata(screen)
    with pytest.raises(ValueError, match="not whole numbers"):
        MULTIVI(screen)


def test_what_cannot_be_done_says_what_to_do(screen):
    MULTIVI.setup_mudata(screen)
    model = MULTIVI(screen, **TINY)
    with pytest.raises(ValueError, match="this MULTIVI is not trained"):
        model.get_latent_representation()
    with pytest.raises(NotImplementedError, match="Keep its embedding"):
        model.save("folder")
    with pytest.raises(NotImplementedError, match="train it again"):
        MULTIVI.load("folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_bins": 1}, "a single bin carries no information"),
        ({"n_latent": 0}, "n_latent=0; it must"),
        ({"n_components": 1000}, "n_components=1000; the cells and pixels allow at most 240"),
    ],
)
def test_arguments_are_checked_before_training(screen, arguments, message):
    MULTIVI.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        MULTIVI(screen, **arguments)
