"""Training that the user interrupts with Ctrl-C, or with the stop button of a notebook."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer
    from scvi.model.base import BaseModelClass


class _Notice(Callback):
    """Remember the trainer that was interrupted, and the step at which it had started."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_step = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.trainer = trainer


@contextmanager
def interrupted_model_is_kept(
    model: BaseModelClass, callbacks: list[Callback], checkpoint: Path | None = None
) -> Iterator[None]:
    """Keep an interrupted model as trained until then, and leave the interpreter running.

    Lightning would ignore Ctrl-C from then on and end the interpreter.

    Parameters
    ----------
    model
        The model that is trained; after its first step it counts as trained.
    callbacks
        Callbacks of its trainer, to which one is added.
    checkpoint
        File from which training can resume.

    Raises
    ------
    KeyboardInterrupt
        Training was interrupted; the error message says after how many steps.
    """
    notice, history = _Notice(), model.history_
    callbacks.append(notice)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if notice.trainer is None or not isinstance(error.__context__, KeyboardInterrupt):
            raise
        trainer = notice.trainer
        n_steps = trainer.global_step - notice.first_step
        if n_steps:
            _finish(model, trainer)
        else:
            model.history_ = history
        raise KeyboardInterrupt(_message(trainer, n_steps, checkpoint)) from None
    finally:
        model.module.eval()
        if is_main:
            signal.signal(signal.SIGINT, before)


def _finish(model: BaseModelClass, trainer: Any) -> None:
    """Do what scvi-tools does after the last epoch."""
    for part in ("train", "validation", "test"):
        rows = getattr(trainer.datamodule, {"validation": "val"}.get(part, part) + "_idx", None)
        setattr(model, f"{part}_indices", rows)
    model.is_trained_ = True
    model.to_device(trainer.strategy.root_device)
    model.trainer = trainer


def _message(trainer: Any, n_steps: int, checkpoint: Path | None) -> str:
    if not n_steps:
        return "training was interrupted before its first step; the model is as it was."
    if checkpoint is not None and checkpoint.exists():
        way_on = f"Repeat the call to go on from {checkpoint}."
    else:
        way_on = (
            "Call train() again to train it further. To go on exactly where training stops, pass "
            "checkpoint='training.ckpt' in the first call."
        )
    return (
        f"training was interrupted after {n_steps} steps, with {trainer.current_epoch} of {trainer.max_epochs} epochs "
        f"complete. The model keeps what it has learned, and model.history has the complete epochs. {way_on}"
    )
