"""Stop training when a loss, a gradient or a weight is no longer finite, and keep the last finite weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer

    from petri_scvi._training_plan import PETRITrainingPlan

CHECKED_EVERY_STEP = ("cpu",)
"""Devices on which reading a number is free."""
N_STEPS_BETWEEN_CHECKS = 20
"""On other devices, where reading a number waits for all computations before it."""


class DivergenceWatch(Callback):
    """Raise a :class:`FloatingPointError` before weights become NaN or infinite.

    On the CPU, losses and gradients of every step are checked before its update. On other devices, every twentieth step
    is checked; its weights are copied on the device, and restored if a later step fails.
    """

    def __init__(self) -> None:
        self._minibatch: Mapping[str, Any] = {}
        self._last_good: dict[str, Tensor] = {}
        self._good_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights that training starts from."""
        self._keep(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the minibatch, in which the cause may be found."""
        self._minibatch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check losses and gradients and, on a GPU, the weights that they were computed from."""
        is_on_cpu = pl_module.device.type in CHECKED_EVERY_STEP
        if not is_on_cpu and (trainer.global_step + 1) % N_STEPS_BETWEEN_CHECKS:
            return
        losses = {name: float(loss) for name, loss in cast("PETRITrainingPlan", pl_module).losses.items()}
        self._check_losses(trainer, pl_module, losses, "")
        checked: list[Tensor] = [] if is_on_cpu else list(pl_module.parameters())
        if trainer.precision != "16-mixed":  # there, Lightning skips steps whose scaled gradients overflow
            checked += [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if not _are_finite(checked):
            self._stop(trainer, pl_module, "gradients or weights are NaN or infinite")
        self._keep(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses of the held-out cells."""
        self._minibatch = {}
        losses = {
            name.removeprefix("validation_loss_"): float(loss)
            for name, loss in trainer.callback_metrics.items()
            if name.startswith("validation_loss_")
        }
        self._check_losses(trainer, pl_module, losses, " in held-out cells")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights that training ends with."""
        if not _are_finite(pl_module.parameters()):
            self._stop(trainer, pl_module, "weights are NaN or infinite")
        self._last_good = {}

    def _keep(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._good_step = trainer.global_step
        if pl_module.device.type not in CHECKED_EVERY_STEP:
            self._last_good = {name: weight.detach().clone() for name, weight in pl_module.state_dict().items()}

    def _check_losses(
        self, trainer: Trainer, pl_module: LightningModule, losses: Mapping[str, float], where: str
    ) -> None:
        bad = [f"the loss of modality {name!r} is {loss:g}" for name, loss in losses.items() if not math.isfinite(loss)]
        if bad:
            self._stop(trainer, pl_module, " and ".join(bad) + where)

    def _stop(self, trainer: Trainer, pl_module: LightningModule, found: str) -> None:
        n_steps = trainer.global_step
        if self._last_good:
            pl_module.load_state_dict(self._last_good)
            n_steps = self._good_step
        for name, cells in self._minibatch.get("cells", {}).items():
            if not bool(torch.isfinite(cells.float()).all()):
                cause = (
                    f"The minibatch has cells of modality {name!r} with values that are NaN, infinite or too large for "
                    "float32. Replace these values, call setup_mudata and make a new model."
                )
                break
        else:
            lr = cast("PETRITrainingPlan", pl_module).lr
            cause = (
                f"The learning rate, {lr:g}, is probably too large. Make a new model and train it with a smaller one: "
                f"model.train(plan_kwargs={{'lr': {min(1e-4, lr / 10):g}}})."
            )
        raise FloatingPointError(
            f"training was stopped in step {trainer.global_step}: {found}. The weights are those after {n_steps} "
            f"steps. {cause}"
        )


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value is NaN or infinite."""
    values = [tensor.detach() for tensor in tensors if tensor.numel()]
    return not values or bool(torch.isfinite(torch.nn.utils.get_total_norm(values, norm_type=math.inf)))
