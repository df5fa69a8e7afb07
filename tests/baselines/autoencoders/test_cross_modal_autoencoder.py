from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from petri_scvi.baselines import CrossModalAutoencoder
from petri_scvi.nn._contrastive_losses import mean_misalignment

KEYS = {"image": "X_pca", "rna": "X_pca"}


def _embed(mdata, n_components=12):
    images = np.asarray(mdata["image"].obsm["single_cell_images"], dtype=np.float32).reshape(mdata["image"].n_obs, -1)
    counts = mdata["rna"].X.toarray()
    levels = np.log1p(counts / counts.sum(axis=1, keepdims=True) * np.median(counts.sum(axis=1)))
    for name, values in [("image", (images - images.mean(axis=0)) / images.std(axis=0)), ("rna", levels)]:
        reduced = PCA(n_components, random_state=0).fit_transform(values)
        mdata[name].obsm["X_pca"] = reduced.astype(np.float32)
    return mdata


@pytest.fixture
def embedded(screen):
    return _embed(screen)


def _build(mdata, **model):
    CrossModalAutoencoder.setup_mudata(mdata, embedding_keys=KEYS)
    return CrossModalAutoencoder(mdata, **{"embed_dim": 5, "hidden_dim": 16, **model})


def test_three_calls_give_one_shared_space(embedded, quiet):
    model = _build(embedded)
    model.train(max_epochs=2, **quiet)
    every_cell = model.get_latent_representation()
    assert every_cell.shape == (embedded.n_obs, 5)
    rows = np.asarray(embedded.obsmap["rna"]).reshape(-1) > 0
    np.testing.assert_allclose(every_cell[rows], model.get_latent_representation(modality="rna"), atol=1e-6)
    np.testing.assert_allclose(
        model.get_latent_representation(modality="rna", indices=[7, 2], batch_size=1),
        model.get_latent_representation(modality="rna")[[7, 2]],
        atol=1e-6,
    )
    for part in ("train_loss", "train_loss_image", "train_loss_rna", "train_loss_alignment", "validation_loss"):
        assert len(model.history[part]) == 2
    assert model.get_var_names()["rna"].tolist() == [f"X_pca_{i}" for i in range(12)]


@pytest.fixture(scope="module")
def learn(make_strong_screen, quiet):
    """Train on a screen with strong effects, its contexts permuted or not."""
    screens = {is_permuted: _embed(make_strong_screen(is_permuted=is_permuted), 25) for is_permuted in (False, True)}

    def learn(is_permuted, **model):
        mdata = screens[is_permuted]
        CrossModalAutoencoder.setup_mudata(mdata, embedding_keys=KEYS, context_key="context")
        built = CrossModalAutoencoder(mdata, embed_dim=16, hidden_dim=64, **model)
        built.train(max_epochs=20, train_size=0.7, plan_kwargs={"lr": 2e-3}, **quiet)
        return built

    return learn


@pytest.mark.slow
def test_aligned_means_let_held_out_cells_find_their_gene_in_the_other_modality(learn, retrieval):
    aligned, apart = learn(False), learn(False, alignment_weight=0.0)
    assert retrieval(aligned) > 0.8
    assert retrieval(aligned) > retrieval(apart) + 0.15
    for name in KEYS:
        reconstruction = aligned.history[f"train_loss_{name}"].iloc[:, 0].astype(float)
        assert reconstruction.iloc[-1] < 0.8 * reconstruction.iloc[0]


@pytest.mark.slow
def test_permuted_contexts_teach_nothing_about_held_out_cells(learn, retrieval):
    assert retrieval(learn(True)) < 0.65


def test_the_loss_is_reconstruction_plus_weighted_misalignment(embedded):
    module = _build(embedded, alignment_weight=0.3).module
    cells = {name: torch.from_numpy(embedded[name].obsm["X_pca"][:6]) for name in ("image", "rna")}
    latents, predictions, losses = module({"cells": cells, "context": torch.arange(3)})
    errors = {name: (predictions[name] - latents["inputs"][name]).square().mean() for name in cells}
    means = [latents["latents"][name].reshape(3, 2, 5).mean(dim=1) for name in cells]
    misalignment = mean_misalignment(*means)
    torch.testing.assert_close(losses.loss, errors["image"] + errors["rna"] + 0.3 * misalignment)
    torch.testing.assert_close(losses.reconstruction_loss["alignment"], misalignment)
    _, _, weighted = module({"cells": cells, "context": torch.arange(3)}, loss_kwargs={"loss_weights": {"image": 2.0}})
    torch.testing.assert_close(weighted.loss - losses.loss, errors["image"])


def test_inputs_are_standardised_by_training_cells_and_constant_dimensions_are_harmless(embedded, quiet):
    for name in KEYS:
        embedded[name].obsm["X_pca"] = 100 + 1000 * embedded[name].obsm["X_pca"]
        embedded[name].obsm["X_pca"][:, 3] = 7.0
    model = _build(embedded)
    model.train(max_epochs=1, **quiet)
    rows = model.train_indices["rna"]
    values = embedded["rna"].obsm["X_pca"][rows]
    prepared = model.module.modality("rna").prepare(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(prepared.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.delete(prepared, 3, axis=1).std(axis=0), 1, rtol=1e-3)
    assert np.isfinite(model.get_latent_representation()).all()
    back = model.module.modality("rna").to_measurement(torch.from_numpy(prepared)).numpy()
    np.testing.assert_allclose(back, values, rtol=1e-3, atol=1e-1)


def test_a_loaded_model_is_the_one_that_was_saved(embedded, make_screen, combine_one, quiet, tmp_path):
    model = _build(embedded, n_hidden_layers=2)
    model.train(max_epochs=1, **quiet)
    model.save(tmp_path / "model")
    fresh = _embed(make_screen())
    loaded = CrossModalAutoencoder.load(tmp_path / "model", fresh)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    loaded.train(max_epochs=1, **quiet)
    assert len(loaded.history["train_loss"]) == 2
    without_data = CrossModalAutoencoder.load(tmp_path / "model")
    np.testing.assert_array_equal(
        without_data.get_latent_representation(combine_one(image=_embed(make_screen())["image"])),
        model.get_latent_representation(modality="image"),
    )


@pytest.fixture
def combine_one():
    from mudata import MuData

    from petri_scvi._compat import columns_stay_in_modalities

    def combine(**modalities):
        with columns_stay_in_modalities():
            return MuData(modalities)

    return combine


def test_contexts_of_one_modality_are_reconstructed(embedded, quiet):
    embedded["rna"].obs["perturbation"] = "rna: " + embedded["rna"].obs["perturbation"].astype(str)
    for modality in embedded.mod.values():
        modality.obs["perturbation"] = modality.obs["perturbation"].astype(str)
        modality.obs.loc[modality.obs_names[:20], "perturbation"] = "shared"
        modality.obs.loc[modality.obs_names[20:40], "perturbation"] = "shared too"
    with pytest.warns(UserWarning, match="one modality only.*not aligned with others"):
        model = _build(embedded)
    model.train(max_epochs=16, n_contexts_per_minibatch=4, n_cells_per_context=4, **quiet)
    assert model.history["train_loss_rna"].iloc[-1, 0] < model.history["train_loss_rna"].iloc[0, 0]


def test_one_shared_context_aligns_nothing_and_is_refused(embedded, quiet):
    for modality in embedded.mod.values():
        modality.obs["perturbation"] = "everywhere"
    model = _build(embedded)
    with pytest.raises(ValueError, match="share 1 context.*alignment_weight=0"):
        model.train(max_epochs=1, **quiet)
    _build(embedded, alignment_weight=0.0).train(max_epochs=1, **quiet)


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"image": "X_pca", "rna": "X_mae"}, KeyError, r"X_mae.*not in mdata\['rna'\]\.obsm.*X_pca.*get_latent_repre"),
        ({"image": "X_pca", "protein": "X_pca"}, KeyError, "'protein' is not in mdata.mod"),
        (["X_pca", "X_pca"], TypeError, "pass a dictionary of modality to obsm slot"),
        ({"rna": "X_pca"}, ValueError, r"names \['rna'\]; a shared space is learned from two"),
        ({"image": "single_cell_images", "rna": "X_pca"}, ValueError, r"ndarray of shape \(240, 5, 16, 16\)"),
    ],
)
def test_embeddings_that_are_not_there_are_refused(keys, error, words, embedded):
    with pytest.raises(error, match=words):
        CrossModalAutoencoder.setup_mudata(embedded, embedding_keys=keys)


def test_embeddings_that_cannot_be_used_are_refused(embedded, make_screen, quiet):
    model = _build(embedded)
    model.train(max_epochs=1, **quiet)
    with pytest.raises(ValueError, match="has 7 dimensions; the model was built for 12"):
        model.get_latent_representation(_embed(make_screen(), 7))
    broken = _embed(make_screen())
    broken["rna"].obsm["X_pca"][3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 228 cells"):
        _build(broken)
    with pytest.raises(NotImplementedError, match="CrossModalAutoencoder.setup_mudata"):
        CrossModalAutoencoder.setup_anndata(embedded["rna"])


def test_arguments_out_of_range_are_refused(embedded, quiet):
    for argument, words in [
        ({"alignment_weight": -1.0}, "alignment_weight=-1.0"),
        ({"embed_dim": 0}, "embed_dim=0"),
        ({"embed_dim": 5.0}, "embed_dim=5.0; it must be a whole number"),
        ({"n_hidden_layers": 0}, "n_hidden_layers=0"),
    ]:
        with pytest.raises(ValueError, match=words):
            _build(embedded, **argument)
    with pytest.raises(ValueError, match="context_key is empty"):
        CrossModalAutoencoder.setup_mudata(embedded, embedding_keys=KEYS, context_key=[])
    with pytest.raises(ValueError, match="1 context; .*at least 2 are needed"):
        _build(embedded).train(max_epochs=1, n_contexts_per_minibatch=1, **quiet)
