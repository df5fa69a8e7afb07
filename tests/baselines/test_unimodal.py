"""Properties that all baselines of one modality share."""

from __future__ import annotations

import numpy as np
import pytest

import petri_scvi
from petri_scvi import PETRI, baselines
from petri_scvi.baselines import MULTIVI, PCAExpression, PCAPixels

SYSTEMS = [pytest.param(PCAExpression, "rna", id="PCAExpression"), pytest.param(PCAPixels, "image", id="PCAPixels")]
SETUP = {"context_key": ["perturbation"], "modalities": {"images_key": "image", "rna_layer": "rna"}}


@pytest.fixture
def trained(screen):
    def trained(system, mdata=screen, **arguments):
        system.setup_mudata(mdata, **SETUP)
        model = system(mdata, **arguments)
        model.train()
        return model

    return trained


def test_baselines_are_a_room_of_the_package():
    assert petri_scvi.baselines is baselines
    assert all(hasattr(baselines, name) for name in baselines.__all__)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_one_set_of_arguments_registers_data_for_petri_and_the_baseline(screen, trained, system, modality):
    PETRI.setup_mudata(screen, **SETUP)
    embedding = trained(system).get_latent_representation()
    assert embedding.shape[0] == screen[modality].n_obs
    assert embedding.dtype == np.float32
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_a_screen_of_one_modality_is_enough(screen, trained, system, modality):
    alone = petri_scvi.pp.build_mudata(**{modality: screen[modality].copy()})
    system.setup_mudata(alone)
    model = system(alone)
    model.train()
    np.testing.assert_array_equal(model.get_latent_representation(), trained(system).get_latent_representation())


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_chosen_rows_come_in_the_order_asked_for(trained, system, modality):
    model = trained(system)
    every = model.get_latent_representation(modality=modality)
    np.testing.assert_allclose(model.get_latent_representation(indices=[7, 3, 3, -1]), every[[7, 3, 3, -1]], atol=1e-4)
    is_chosen = np.arange(len(every)) % 5 == 2
    np.testing.assert_allclose(model.get_latent_representation(indices=is_chosen), every[is_chosen], atol=1e-4)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_the_size_of_a_batch_does_not_change_the_embedding(trained, system, modality):
    model = trained(system)
    np.testing.assert_allclose(
        model.get_latent_representation(batch_size=7), model.get_latent_representation(), atol=1e-4
    )


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_new_data_is_embedded_as_the_training_data_was(make_screen, trained, system, modality):
    model = trained(system)
    expected = model.get_latent_representation()[20:60]
    mdata = petri_scvi.pp.build_mudata(**{modality: make_screen()[modality][20:60].copy()})
    np.testing.assert_allclose(model.get_latent_representation(mdata), expected, atol=1e-4)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_training_and_embedding_leave_the_data_as_it_was(screen, unchanged, system, modality):
    system.setup_mudata(screen)
    with unchanged(screen):
        model = system(screen)
        model.train()
        model.get_latent_representation()


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_an_untrained_model_says_what_to_call(screen, system, modality):
    system.setup_mudata(screen)
    with pytest.raises(ValueError, match=rf"this {system.__name__} is not trained; call model.train\(\) first"):
        system(screen).get_latent_representation()


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_the_other_modality_is_refused(trained, system, modality):
    other = {"rna": "image", "image": "rna"}[modality]
    with pytest.raises(ValueError, match=f"modality='{other}'; {system.__name__} embeds '{modality}' only"):
        trained(system).get_latent_representation(modality=other)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_data_without_the_modality_is_refused(screen, system, modality):
    argument = {"rna": "rna_layer", "image": "images_key"}[modality]
    system.setup_mudata(screen, modalities={argument: None})
    with pytest.raises(ValueError, match=f"embeds the modality that {argument} refers to"):
        system(screen)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_saving_and_loading_say_what_to_keep_instead(trained, tmp_path, system, modality):
    with pytest.raises(NotImplementedError, match=r"Keep its embedding: mdata\['"):
        trained(system).save(tmp_path)
    with pytest.raises(NotImplementedError, match="train it again"):
        system.load(tmp_path)


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_a_model_names_its_modality(trained, system, modality):
    assert trained(system).modality_ == modality
    assert system.__name__ in trained(system)._model_summary_string


@pytest.mark.parametrize(("system", "modality"), SYSTEMS)
def test_a_model_says_where_it_computes_and_how_to_change_it(trained, system, modality):
    assert str(trained(system).device) == "cpu"
    with pytest.raises(NotImplementedError, match=rf"{system.__name__} stays on 'cpu'\. .*compute on the CPU"):
        trained(system).to_device("cpu")


@pytest.mark.parametrize("seed", [-1, 0.5, None])
@pytest.mark.parametrize("system", [PCAExpression, PCAPixels, MULTIVI])
def test_a_seed_that_numpy_would_refuse_is_named(screen, system, seed):
    system.setup_mudata(screen, **SETUP)
    with pytest.raises(ValueError, match=f"seed={seed}; it must be a whole number of at least 0"):
        system(screen, seed=seed)


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_has_at_least_one_cell(trained, size):
    with pytest.raises(ValueError, match=f"batch_size={size}; it must be at least 1"):
        trained(PCAExpression).get_latent_representation(batch_size=size)
