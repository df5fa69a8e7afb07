from __future__ import annotations

import numpy as np
import pytest
import torch

from petri_scvi import PETRI
from petri_scvi.baselines import MAE


@pytest.fixture
def small(tiny):
    return {name: value for name, value in tiny.items() if name != "set_transformer_depth"}


def test_it_is_petri_without_set_transformer(make_screen, small, quiet, seed_again):
    embeddings = {}
    for model_class, depth in [(MAE, {}), (PETRI, {"set_transformer_depth": 0})]:
        seed_again()
        mdata = make_screen()
        model_class.setup_mudata(mdata)
        model = model_class(mdata, **small, **depth)
        model.train(max_epochs=1, **quiet)
        embeddings[model_class] = model.get_latent_representation()
    np.testing.assert_array_equal(embeddings[MAE], embeddings[PETRI])


def test_cells_do_not_interact(screen, small, quiet):
    MAE.setup_mudata(screen)
    model = MAE(screen, **small)
    model.train(max_epochs=1, **quiet)
    assert (model.cross_modal_gain()["gain"] == 0).all()
    np.testing.assert_allclose(
        model.get_latent_representation(position="set_transformer", modality="rna"),
        model.get_latent_representation(modality="rna"),
        atol=1e-5,
    )


def test_three_modalities_are_three_autoencoders(make_screen, small, quiet):
    """A cell is reconstructed without the others of its document, and so do the three not depend on each other."""
    screen = make_screen(n_proteins=8)
    kinds = {"image": "images", "rna": "counts", "protein": "peaks"}
    MAE.setup_mudata(screen, modalities=kinds)
    model = MAE(screen, **small)
    model.train(max_epochs=1, **quiet)
    gain = model.cross_modal_gain(n_documents=1)
    assert set(gain["modality"]) == set(kinds)
    assert (gain["gain"] == 0).all()
    assert model.get_latent_representation().shape == (screen.n_obs, 16)


def test_the_modalities_share_no_gradient(screen, small):
    MAE.setup_mudata(screen)
    model = MAE(screen, **small)
    readers = model._readers(model.adata_manager)
    cells = {name: torch.from_numpy(reader.read(np.arange(8))) for name, reader in readers.items()}
    tensors = {"cells": cells, "context": np.zeros(2)}
    _, _, losses = model.module(tensors)
    losses.reconstruction_loss["image"].backward()
    reached = {name for name, p in model.module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached
    assert all(name.startswith("modalities.image.") for name in reached)


def test_one_modality_is_enough(screen, small, quiet):
    MAE.setup_mudata(screen, modalities={"rna_layer": None})
    model = MAE(screen, **small)
    model.train(max_epochs=1, **quiet)
    assert model.get_latent_representation(modality="image").shape == (240, 16)
    assert list(model.module.modalities) == ["image"]


def test_it_survives_saving_under_its_own_name(screen, make_screen, small, quiet, tmp_path):
    MAE.setup_mudata(screen)
    model = MAE(screen, **small)
    model.train(max_epochs=1, **quiet)
    model.save(tmp_path / "model")
    loaded = MAE.load(tmp_path / "model", make_screen())
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    assert not loaded.module.set_transformer.blocks
    assert loaded.summary_string.startswith("MAE with")
    with pytest.raises(ValueError, match="class MAE, not PETRI"):
        PETRI.load(tmp_path / "model")


def test_a_set_transformer_and_unknown_arguments_are_refused(screen):
    MAE.setup_mudata(screen)
    with pytest.raises(TypeError, match=r"no set transformer.*petri_scvi\.PETRI"):
        MAE(screen, set_transformer_depth=2)
    with pytest.raises(TypeError, match="patchsize"):
        MAE(screen, patchsize=4)
