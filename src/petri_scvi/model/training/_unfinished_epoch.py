"""Training that ends before its first validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class UnfinishedEpoch(Callback):
    """Let training end within its first epoch, by ``max_steps`` or ``max_time``, although early stopping was asked for.

    Early stopping would look for a validation loss that is not there yet, and fail. The callback must come before those
    of early stopping.
    """

    _is_validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that there is a validation loss."""
        self._is_validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do without the validation loss if training ends here anyway."""
        is_last = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if is_last and not self._is_validated:
            for callback in trainer.early_stopping_callbacks:
                callback.strict = False
