"""Weak effects are recovered better with the linear path than without; see docs/decisions/weak-effects.md."""

from __future__ import annotations

from typing import Any

import pytest
import scvi
import torch

import petri_scvi
from petri_scvi import PETRI, tl

pytestmark = pytest.mark.slow

MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "n_heads": 4,
    "image_encoder_depth": 1,
    "image_decoder_depth": 1,
    "image_decoder_dim": 32,
    "expression_encoder_depth": 1,
    "expression_decoder_dim": 64,
    "set_transformer_depth": 1,
}
N_STEPS = 100


def edge_auc(**changes: Any) -> dict[str, float]:
    """Edge AUC of each modality and of both, after a few steps of training."""
    torch.set_num_threads(1)
    mdata = petri_scvi.datasets.synthetic_screen(0, difficulty="weak")
    scvi.settings.seed = 0
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **MODEL, **changes)
    model.train(max_epochs=N_STEPS, max_steps=N_STEPS, accelerator="cpu", enable_progress_bar=False)
    for modality in ("image", "rna"):
        mdata[modality].obsm["X_petri"] = model.get_latent_representation(modality=modality)
    edges = mdata.uns["synthetic_screen"]["edges"]
    scores = tl.score_screen(mdata, ["X_petri"], edges=edges, fusions=["concatenate"], n_bootstrap=0, progress=False)
    scores = scores[scores["metric"] == "edge_auc"]
    return dict(zip(scores["modality"], scores["value"], strict=True))


def test_a_few_steps_of_the_default_recover_weak_effects_that_are_lost_without_the_path() -> None:
    default, without = edge_auc(), edge_auc(linear_path=False)
    assert default["rna"] > without["rna"] + 0.04
    assert default["image"] > without["image"] + 0.03
    assert default["image+rna"] > max(0.73, without["image+rna"] + 0.06)
