"""The claim of the paper: cells of a document help to rebuild each other, across modalities.

One small screen with strong shared effects, one model trained on it, and one on permuted contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scvi
import torch

import petri_scvi
from petri_scvi import PETRI

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

pytestmark = pytest.mark.slow

MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "n_heads": 4,
    "patch_size": 4,
    "image_encoder_depth": 2,
    "image_decoder_depth": 1,
    "image_decoder_dim": 32,
    "expression_encoder_depth": 2,
    "expression_decoder_dim": 64,
    "set_transformer_depth": 2,
}
N_EPOCHS = 16


def _train(mdata: MuData) -> PETRI:
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **MODEL)
    model.train(
        max_epochs=N_EPOCHS,
        train_size=0.9,
        accelerator="cpu",
        enable_progress_bar=False,
        plan_kwargs={"lr": 2e-3, "loss_weights": {"rna": 3.0}},
    )
    return model


def _screen() -> MuData:
    return petri_scvi.datasets.synthetic_screen(
        n_cells=6000,
        n_pathways=4,
        n_genes=300,
        image_size=16,
        image_strength=2.0,
        rna_strength=2.0,
        penetrance=1.0,
        shared_fraction=1.0,
    )


@pytest.fixture(scope="module")
def model() -> PETRI:
    return _train(_screen())


@pytest.fixture(scope="module")
def permuted_model() -> PETRI:
    mdata = _screen()
    rng = np.random.default_rng(0)
    for modality in mdata.mod.values():
        modality.obs["perturbation"] = rng.permutation(modality.obs["perturbation"].astype(str))
    return _train(mdata)


@pytest.fixture(scope="module")
def gain(model: PETRI) -> pd.DataFrame:
    return model.cross_modal_gain()


@pytest.fixture(scope="module")
def permuted_gain(model: PETRI, permuted_model: PETRI) -> pd.DataFrame:
    """Gain of the permuted model where companions truly share the target's perturbation."""
    return permuted_model.cross_modal_gain(model.adata, indices=permuted_model.validation_indices)


def _row(table: pd.DataFrame, modality: str, source: str) -> pd.Series:
    return table[(table["modality"] == modality) & (table["source"] == source)].iloc[0]


@pytest.mark.parametrize(("modality", "source"), [("image", "rna"), ("rna", "image"), ("image", "all"), ("rna", "all")])
def test_companions_of_the_same_perturbation_help(gain, modality, source):
    row = _row(gain, modality, source)
    assert row["gain_low"] > 0
    assert row["p_value"] < 1e-3
    assert row["effect_size"] > 0.1


@pytest.mark.parametrize(("modality", "source"), [("image", "rna"), ("rna", "image"), ("image", "all"), ("rna", "all")])
def test_after_training_on_permuted_contexts_true_companions_help_no_more_than_others(
    gain, permuted_gain, modality, source
):
    row = _row(permuted_gain, modality, source)
    assert row["gain_low"] < 0 or row["effect_size"] < 0.1
    assert row["gain"] < 0.2 * _row(gain, modality, source)["gain"]


@pytest.mark.parametrize(
    ("modality", "predictor", "margin"),
    [("image", "mean patch", 0.1), ("image", "mean of visible patches", 0.3), ("rna", "mean expression", 0.01)],
)
def test_reconstruction_beats_predictors_that_know_averages_only(model, modality, predictor, margin):
    errors = model.get_reconstruction_error().set_index(["modality", "predictor"])
    assert errors.loc[(modality, predictor), "margin"] > margin
    own = errors.loc[(modality, "PETRI"), "loss"]
    assert errors.loc[(modality, predictor), "margin"] == pytest.approx(
        1 - own / errors.loc[(modality, predictor), "loss"]
    )
