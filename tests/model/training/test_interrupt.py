"""Training that is interrupted by Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from petri_scvi import PETRI
from petri_scvi.baselines import MULTIVI, SCVI

TRAIN = {"max_epochs": 3, "n_contexts_per_minibatch": 4, "n_cells_per_context": 8}
"""7 steps per epoch."""


class PressCtrlC(Callback):
    """Send the signal of Ctrl-C to this process when a step was made."""

    def __init__(self, step: int, hook: str = "on_train_batch_end") -> None:
        self.step = step
        setattr(self, hook, self.press)

    def press(self, trainer, *args, **kwargs):
        if trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGINT)


def interrupt(model, step, hook="on_train_batch_end", **train):
    """Train until the signal comes, and return what the error says."""
    before, threads = signal.getsignal(signal.SIGINT), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt) as caught:
        model.train(**{**TRAIN, **train}, callbacks=[PressCtrlC(step, hook)])
    assert signal.getsignal(signal.SIGINT) is before
    left = set(threading.enumerate()) - threads
    assert not [thread.name for thread in left if thread.name.startswith("petri_scvi")]
    return str(caught.value)


# Warnings of the compiler about itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"])
def test_an_interrupted_model_is_trained_as_far_as_it_came(screen, build, quiet, tmp_path, compiled):
    model = build(screen)
    plan = {"compile": compiled, "compile_kwargs": {"backend": "eager"}}
    message = interrupt(model, 10, plan_kwargs=plan, **quiet)
    assert not any(network._compiled_call_impl for network in model.module.networks())
    assert "after 10 steps, with 1 of 3 epochs complete" in message
    assert model.is_trained
    assert not model.module.training
    assert len(model.history["train_loss"]) == 1
    assert model.trainer.global_step == 10
    assert {name: len(rows) for name, rows in model.validation_indices.items()} == {
        name: len(model.get_held_out_rows(modality=name)) for name in ("image", "rna")
    }
    embedding = model.get_latent_representation()
    assert np.isfinite(embedding).all()
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(PETRI.load(tmp_path / "model", screen).get_latent_representation(), embedding)
    model.train(**{**TRAIN, "max_epochs": 1}, **quiet)
    assert len(model.history["train_loss"]) == 2


def test_a_model_interrupted_before_its_first_step_is_as_it_was(screen, build, quiet):
    model = build(screen)
    assert "before its first step" in interrupt(model, 0, hook="on_train_batch_start", **quiet)
    assert not model.is_trained
    assert model.history is None
    assert model.train_indices is None


def test_a_trained_model_that_is_interrupted_stays_trained(screen, fit, quiet):
    model = fit(screen)
    interrupt(model, 3, **quiet)
    assert model.is_trained
    assert len(model.history["train_loss"]) == 1


def test_an_interrupted_call_with_a_checkpoint_goes_on_when_it_is_repeated(screen, build, quiet, tmp_path):
    torch.manual_seed(0)
    whole = build(screen)
    whole.train(**TRAIN, **quiet)
    torch.manual_seed(0)
    model, checkpoint = build(screen), {"checkpoint": tmp_path / "training.ckpt", "checkpoint_every_n_steps": 2}
    assert "Repeat the call to go on from" in interrupt(model, 10, **checkpoint, **quiet)
    model.train(**TRAIN, **checkpoint, **quiet)
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, whole.module.state_dict()[name]), name
    assert model.history["train_loss"].index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(
        model.history["train_loss"].to_numpy(float), whole.history["train_loss"].to_numpy(float)
    )
    with pytest.raises(ValueError, match="trained already"):
        model.train(**TRAIN, **checkpoint, **quiet)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n_steps"), [(SCVI, 3), (MULTIVI, 10)])
def test_interrupted_models_of_scvi_tools_are_trained_as_far_as_they_came(screen, quiet, kind, n_steps):
    kind.setup_mudata(screen)
    model = kind(screen, **({"n_components": 4} if kind is MULTIVI else {}))
    with pytest.raises(KeyboardInterrupt, match="with 1 of 4 epochs complete"):
        model.train(max_epochs=4, callbacks=[PressCtrlC(n_steps)], batch_size=128, **quiet)
    assert model.is_trained
    assert np.isfinite(model.get_latent_representation(modality="rna")).all()
    assert len(model.validation_indices)
