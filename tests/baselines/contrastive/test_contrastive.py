from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from petri_scvi.baselines import CLIP, CellCLIP, GroupCLIP
from petri_scvi.nn._contrastive_losses import group_nce, info_nce

MODELS = [CLIP, CellCLIP, GroupCLIP]


@pytest.fixture
def fit(encoders, quiet):
    """Register a MuData, build a tiny model on it and train it for an epoch."""

    def fit(model_class: Any, mdata: Any, model: dict | None = None, **train: Any) -> Any:
        model_class.setup_mudata(mdata)
        built = model_class(mdata, **encoders, projection_dim=6, **(model or {}))
        built.train(**{"max_epochs": 1, "n_contexts_per_minibatch": 8, **quiet, **train})
        return built

    return fit


@pytest.fixture
def minibatch():
    """Random cells of three contexts, two cells each."""
    return {
        "cells": {"image": torch.rand(6, 5, 16, 16), "rna": torch.randint(1, 9, (6, 40)).float()},
        "context": torch.tensor([4, 2, 7]),
    }


@pytest.mark.parametrize("model_class", MODELS)
def test_three_calls_give_unit_vectors_in_one_space(model_class, screen, fit):
    model = fit(model_class, screen, max_epochs=2)
    every_cell = model.get_latent_representation()
    assert every_cell.shape == (screen.n_obs, 6)
    np.testing.assert_allclose(np.linalg.norm(every_cell, axis=1), 1, rtol=1e-5)
    for name in ("image", "rna"):
        rows = np.asarray(screen.obsmap[name]).reshape(-1) > 0
        np.testing.assert_allclose(every_cell[rows], model.get_latent_representation(modality=name), atol=1e-5)
    np.testing.assert_allclose(
        model.get_latent_representation(modality="rna", indices=[5, 3], batch_size=1),
        model.get_latent_representation(modality="rna")[[5, 3]],
        atol=1e-5,
    )
    assert model.get_latent_representation(modality="rna", position="encoder").shape == (228, 16)
    history = model.history
    assert len(history["train_loss"]) == 2
    for part in ("train", "validation"):
        directions = [history[f"{part}_loss_{name}"].iloc[:, 0].astype(float) for name in ("image", "rna")]
        total = history[f"{part}_loss"].iloc[:, 0].astype(float)
        np.testing.assert_allclose(total, (directions[0] + directions[1]) / 2, rtol=1e-4)


@pytest.mark.parametrize("model_class", MODELS)
def test_what_the_loss_needs_is_trained_and_decoders_are_not(model_class, screen, fit):
    model_class.setup_mudata(screen)
    model = fit(model_class, screen, max_steps=0)
    before = {name: parameter.clone() for name, parameter in model.module.named_parameters()}
    model.train(max_steps=3, max_epochs=5, n_contexts_per_minibatch=8, accelerator="cpu", enable_progress_bar=False)
    still = {name for name, p in model.module.named_parameters() if torch.equal(p, before[name])}
    is_reconstruction = {name for name in before if ".decoder." in name or "log_dispersion" in name}
    assert still >= is_reconstruction
    # The score of attention has a bias that softmax cancels.
    assert still - is_reconstruction <= {"pools.image.score.bias"}
    assert model.trainer.global_step == 3


@pytest.mark.parametrize("model_class", MODELS)
def test_a_loaded_model_is_the_one_that_was_saved(model_class, screen, make_screen, fit, tmp_path, quiet):
    extra = {"within_modality_weight": 0.5} if model_class is GroupCLIP else {}
    model = fit(model_class, screen, {"mask_ratio": 0.5, **extra})
    model.save(tmp_path / "model")
    loaded = model_class.load(tmp_path / "model", make_screen())
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    assert loaded.module.mask_ratio == 0.5
    if extra:
        assert loaded.module.within_modality_weight == 0.5
    assert loaded.history["train_loss"].equals(model.history["train_loss"])
    loaded.train(max_epochs=1, **quiet)
    assert len(loaded.history["train_loss"]) == 2
    without_data = model_class.load(tmp_path / "model")
    np.testing.assert_array_equal(
        without_data.get_latent_representation(make_screen(), modality="rna"),
        model.get_latent_representation(modality="rna"),
    )


def test_the_loss_of_clip_is_info_nce_of_the_mean_cells(screen, encoders, minibatch):
    CLIP.setup_mudata(screen)
    module = CLIP(screen, **encoders, temperature=0.2).module
    _, _, losses = module(minibatch)
    vectors = {name: module.encode(name, cells).mean(dim=1) for name, cells in minibatch["cells"].items()}
    image, rna = (module.project(name, v.unflatten(0, (3, 2)).mean(dim=1)) for name, v in vectors.items())
    expected = {"image": info_nce(image, rna, torch.arange(3), 5.0), "rna": info_nce(rna, image, torch.arange(3), 5.0)}
    for name, loss in expected.items():
        torch.testing.assert_close(losses.reconstruction_loss[name], loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.loss, sum(expected.values()) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", MODELS)
def test_of_three_modalities_every_pair_is_contrasted(model_class, make_screen, fit, encoders, quiet):
    screen = make_screen(n_proteins=8)
    kinds = {"image": "images", "rna": "counts", "protein": "counts"}
    model_class.setup_mudata(screen, modalities=kinds)
    model = model_class(screen, **encoders, projection_dim=6)
    tensors = {
        "cells": {
            "image": torch.rand(6, 5, 16, 16),
            "rna": torch.randint(1, 9, (6, 40)).float(),
            "protein": torch.randint(1, 9, (6, 8)).float(),
        },
        "context": torch.tensor([4, 2, 7]),
    }
    _, _, losses = model.module(tensors)
    pairs = {
        (one, other): model.module({**tensors, "cells": {name: tensors["cells"][name] for name in (one, other)}})[
            2
        ].reconstruction_loss[one]
        for one in kinds
        for other in kinds
        if one != other
    }
    for name in kinds:
        mean = sum(loss for (one, _), loss in pairs.items() if one == name) / 2
        torch.testing.assert_close(losses.reconstruction_loss[name], mean)
    model.train(max_epochs=1, n_contexts_per_minibatch=8, **quiet)
    for name in kinds:
        assert model.get_latent_representation(modality=name).shape == (screen[name].n_obs, 6)


def test_cell_clip_pools_images_by_attention_and_averages_transcriptomes(screen, encoders, minibatch):
    CellCLIP.setup_mudata(screen)
    module = CellCLIP(screen, **encoders).module
    encoded, compared, _ = module(minibatch)
    cells = {name: latents.mean(dim=1).unflatten(0, (3, 2)) for name, latents in encoded["latents"].items()}
    weights = module.pools["image"].weights(cells["image"])
    pooled = {"image": (weights.unsqueeze(-1) * cells["image"]).sum(dim=1), "rna": cells["rna"].mean(dim=1)}
    for name, vectors in pooled.items():
        assert compared[name].shape == (3, 128)
        torch.testing.assert_close(compared[name], module.project(name, vectors))


def test_group_clip_compares_every_cell_and_adds_what_is_within_a_modality(screen, encoders, minibatch):
    GroupCLIP.setup_mudata(screen)
    context = torch.tensor([4, 4, 2, 2, 7, 7])
    model = GroupCLIP(screen, **encoders, within_modality_weight=0.25)
    scale = model.module.log_scale.exp()
    _, compared, losses = model.module(minibatch)
    for name, other in [("image", "rna"), ("rna", "image")]:
        across = group_nce(compared[name], compared[other], context, context, scale)
        within = group_nce(compared[name], compared[name], context, context, scale, is_self_excluded=True)
        torch.testing.assert_close(losses.reconstruction_loss[name], across + 0.25 * within)


def test_loss_weights_weigh_the_directions(screen, encoders, minibatch):
    CLIP.setup_mudata(screen)
    module = CLIP(screen, **encoders).module
    _, _, losses = module(minibatch, loss_kwargs={"loss_weights": {"image": 3.0, "rna": 0.0}})
    torch.testing.assert_close(losses.loss, 1.5 * losses.reconstruction_loss["image"])


def test_a_mask_hides_tokens_in_training_and_none_afterwards(screen, encoders, minibatch):
    CLIP.setup_mudata(screen)
    module = CLIP(screen, **encoders, mask_ratio=0.5).module
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (
        module.inference(minibatch["cells"], 3, generator=generator)["latents"]["rna"] for generator in generators
    )
    torch.testing.assert_close(first, again)
    assert (first - other).abs().max() > 1e-3
    torch.testing.assert_close(
        module.encode("rna", minibatch["cells"]["rna"]), module.encode("rna", minibatch["cells"]["rna"])
    )


def test_the_temperature_stays_above_a_hundredth(screen, encoders, minibatch):
    CLIP.setup_mudata(screen)
    module = CLIP(screen, **encoders).module
    with torch.no_grad():
        module.log_scale.fill_(9.0)
    _, _, losses = module(minibatch)
    assert module.log_scale.exp().item() == pytest.approx(100)
    losses.loss.backward()
    assert module.log_scale.grad is not None
    assert module.log_scale.grad.abs() > 0


def test_contexts_of_one_modality_do_not_train(screen, fit):
    lonely = screen["image"].obs["perturbation"].astype(str).unique()[0]
    screen["rna"].obs["perturbation"] = screen["rna"].obs["perturbation"].astype(str).replace(lonely, "only rna")
    with pytest.warns(UserWarning, match="2 contexts were measured in one modality only.*not used in training"):
        CLIP.setup_mudata(screen)
    with pytest.warns(UserWarning, match="one modality only"):
        model = fit(CLIP, screen, max_steps=0)
    data = model._datamodule_cls(
        model._readers(model.adata_manager), model._codes(model.adata_manager), n_contexts_per_minibatch=4
    )
    seen = [*data.train_dataloader(), *data.val_dataloader()]
    names = model.adata_manager.get_state_registry("context_image")["categories"]
    drawn = {names[code] for minibatch in seen for code in minibatch["context"].tolist()}
    assert all(set(minibatch["cells"]) == {"image", "rna"} for minibatch in seen)
    assert drawn == set(names) - {lonely, "only rna"}


def test_what_cannot_be_compared_is_refused(screen, encoders, quiet, minibatch):
    CLIP.setup_mudata(screen)
    model = CLIP(screen, **encoders)
    with pytest.raises(ValueError, match=r"n_contexts_per_minibatch=1; .*at least 2"):
        model.train(max_epochs=1, n_contexts_per_minibatch=1, **quiet)
    with pytest.raises(TypeError, match=r"batch_size is not an argument of CLIP\.train"):
        model.train(max_epochs=1, batch_size=8, **quiet)
    one_context = {
        "cells": {name: cells[:2] for name, cells in minibatch["cells"].items()},
        "context": torch.tensor([4]),
    }
    one_modality = {**minibatch, "cells": {"rna": minibatch["cells"]["rna"]}}
    for wrong, words in [(one_context, "1 contexts of"), (one_modality, r"3 contexts of \['rna'\]")]:
        with pytest.raises(ValueError, match=words):
            model.module(wrong)


def test_a_single_shared_context_is_refused(screen, encoders, quiet):
    for name, modality in screen.mod.items():
        labels = np.array(["shared", f"only {name}"])
        modality.obs["perturbation"] = labels[np.arange(modality.n_obs) % 2]
    with pytest.warns(UserWarning, match="one modality only"):
        CLIP.setup_mudata(screen)
    with pytest.raises(ValueError, match="share 1 context; .*context_key"):
        CLIP(screen, **encoders).train(max_epochs=1, **quiet)


@pytest.mark.parametrize("model_class", MODELS)
def test_one_modality_is_refused(model_class, screen, encoders):
    model_class.setup_mudata(screen, modalities={"rna_layer": None})
    with pytest.raises(ValueError, match=rf"{model_class.__name__} compares two .*\['image'\].*build_mudata"):
        model_class(screen, **encoders)


@pytest.mark.parametrize(
    ("model_class", "argument", "words"),
    [
        (CLIP, {"temperature": 0.0}, "temperature=0.0; it must be finite and at least 0.01"),
        (CLIP, {"temperature": float("inf")}, "temperature=inf; it must be finite and at least 0.01"),
        (CLIP, {"projection_dim": 0}, "projection_dim=0"),
        (CLIP, {"mask_ratio": 1.0}, "mask_ratio=1.0"),
        (CLIP, {"mask_ratio": 0.01}, "hides none of the 16 tokens"),
        (CLIP, {"n_heads": 0}, "n_heads=0"),
        (GroupCLIP, {"within_modality_weight": -1.0}, "within_modality_weight=-1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(model_class, argument, words, screen, encoders):
    model_class.setup_mudata(screen)
    with pytest.raises(ValueError, match=words):
        model_class(screen, **{**encoders, **argument})


def test_unknown_arguments_are_refused(screen, encoders):
    GroupCLIP.setup_mudata(screen)
    with pytest.raises(TypeError, match="temprature"):
        GroupCLIP(screen, **encoders, temprature=0.1)
    with (
        pytest.raises(ValueError, match="position='set_transformer'; expected 'projection' or 'encoder'"),
        pytest.warns(UserWarning, match="[Tt]rain"),
    ):
        GroupCLIP(screen, **encoders).get_latent_representation(position="set_transformer")


LEARNING: dict[str, Any] = {"embed_dim": 32, "n_heads": 2, "n_latent_tokens": 2, "patch_size": 8}
LEARNING |= {"image_encoder_depth": 1, "expression_encoder_depth": 1}


def _learn(model_class, mdata, max_epochs, quiet):
    model_class.setup_mudata(mdata, context_key="context")
    model = model_class(mdata, **LEARNING)
    model.train(max_epochs=max_epochs, train_size=0.7, plan_kwargs={"lr": 2e-3}, **quiet)
    return model


@pytest.mark.parametrize(
    ("model_class", "max_epochs"),
    [
        pytest.param(CLIP, 8, marks=pytest.mark.slow),
        pytest.param(CellCLIP, 16, marks=pytest.mark.slow),
        pytest.param(GroupCLIP, 16, marks=pytest.mark.slow),
    ],
)
def test_held_out_cells_find_their_gene_in_the_other_modality_unless_contexts_were_permuted(
    model_class, max_epochs, make_strong_screen, retrieval, quiet
):
    learned = retrieval(_learn(model_class, make_strong_screen(), max_epochs, quiet))
    permuted = retrieval(_learn(model_class, make_strong_screen(is_permuted=True), max_epochs, quiet))
    # Chance is 0.5; with 11 genes it varies by about 0.1: six permutations have 0.36 to 0.67 with GroupCLIP.
    assert learned > 0.85
    assert permuted < 0.75
