"""The state of training in a file, from which it is resumed."""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from lightning.pytorch.callbacks import Callback
from scvi.train import SaveCheckpoint

from petri_scvi._checks import check_sizes
from petri_scvi.common import (
    UnreadableFileError,
    check_stored,
    code_in,
    hidden_folder,
    read_sealed,
    seal,
    written_whole,
)
from petri_scvi.model._model_file import check_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    from petri_scvi._module import PETRIModule

PARTS = {
    "callbacks": dict,
    "state_dict": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "petri_scvi": dict,
    "epoch": int,
    "global_step": int,
}
"""Content of a checkpoint, with types."""


class TrainingCheckpoint(Callback):
    """Write the state of training to one file, atomically.

    It is written only between steps: before the first minibatch of an epoch, between two minibatches, and at the end.
    What training depends on is in it: weights, optimizer, schedule, early stopping, history, and where in the epoch it
    stands. Documents and masks follow from seeds.

    Parameters
    ----------
    path
        The file.
    every_n_steps
        Steps between two writes in an epoch; ``None`` writes between epochs only.
    settings
        What a call that resumes must have in common with the interrupted one, as plain numbers and strings.
    """

    state_key = "petri_scvi.TrainingCheckpoint"

    def __init__(self, path: Path, every_n_steps: int | None, settings: Mapping[str, Any]) -> None:
        if every_n_steps is not None:
            check_sizes(checkpoint_every_n_steps=every_n_steps)
        self.path = path
        self.every_n_steps = every_n_steps
        self.settings = dict(settings)
        self._n_steps_written = 0
        self._is_stopped = False
        self._history: dict[str, Any] = {}
        self._unfinished: str | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the last epoch ended with."""
        self._write_if_new(trainer, pl_module, unfinished="epoch_progress")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write what the last minibatch ended with, if it is time."""
        # Steps, not minibatches: between two steps, accumulated gradients would be lost.
        if self.every_n_steps and trainer.global_step - self._n_steps_written >= self.every_n_steps:
            self._write_if_new(trainer, pl_module, unfinished="epoch_loop.batch_progress")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the end of training."""
        self._is_stopped = trainer.should_stop
        self._write_if_new(trainer, pl_module, unfinished=None)

    def _write_if_new(self, trainer: Trainer, pl_module: LightningModule, unfinished: str | None) -> None:
        if unfinished and trainer.global_step == self._n_steps_written:
            return
        self._unfinished = unfinished
        self._history = _history_of(trainer)
        check_finite(cast("PETRIModule", pl_module.module).state_dict())
        is_writer = trainer.is_global_zero
        with (
            _models_are_not_saved(trainer),
            written_whole(self.path) if is_writer else nullcontext(self.path) as path,
        ):
            trainer.save_checkpoint(path, weights_only=False)
            if is_writer:
                seal(path)
        # No process continues before the file has its final name.
        trainer.strategy.barrier("petri_scvi.TrainingCheckpoint")
        self._n_steps_written = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """History, and what must not change."""
        return {"settings": self.settings, "history": self._history, "is_stopped": self._is_stopped}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Undo counts that Lightning has begun, by which it would consider the epoch or the minibatch half done."""
        if self._unfinished is None:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for counts in (loops[self._unfinished]["total"], loops[self._unfinished]["current"]):
            counts["ready"] -= 1
        for loader in loops["state_dict"].get("combined_loader", []):
            is_new_epoch = self._unfinished == "epoch_progress"
            loader["n_minibatches"] = 0 if is_new_epoch else loader["n_minibatches"] - 1

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the history."""
        state = checkpoint["callbacks"][self.state_key]
        self._n_steps_written = checkpoint["global_step"]
        trainer.should_stop = state["is_stopped"]
        if trainer.is_global_zero and state["history"]:
            frames: Any = trainer.logger.experiment.data  # type: ignore[union-attr]
            for name, (index_name, index, values) in state["history"].items():
                frames[name] = pd.DataFrame({name: values}, index=pd.Index(index, name=index_name), dtype=object)


def _history_of(trainer: Trainer) -> dict[str, Any]:
    """Losses that scvi-tools' logger has so far, in types that every torch loads; empty with other loggers."""
    frames = (getattr(trainer.logger, "history", None) or {}) if trainer.is_global_zero else {}
    return {
        name: (frame.index.name, [int(i) for i in frame.index], [float(value) for value in frame[name]])
        for name, frame in frames.items()
    }


@contextmanager
def _models_are_not_saved(trainer: Trainer) -> Iterator[None]:
    """Keep scvi-tools' callback from saving the model, each time in another folder, when a checkpoint is written."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, SaveCheckpoint)]
    for callback in callbacks:
        callback.__dict__["on_save_checkpoint"] = lambda *args: None
    try:
        yield
    finally:
        for callback in callbacks:
            del callback.__dict__["on_save_checkpoint"]


def describe_training(datamodule: LightningDataModule, plan: Any, n_processes: int) -> dict[str, Any]:
    """What an interrupted call and the one that resumes it must have in common.

    Parameters
    ----------
    datamodule
        The data; a data module of another class is described by what it has of the same attributes.
    plan
        The training plan.
    n_processes
        Processes that share the documents of a step. Two with four documents each do what one with eight does.
    """
    described: dict[str, Any] = {
        name: getattr(plan, name)
        for name in ("lr", "weight_decay", "n_warmup_steps", "lr_schedule", "lr_min", "lr_factor", "lr_patience")
    }
    described |= {"betas": list(plan.betas), "loss_weights": dict(plan.loss_weights)}
    if plan.contrastive_weight:
        described["contrastive_weight"] = plan.contrastive_weight
    described["validation_seed"] = plan.validation_seed
    described["n_cells_per_context"] = getattr(datamodule, "n_cells_per_context", None)
    described["draw_runs"] = getattr(datamodule, "draw_runs", False)
    described["datasplitter seed"] = getattr(datamodule, "seed", None)
    if groups := getattr(datamodule, "groups", None):
        described["group_share"] = getattr(datamodule, "group_share", None)
        described["checksum of groups"] = zlib.crc32(b"".join(codes.tobytes() + b";" for codes in groups))
    n_contexts = getattr(datamodule, "n_contexts_per_minibatch", None)
    described["contexts per step, of all devices"] = n_contexts and n_contexts * n_processes
    for part in ("train_idx", "val_idx"):
        rows = getattr(datamodule, part, None) or {}
        described[f"checksum of {part}"] = {name: zlib.crc32(rows[name].tobytes()) for name in sorted(rows)}
    return described


def _parts(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What the callback wrote, and the weights."""
    lacking = [name for name, kind in PARTS.items() if not isinstance(found.get(name), kind)]
    if lacking:
        raise UnreadableFileError(f"lacks {lacking[0]}")
    state = found["callbacks"].get(TrainingCheckpoint.state_key)
    if not isinstance(state, dict) or not isinstance(state.get("settings"), dict):
        raise UnreadableFileError("lacks the settings of the call")
    return state, {str(name): check_stored(weight) for name, weight in found["state_dict"].items()}


def check_checkpoint(path: Path, settings: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """Require that training can be resumed from a file.

    Parameters
    ----------
    path
        File that :class:`TrainingCheckpoint` wrote.
    settings
        What :func:`describe_training` says of this call.
    weights
        State of the module.

    Raises
    ------
    ValueError
        The file is not such a checkpoint, or belongs to another model or call.
    """
    way_out = "Pass another file in checkpoint=..., or repeat the call that was interrupted."
    try:
        found = read_sealed(path)
        state, saved = _parts(found)
    except UnreadableFileError as error:
        raise ValueError(
            f"{path} {error}; it is not a complete file that train(checkpoint=...) wrote. {way_out}"
        ) from None
    shapes = {f"module.{name}": tuple(value.shape) for name, value in weights.items()}
    saved_shapes = {name: tuple(value.shape) for name, value in saved.items()}
    other = sorted(name for name in shapes.keys() | saved_shapes.keys() if shapes.get(name) != saved_shapes.get(name))
    if other:
        raise ValueError(f"{path} belongs to another model: {len(other)} weights differ, such as {other[0]}. {way_out}")
    before = state["settings"]
    changed = [
        f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted(settings.keys() | before.keys())  # what has no effect is not described
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(f"{path} belongs to another call: {'; '.join(changed)}. {way_out}")


def check_writable(path: Path) -> None:
    """Require, before the first step, that a checkpoint can be written.

    Raises
    ------
    ValueError
        The path is that of a folder, or nothing can be written beside it.
    """
    if path.is_dir():
        raise ValueError(f"checkpoint={str(path)!r} is a folder; pass a file, such as {str(path / 'training.ckpt')!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(path) as folder:
            (folder / path.name).write_bytes(bytes(2**12))
    except OSError as error:
        raise ValueError(
            f"checkpoint={str(path)!r} cannot be written ({error}). Pass a file in a folder that you may write to."
        ) from error


def check_ckpt_path(path: Path) -> None:
    """Require a file that Lightning reads without running code in it.

    Raises
    ------
    ValueError
        The file is missing, no archive of :func:`torch.save`, or names code to run.
    """
    way_out = "Pass a file that Lightning wrote, such as one of trainer.save_checkpoint()."
    if not zipfile.is_zipfile(path):
        raise ValueError(f"ckpt_path={str(path)!r} is not a checkpoint, or was cut short. {way_out}")
    if names := code_in(path):
        raise ValueError(f"ckpt_path={str(path)!r} names code to run: {', '.join(names[:5])}. {way_out}")
