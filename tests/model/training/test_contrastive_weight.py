"""The optional loss that tells documents apart across modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from petri_scvi import PETRI
from petri_scvi.baselines import CLIP, CrossModalAutoencoder

if TYPE_CHECKING:
    from mudata import MuData

QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


def train(mdata: MuData, tiny: dict[str, Any], max_epochs: int = 2, **plan: Any) -> PETRI:
    torch.manual_seed(0)
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs, n_contexts_per_minibatch=8, n_cells_per_context=2, plan_kwargs=plan, **QUIET)
    return model


def test_without_a_weight_training_is_as_before_and_with_one_it_is_logged(screen: MuData, tiny: dict[str, Any]) -> None:
    plain = train(screen, tiny)
    zero, one = (train(screen, tiny, contrastive_weight=weight) for weight in (0.0, 1.0))
    embeddings = [model.get_latent_representation() for model in (plain, zero, one)]
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert np.abs(embeddings[2] - embeddings[0]).max() > 1e-4
    assert "train_contrastive_loss" not in plain.history
    losses = {name: one.history[name].iloc[-1].item() for name in one.history}
    assert losses["train_loss"] == pytest.approx(
        losses["train_loss_image"] + losses["train_loss_rna"] + losses["train_contrastive_loss"], rel=1e-4
    )
    assert losses["validation_contrastive_loss"] > 0


def test_it_teaches_to_tell_documents_apart(screen: MuData, tiny: dict[str, Any]) -> None:
    history = train(screen, tiny, 12, contrastive_weight=1.0, lr=3e-3).history
    losses = history["train_contrastive_loss"].to_numpy(dtype=float).ravel()
    assert losses[-3:].mean() < 0.9 * losses[:3].mean()


def test_a_training_that_is_resumed_has_the_same_weight(screen: MuData, tiny: dict[str, Any], tmp_path: Any) -> None:
    def resume(**plan: Any) -> None:
        PETRI.setup_mudata(screen)
        model = PETRI(screen, **tiny)
        model.train(2, checkpoint=tmp_path / "training.ckpt", plan_kwargs={"seed": 0, **plan}, **QUIET)

    resume(contrastive_weight=1.0)
    with pytest.raises(ValueError, match="contrastive_weight"):
        resume()


def test_weights_that_cannot_be_used_are_refused(screen: MuData, tiny: dict[str, Any]) -> None:
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a finite number of at least 0"):
            train(screen, tiny, contrastive_weight=weight)
    PETRI.setup_mudata(screen, modalities={"rna_layer": None})
    with pytest.raises(ValueError, match=r"has only \['image'\]; leave it out"):
        PETRI(screen, **tiny).train(1, plan_kwargs={"contrastive_weight": 1.0}, **QUIET)
    CLIP.setup_mudata(screen)
    model = CLIP(screen, embed_dim=16, image_encoder_depth=1, expression_encoder_depth=1)
    with pytest.raises(ValueError, match="the model is contrastive already; leave it out"):
        model.train(1, plan_kwargs={"contrastive_weight": 1.0}, **QUIET)
    embed = {name: screen[name].obs[["true_effect", "true_cell_cycle"]].to_numpy() for name in ("image", "rna")}
    for name, values in embed.items():
        screen[name].obsm["X_known"] = values
    CrossModalAutoencoder.setup_mudata(screen, embedding_keys=dict.fromkeys(embed, "X_known"))
    with pytest.raises(ValueError, match="aligns the means of contexts already, with its alignment_weight"):
        CrossModalAutoencoder(screen).train(1, plan_kwargs={"contrastive_weight": 1.0}, **QUIET)
