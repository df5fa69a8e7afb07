"""Training that diverges stops with an explanation, and keeps the last finite weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from petri_scvi import PETRI, baselines
from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.model.training import _divergence


def weights_are_finite(model) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in model.module.state_dict().values())


@pytest.fixture
def broken_step(monkeypatch):
    """Makes the loss of one modality NaN in a chosen step."""

    def break_in(step: int, modality: str = "rna") -> None:
        original = PETRITrainingPlan.forward

        def forward(self, minibatch, **kwargs):
            losses = original(self, minibatch, **kwargs)
            if self.trainer.global_step == step and self.training:
                losses.reconstruction_loss[modality] = losses.reconstruction_loss[modality] * torch.nan
                object.__setattr__(losses, "loss", losses.loss * torch.nan)
            return losses

        monkeypatch.setattr(PETRITrainingPlan, "forward", forward)

    return break_in


@pytest.mark.parametrize("model_class", [PETRI, baselines.MAE, baselines.CLIP])
def test_a_huge_learning_rate_is_named_and_the_weights_stay_finite(screen, quiet, tiny, model_class):
    model_class.setup_mudata(screen)
    tiny = {k: v for k, v in tiny.items() if model_class is not baselines.MAE or k != "set_transformer_depth"}
    if model_class is baselines.CLIP:
        tiny = {k: v for k, v in tiny.items() if "decoder" not in k and k != "set_transformer_depth"}
    model = model_class(screen, **tiny)
    with pytest.raises(FloatingPointError, match=r"step \d+: .* learning rate, 1e\+30, .*plan_kwargs=\{'lr': 0.0001\}"):
        model.train(max_epochs=20, plan_kwargs={"lr": 1e30, "n_warmup_steps": 0}, **quiet)
    assert not model.is_trained
    assert weights_are_finite(model)
    again = model_class(screen, **tiny)
    again.train(max_epochs=1, plan_kwargs={"lr": 0.0001}, **quiet)
    assert weights_are_finite(again)


def test_the_weights_are_those_before_the_step_that_failed(screen, build, quiet, broken_step):
    broken_step(4)
    model, other = build(screen), build(screen)
    other.module.load_state_dict(model.module.state_dict())
    plan_kwargs = {"seed": 0, "lr_schedule": "constant", "n_warmup_steps": 0}
    with pytest.raises(FloatingPointError, match=r"step 4: the loss of modality 'rna' is nan. .* those after 4 steps"):
        model.train(max_epochs=3, plan_kwargs=plan_kwargs, **quiet)
    other.train(max_epochs=3, max_steps=4, plan_kwargs=plan_kwargs, **quiet)
    for (name, found), wanted in zip(
        model.module.state_dict().items(), other.module.state_dict().values(), strict=True
    ):
        assert torch.equal(found, wanted), name
    assert not model.module.training


def test_a_model_that_was_trained_before_still_embeds(screen, fit, quiet, broken_step):
    model = fit(screen)
    before = model.get_latent_representation()
    broken_step(0)
    with pytest.raises(FloatingPointError):
        model.train(max_epochs=1, **quiet)
    np.testing.assert_array_equal(model.get_latent_representation(), before)


def test_the_last_checkpoint_stays_and_can_be_resumed_from(screen, build, quiet, tmp_path, monkeypatch, broken_step):
    path = tmp_path / "training.ckpt"
    with monkeypatch.context() as patch:
        broken_step(6)
        with pytest.raises(FloatingPointError):
            build(screen).train(max_epochs=4, checkpoint=path, checkpoint_every_n_steps=2, **quiet)
        patch.undo()
    monkeypatch.undo()
    written = path.read_bytes()
    saved = torch.load(path, weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in saved["state_dict"].values())
    model = build(screen)
    model.train(max_epochs=4, checkpoint=path, checkpoint_every_n_steps=2, **quiet)
    assert model.is_trained
    assert path.read_bytes() != written


def test_a_device_that_is_checked_rarely_gets_its_last_good_weights_back(screen, build, quiet, monkeypatch):
    """On the CPU, with what is done on a GPU: checks every second step, and copies of the weights."""
    monkeypatch.setattr(_divergence, "N_STEPS_BETWEEN_CHECKS", 2)
    monkeypatch.setattr(_divergence, "CHECKED_EVERY_STEP", ())
    model = build(screen)
    with pytest.raises(FloatingPointError, match="learning rate"):
        model.train(max_epochs=20, plan_kwargs={"lr": 1e30, "n_warmup_steps": 0}, **quiet)
    assert weights_are_finite(model)


def test_held_out_cells_without_a_finite_loss_are_named(screen, build, quiet, monkeypatch):
    original = PETRITrainingPlan.forward

    def forward(self, minibatch, **kwargs):
        losses = original(self, minibatch, **kwargs)
        if not self.training:
            losses.reconstruction_loss["image"] = losses.reconstruction_loss["image"] * torch.inf
        return losses

    monkeypatch.setattr(PETRITrainingPlan, "forward", forward)
    with pytest.raises(FloatingPointError, match="modality 'image' is inf in held-out cells"):
        build(screen).train(max_epochs=1, **quiet)


def test_cells_that_are_not_finite_are_the_cause_that_is_named(screen, build, quiet):
    model = build(screen)
    datamodule = model._make_datamodule({})
    loader = datamodule.train_dataloader

    def spoiled():
        for minibatch in loader():
            minibatch["cells"]["image"] = torch.full_like(minibatch["cells"]["image"], 2, dtype=torch.float64) * 1e39
            yield minibatch

    class Loader:
        def __iter__(self):
            return spoiled()

        def __len__(self):
            return len(loader())

    datamodule.train_dataloader = Loader
    with pytest.raises(FloatingPointError, match="cells of modality 'image' .* too large for float32"):
        model.train(max_epochs=1, datamodule=datamodule, **quiet)


@pytest.mark.parametrize(
    ("plan_kwargs", "words"),
    [
        ({"loss_weights": {"rna": float("nan")}}, ("loss_weights={'rna': nan}", "{'rna': 1.0}")),
        ({"lr": float("inf")}, ("lr=inf", "3e-4")),
        ({"lr": -1.0}, ("lr=-1.0",)),
    ],
)
def test_rates_and_weights_that_cannot_train_are_refused_before_the_first_step(
    screen, build, quiet, refused, plan_kwargs, words
):
    model = build(screen)
    with refused(ValueError, *words):
        model.train(max_epochs=1, plan_kwargs=plan_kwargs, **quiet)
    assert not model.is_trained
