"""SCVI is scvi-tools' own, on the registered counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scanpy as sc
import scvi
from anndata import AnnData
from scipy import sparse

from petri_scvi import pp
from petri_scvi.baselines import SCVI

TINY: dict[str, Any] = {"n_hidden": 8, "n_latent": 4}
QUICK: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}


def fit(mdata, setup=None, **arguments):
    scvi.settings.seed = 0
    SCVI.setup_mudata(mdata, **(setup or {}))
    model = SCVI(mdata, **{**TINY, **arguments})
    model.train(**QUICK)
    return model


@pytest.mark.parametrize("batch_key", [None, "replicate"])
def test_embedding_is_that_of_scvi_tools_called_directly(screen, batch_key):
    screen["rna"].obs["replicate"] = np.where(np.arange(screen["rna"].n_obs) % 3, "b", "a")
    found = fit(screen, batch_key=batch_key).get_latent_representation()
    scvi.settings.seed = 0
    theirs = AnnData(screen["rna"].X.astype(np.float32).copy(), obs=screen["rna"].obs[["replicate"]])
    scvi.model.SCVI.setup_anndata(theirs, batch_key=batch_key)
    scvi.settings.seed = 0
    model = scvi.model.SCVI(theirs, **TINY)
    model.train(**QUICK, log_every_n_steps=1)
    np.testing.assert_allclose(found, model.get_latent_representation(), atol=1e-5)


def test_rows_batches_and_new_data_agree(screen, make_screen):
    model = fit(screen)
    every = model.get_latent_representation()
    assert every.shape == (screen["rna"].n_obs, 4)
    assert every.dtype == np.float32
    np.testing.assert_allclose(
        model.get_latent_representation(indices=[8, 2, 2], batch_size=2), every[[8, 2, 2]], atol=1e-5
    )
    new = pp.build_mudata(rna=make_screen()["rna"][10:40].copy())
    np.testing.assert_allclose(model.get_latent_representation(new), every[10:40], atol=1e-5)
    np.testing.assert_allclose(model.get_latent_representation(new, indices=[5, 1]), every[[15, 11]], atol=1e-5)


def test_the_layer_is_that_of_setup(screen):
    expected = fit(screen).get_latent_representation()
    screen["rna"].layers["umis"] = screen["rna"].X.copy()
    screen["rna"].X = sparse.csr_matrix(np.ones(screen["rna"].shape))
    np.testing.assert_allclose(fit(screen, {"rna_layer": "umis"}).get_latent_representation(), expected, atol=1e-5)


def test_training_leaves_the_data_as_it_was_and_records_losses(screen, unchanged):
    SCVI.setup_mudata(screen)
    with unchanged(screen):
        model = SCVI(screen, **TINY)
        assert not model.is_trained
        model.train(**QUICK)
        model.get_latent_representation()
    assert len(model.history["elbo_train"]) == 2


def test_expression_that_is_not_counts_is_refused(screen):
    sc.pp.log1p(screen["rna"])
    SCVI.setup_mudata(screen)
    with pytest.raises(ValueError, match="not whole numbers"):
        SCVI(screen)


def test_a_missing_batch_column_is_named(screen):
    SCVI.setup_mudata(screen)
    with pytest.raises(KeyError, match=r"batch_key='plate' is not a column of mdata\['rna'\].obs"):
        SCVI(screen, batch_key="plate")


def test_cells_are_embedded_as_they_are_now_and_no_copy_is_kept(screen, make_screen):
    model = fit(screen)
    before = model.get_latent_representation()
    screen = screen.copy()
    for order in (-1, 1):
        screen["rna"].X = screen["rna"].X[::-1].copy()
        np.testing.assert_allclose(model.get_latent_representation(screen), before[::order], atol=1e-5)
    assert len(scvi.model.SCVI._per_instance_manager_store[model.scvi_.id]) == 1


def test_cells_without_a_batch_are_counted(screen):
    screen["rna"].obs["plate"] = [None, None, *["a"] * (screen["rna"].n_obs - 2)]
    SCVI.setup_mudata(screen)
    with pytest.raises(ValueError, match=r"batch_key='plate': .* is missing for 2 of 228 cells\. Drop these cells"):
        SCVI(screen, batch_key="plate")


def test_module_device_and_split_are_those_of_scvi_tools(screen):
    model = fit(screen)
    assert model.module is model.scvi_.module
    model.to_device("cpu")
    assert model.device == model.scvi_.device
    split = np.concatenate([model.train_indices, model.validation_indices])
    np.testing.assert_array_equal(np.sort(split), np.arange(screen["rna"].n_obs))


def test_an_untrained_model_says_what_to_call(screen):
    SCVI.setup_mudata(screen)
    with pytest.raises(ValueError, match="this SCVI is not trained"):
        SCVI(screen, **TINY).get_latent_representation()


def test_no_cells_give_an_empty_embedding(screen):
    assert fit(screen).get_latent_representation(indices=[]).shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gene_likelihood": "normal"}, "gene_likelihood='normal'; expected one of"),
        ({"n_latent": 0}, "n_latent=0; it must"),
    ],
)
def test_arguments_are_checked_before_training(screen, arguments, message):
    SCVI.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        SCVI(screen, **arguments)
