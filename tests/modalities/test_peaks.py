"""Flags and low counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Poisson

from petri_scvi import PETRI, pp
from petri_scvi._model import DEFAULTS
from petri_scvi.modalities import BinaryModality, PeaksModality, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

SIZES: dict[str, Any] = {"n_latent_tokens": 3, "embed_dim": 8, "n_heads": 2, "expression_decoder_dim": 8}
SETTINGS = Settings.of(DEFAULTS, **SIZES, expression_encoder_depth=1)
EVERY = torch.ones(5, 6, dtype=torch.bool)


def test_flags_have_the_likelihood_of_bernoulli(rng: np.random.Generator) -> None:
    modality = BinaryModality({"n_vars": 6}, SETTINGS)
    flags = torch.as_tensor(rng.integers(0, 2, (5, 6)), dtype=torch.float32)
    logits = torch.randn(5, 6)
    expected = -Bernoulli(logits=logits).log_prob(flags).mean(dim=1)
    torch.testing.assert_close(modality.loss(logits, flags, EVERY), expected)
    torch.testing.assert_close(modality.to_measurement(logits), logits.sigmoid())


def test_peaks_have_the_likelihood_of_poisson_and_the_sum_of_the_cell(rng: np.random.Generator) -> None:
    modality = PeaksModality({"n_vars": 6}, SETTINGS)
    counts = torch.as_tensor(rng.poisson(2, (5, 6)), dtype=torch.float32)
    log_mean = modality.decode(torch.randn(5, 3, 8), counts)
    torch.testing.assert_close(modality.to_measurement(log_mean).sum(dim=1), counts.sum(dim=1))
    expected = -Poisson(log_mean.exp()).log_prob(counts).mean(dim=1)
    torch.testing.assert_close(modality.loss(log_mean, counts, EVERY), expected)


@pytest.mark.parametrize("kind", [BinaryModality, PeaksModality])
def test_an_untrained_decoder_predicts_about_the_mean_of_the_training_cells(
    kind: type[BinaryModality | PeaksModality], rng: np.random.Generator
) -> None:
    modality = kind({"n_vars": 6}, SETTINGS)
    cells = torch.as_tensor(rng.random((400, 6)) < np.linspace(0.1, 0.9, 6), dtype=torch.float32)
    modality.fit_statistics([cells[:100], cells[100:]])
    predicted = modality.to_measurement(modality.decode(torch.zeros(400, 3, 8), cells)).mean(dim=0)
    np.testing.assert_allclose(predicted.detach(), cells.mean(dim=0), atol=0.03)
    (score,) = modality.model_free_scores(cells).values()
    mask = torch.ones(400, 6, dtype=torch.bool)
    own = modality.loss(modality.decode(torch.zeros(400, 3, 8), cells), cells, mask)
    np.testing.assert_allclose(own.mean().item(), score(cells, mask).mean().item(), rtol=0.01)


@pytest.mark.parametrize("kind", ["binary", "peaks"])
def test_peaks_train_beside_expression(kind: str, make_screen: Callable[..., MuData], tiny: dict[str, Any]) -> None:
    mdata = make_screen()
    atac = make_screen(seed=1)["rna"]
    atac.var_names = "peak " + atac.var_names
    atac.X = (atac.X > 0).astype(np.float32) if kind == "binary" else atac.X
    rna = mdata["rna"]
    rna = rna[:, np.asarray(rna.X.sum(axis=0)).ravel() > 0].copy()
    mdata = pp.build_mudata(rna=rna, atac=atac)
    PETRI.setup_mudata(mdata, modalities={"rna": "continuous", "atac": kind})
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=15, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 3e-3})
    losses = model.history["train_loss_atac"].to_numpy(dtype=float).ravel()
    assert losses.min() < losses[0]
    prediction = model.get_reconstruction(modality="atac").prediction
    assert prediction.min() >= 0
    assert np.isfinite(model.get_latent_representation()).all()


def test_values_that_are_no_flags_are_refused(make_screen: Callable[..., MuData]) -> None:
    mdata = pp.build_mudata(atac=make_screen()["rna"])
    with pytest.raises(ValueError, match=r"other than 0 and 1, for example .*register counts as 'peaks'"):
        PETRI.setup_mudata(mdata, modalities={"atac": "binary"})
    mdata["atac"].X = mdata["atac"].X * 0.5
    PETRI.setup_mudata(mdata, modalities={"atac": "peaks"})
    with pytest.raises(ValueError, match="not whole numbers"):
        PETRI(mdata, patch_size=8)
