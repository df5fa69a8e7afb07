"""How long to train by default, and how long that takes on this machine."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

logger = logging.getLogger("scvi")
N_FIRST_STEPS = 5
"""Steps that are not timed: the first ones allocate memory and compile."""
MIN_TIMED_STEPS, MAX_TIMED_STEPS, TIMED_SECONDS = 5, 30, 5.0
"""Fewest and most steps that are timed; between these, timing ends after so many seconds."""
MIN_SECONDS = 20.0
"""Trainings that are over sooner are not announced."""
VALIDATION_SHARE = 0.4
"""Time of a minibatch of held-out cells, which needs no gradient, relative to a step."""


USUAL_EPOCHS, MAX_EPOCHS = 1920, 400
"""1920 passes over the square root of the number of cells: 3,000 steps of 64 cells for 10,000 cells."""


def usual_epochs(datamodule: LightningDataModule) -> int:
    """Passes over the cells by default: the number of steps grows with the square root of the number of cells."""
    if not hasattr(datamodule, "n_obs"):
        raise ValueError("max_epochs is needed with a datamodule that has no n_obs, its number of cells.")
    return max(1, min(MAX_EPOCHS, round(USUAL_EPOCHS / datamodule.n_obs**0.5)))


class TimeEstimate(Callback):
    """Time the first steps, and log how long the others will take."""

    def __init__(self) -> None:
        self._n_steps = 0
        self._begin, self._paused = 0.0, 0.0
        self._is_done = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time a step; after the last timed one, log the estimate."""
        if self._is_done or not trainer.is_global_zero:
            return
        self._n_steps += 1
        now = time.perf_counter()
        n_timed = self._n_steps - N_FIRST_STEPS
        if n_timed <= 0:
            self._begin = now
        elif n_timed >= MAX_TIMED_STEPS or (n_timed >= MIN_TIMED_STEPS and now - self._begin >= TIMED_SECONDS):
            self._is_done = True
            self._announce(trainer, (now - self._begin) / n_timed)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock while held-out cells are read."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        self._begin += time.perf_counter() - self._paused

    def _announce(self, trainer: Trainer, seconds_per_step: float) -> None:
        per_epoch = max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
        of_epochs, of_steps = (math.inf if n is None or n < 0 else n for n in (trainer.max_epochs, trainer.max_steps))
        n_left = min(of_epochs * per_epoch, of_steps) - trainer.global_step
        n_validations = n_left / per_epoch / max(1, trainer.check_val_every_n_epoch or 1)
        seconds = seconds_per_step * (n_left + VALIDATION_SHARE * n_validations * sum(trainer.num_val_batches))
        if not MIN_SECONDS <= seconds < math.inf:
            return
        most = "at most " if trainer.early_stopping_callbacks else ""
        advice = "" if of_steps < of_epochs * per_epoch else f" A max_epochs below {of_epochs} takes less."
        logger.info(
            f"Training takes {most}about {as_duration(seconds)}: {n_left:,} more steps of {seconds_per_step:.2g} s on "
            f"{trainer.strategy.root_device}.{advice}"
        )


def as_duration(seconds: float) -> str:
    """For example ``"7 minutes"``."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
