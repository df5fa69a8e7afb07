from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import SaveCheckpoint

from petri_scvi import PETRI

TRAIN = {"max_epochs": 2, "n_contexts_per_minibatch": 4, "n_cells_per_context": 8}
"""7 steps per epoch."""


class Interrupt(Callback):
    """Fail before a step, or while a checkpoint is written."""

    def __init__(self, step: int, while_writing: bool = False) -> None:
        self.step = step
        self.while_writing = while_writing

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.while_writing and trainer.global_step == self.step:
            raise RuntimeError("interrupted here")

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if self.while_writing and trainer.global_step == self.step:
            raise RuntimeError("interrupted here")


class Count(Callback):
    """Global steps that were made."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(trainer.global_step)


def assert_equal(model, other):
    for (name, value), (_, expected) in zip(
        model.module.state_dict().items(), other.module.state_dict().items(), strict=True
    ):
        assert torch.equal(value, expected), name
    assert set(model.history) == set(other.history)
    for name, values in model.history.items():
        assert values.index.tolist() == other.history[name].index.tolist()
        np.testing.assert_array_equal(values.to_numpy(float), other.history[name].to_numpy(float), err_msg=name)


@pytest.mark.parametrize(
    ("every", "interrupts", "train"),
    [
        (3, [5, 9], {"early_stopping": True, "early_stopping_patience": 1}),
        pytest.param(None, [10], {}, marks=pytest.mark.slow),
        pytest.param(1, [1, 7, 8, 14], {}, marks=pytest.mark.slow),
        pytest.param(2, [5], {"plan_kwargs": {"lr_schedule": "plateau", "lr_patience": 0}}, marks=pytest.mark.slow),
        pytest.param(1, [3, 6], {"accumulate_grad_batches": 2}, marks=pytest.mark.slow),
    ],
    ids=["in epochs", "between epochs", "every step", "plateau", "accumulated"],
)
def test_interrupted_training_ends_as_if_nothing_had_happened(screen, build, quiet, tmp_path, every, interrupts, train):
    torch.manual_seed(0)
    whole = build(screen, image_flip=True)
    whole.train(**TRAIN, **train, **quiet)
    checkpoint = {"checkpoint": tmp_path / "run" / "training.ckpt", "checkpoint_every_n_steps": every}
    for step in interrupts:
        torch.manual_seed(step if checkpoint["checkpoint"].exists() else 0)  # what was written counts
        started = build(screen, image_flip=True)
        with pytest.raises(RuntimeError, match="interrupted here"):
            started.train(**TRAIN, **train, **checkpoint, callbacks=[Interrupt(step)], **quiet)
    resumed = build(screen, image_flip=True)
    resumed.train(**TRAIN, **train, **checkpoint, **quiet)
    assert resumed.is_trained
    assert_equal(resumed, whole)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["training.ckpt"]


@pytest.fixture(scope="module")
def finished(make_screen, build, quiet, tmp_path_factory):
    """A model that was trained with a checkpoint, and the file."""
    screen, path = make_screen(), tmp_path_factory.mktemp("run") / "training.ckpt"
    model = build(screen)
    model.train(**TRAIN, checkpoint=path, plan_kwargs={"lr_schedule": "constant"}, **quiet)
    return model, screen, path


def test_a_call_that_was_finished_is_not_trained_again_when_it_is_repeated(finished, build, quiet):
    model, screen, path = finished
    repeated, count = build(screen), Count()
    plan = {"lr_schedule": "constant"}
    repeated.train(**TRAIN, checkpoint=path, plan_kwargs=plan, callbacks=[count], **quiet)
    assert count.steps == []
    assert_equal(repeated, model)


def test_more_epochs_go_on_from_the_last_one(finished, build, quiet, tmp_path):
    model, screen, path = finished
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(path.read_bytes())
    longer, count = build(screen), Count()
    plan = {"lr_schedule": "constant"}
    longer.train(**{**TRAIN, "max_epochs": 3}, checkpoint=copy, plan_kwargs=plan, callbacks=[count], **quiet)
    assert count.steps == [*range(15, 22)]
    assert longer.history["train_loss"].index.tolist() == [0, 1, 2]


def test_what_stopped_early_stays_stopped(screen, build, quiet, tmp_path):
    train = {"early_stopping": True, "early_stopping_patience": 1, "plan_kwargs": {"lr": 0.0}, "max_epochs": 9}
    for n_steps in (14, 0):  # the second epoch is no better than the first
        count = Count()
        model = build(screen)
        model.train(**{**TRAIN, **train}, checkpoint=tmp_path / "a.ckpt", callbacks=[count], **quiet)
        assert len(count.steps) == n_steps


@pytest.mark.slow
def test_an_interrupted_write_leaves_the_last_checkpoint(screen, build, quiet, tmp_path):
    path = tmp_path / "training.ckpt"
    with pytest.raises(RuntimeError, match="interrupted here"):
        build(screen).train(**TRAIN, checkpoint=path, callbacks=[Interrupt(14, while_writing=True)], **quiet)
    assert torch.load(path)["global_step"] == 7


def test_the_checkpoint_of_another_call_is_refused(finished, build, quiet, refused, tmp_path):
    _, screen, path = finished
    plan = {"lr_schedule": "constant"}
    train = {**TRAIN, "checkpoint": path, "plan_kwargs": plan, **quiet}
    with refused(ValueError, "belongs to another call", "lr was 0.0003 and is 0.01"):
        build(screen).train(**{**train, "plan_kwargs": {**plan, "lr": 0.01}})
    with refused(ValueError, "belongs to another call", "contexts per step", "was 4 and is 3"):
        build(screen).train(**{**train, "n_contexts_per_minibatch": 3})
    with refused(ValueError, "belongs to another call", "checksum of train_idx"):
        build(screen).train(**train, datasplitter_kwargs={"seed": 5})
    with refused(ValueError, "belongs to another call", "draw_runs was False and is True"):
        build(screen).train(**train, datasplitter_kwargs={"draw_runs": True})
    with refused(ValueError, "belongs to another model", "weights differ"):
        build(screen, embed_dim=32).train(**train)
    (tmp_path / "notes.txt").write_text("notes")
    with refused(ValueError, "notes.txt has no checksum", "not a complete file that train(checkpoint=...) wrote"):
        build(screen).train(**{**train, "checkpoint": tmp_path / "notes.txt"})


def test_contradictory_arguments_are_refused(finished, build, quiet, refused, tmp_path):
    model, screen, path = finished
    with refused(ValueError, "checkpoint_every_n_steps=5", "without a file"):
        build(screen).train(**TRAIN, checkpoint_every_n_steps=5, **quiet)
    with refused(ValueError, "ckpt_path", "pass one of them"):
        build(screen).train(**TRAIN, checkpoint=path, ckpt_path=path, **quiet)
    with refused(ValueError, "trained already", "Make a new PETRI"):
        model.train(**TRAIN, checkpoint=path, **quiet)
    with refused(ValueError, "checkpoint_every_n_steps=0", "at least 1"):
        build(screen).train(**TRAIN, checkpoint=tmp_path / "a.ckpt", checkpoint_every_n_steps=0, **quiet)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_step(screen, build, quiet, refused, tmp_path):
    (tmp_path / "file").write_text("")
    model, count = build(screen), Count()
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "file" / "a.ckpt", "cannot be written")):
        with refused(ValueError, words, "pass a file" if path == tmp_path else "Pass a file"):
            model.train(**TRAIN, checkpoint=path, callbacks=[count], **quiet)
    assert count.steps == []
    assert not model.is_trained


def test_the_callback_of_scvi_saves_no_model_when_a_checkpoint_is_written(screen, build, quiet, tmp_path):
    saver = SaveCheckpoint(dirpath=str(tmp_path / "best"), monitor="validation_loss")
    path = tmp_path / "training.ckpt"
    model = build(screen)
    model.train(**TRAIN, checkpoint=path, checkpoint_every_n_steps=1, callbacks=[saver], **quiet)
    assert [str(folder) for folder in (tmp_path / "best").iterdir()] == [saver.best_model_path]
    assert PETRI.load(saver.best_model_path, screen).is_trained
