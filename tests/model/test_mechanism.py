"""The claim of the paper: cells of a document help to reconstruct each other, across modalities.

One small screen with strong shared effects, one model trained on it, and one on permuted contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scvi
import torch

import petri_scvi
from petri_scvi import PETRI, tl

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
    # A chance association is as regular in every cell as a learned one, so only its size tells.
    assert _row(permuted_gain, modality, source)["gain"] < 0.05 * _row(gain, modality, source)["gain"]


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


# Lipid droplets are the phenotype of the first two pathways: the first raises them, the second lowers them.
RAISING, LOWERING = ["TARGET02", "TARGET11", "TARGET12"], ["TARGET05", "TARGET07", "TARGET14"]


def _droplets(model: PETRI, mdata: MuData, context: Any, changed_context: str) -> pd.DataFrame:
    """What hidden bright patches are reconstructed as, per condition."""
    tl.targeted_reconstruction(
        model,
        mdata,
        channel="lipid_droplets",
        context=context,
        changed_context=changed_context,
        quantile=0.5,
        indices=model.validation_indices["image"],
        max_cells=100,
    )
    return mdata.uns["petri_scvi"]["targeted_reconstruction"]["summary"].set_index("condition")


def test_programs_of_the_droplets_are_those_that_the_tests_name(model):
    truth = model.adata.uns["synthetic_screen"]["perturbations"].set_index("pathway")["perturbation"]
    assert sorted(truth["pathway_01"]) == RAISING
    assert set(LOWERING) < set(truth["pathway_02"])


@pytest.mark.parametrize(("context", "changed"), [(RAISING, "TARGET05"), (LOWERING, "TARGET02")])
def test_transcriptomes_of_the_own_context_reconstruct_hidden_droplets_best_and_others_shift_them(
    model, permuted_model, context, changed
):
    direction = 1 if context is LOWERING else -1
    table = _droplets(model, model.adata, context, changed)
    saved = 1 - table.loc["own", "mse"] / table.loc[["none", "mixed"], "mse"]
    shift = direction * (table.loc["changed", "intensity"] / table.loc["own", "intensity"] - 1)
    assert (saved > 0.02).all()
    assert shift > 0.25
    table = _droplets(permuted_model, model.adata, context, changed)
    saved_permuted = 1 - table.loc["own", "mse"] / table.loc[["none", "mixed"], "mse"]
    shift_permuted = direction * (table.loc["changed", "intensity"] / table.loc["own", "intensity"] - 1)
    assert (saved_permuted < 0.5 * saved).all()
    assert shift_permuted < 0.3 * shift


@pytest.mark.parametrize(("changed", "direction"), [("TARGET02", 1), ("TARGET05", -1)])
def test_transcriptomes_of_a_context_brighten_or_dim_hidden_droplets_of_controls(
    model, permuted_model, changed, direction
):
    found, permuted = (
        _droplets(one, model.adata, "non-targeting", changed)["intensity"] for one in (model, permuted_model)
    )
    assert direction * (found["changed"] / found["own"] - 1) > 0.25
    assert abs(permuted["changed"] / permuted["own"] - 1) < 0.12


def test_images_predict_what_contexts_do_to_expression(model, permuted_model):
    rows = model.validation_indices["rna"]
    found, permuted = (
        tl.impute_expression(one, model.adata, indices=rows, min_cells=5, n_cells=24).var["correlation_predicted"]
        for one in (model, permuted_model)
    )
    assert found.mean() > 0.35
    # Genes move together over the 15 contexts: permutations 0, 1 and 2 have 0.12, -0.13 and -0.05 by chance.
    assert abs(permuted.mean()) < 0.5 * found.mean()


def test_dimensions_that_modalities_share_mean_the_same_in_each(model, permuted_model):
    mdata = model.adata.copy()
    for key, one in (("X_petri", model), ("X_permuted", permuted_model)):
        mdata.obsm[key] = one.get_latent_representation(model.adata)
        tl.center_scale(mdata, key, key_added=f"{key}_scaled")
        tl.fit_sae(mdata, f"{key}_scaled", key_added=f"{key}_sae", max_epochs=10, progress=False)
    tl.dimension_agreement(mdata, {"PETRI": "X_petri_sae", "permuted": "X_permuted_sae"})
    summary = mdata.uns["petri_scvi"]["dimension_agreement"]["summary"].set_index("model")
    # That cells of both modalities activate a dimension tells nothing: 17 and 15 do.
    assert (summary["n_multimodal"] >= 5).all()
    assert summary.loc["PETRI", "p_value"] < 0.01
    assert summary.loc["PETRI", "mean_correlation"] > 0.2
    assert summary.loc["permuted", "p_value"] > 0.01
    assert summary.loc["permuted", "mean_correlation"] < 0.15
    assert summary.loc["PETRI", "n_agreeing"] > summary.loc["permuted", "n_agreeing"]
