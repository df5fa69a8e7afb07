"""How PETRI is optimised and what is logged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from petri_scvi._module import PETRIModule


class PETRITrainingPlan(pl.LightningModule):
    """AdamW with warm-up and cosine decay; one logged loss per modality.

    PETRI has no ELBO and no KL term, so this replaces scvi-tools' default plan instead of extending it.

    Parameters
    ----------
    module
        The module to train.
    lr
        Largest learning rate.
    weight_decay
        Decoupled weight decay of weight matrices; biases, norms, embeddings and learned tokens are not decayed.
    betas
        AdamW's decay rates of the first and second moment.
    n_warmup_steps
        Steps of linear warm-up; a twentieth of all steps if ``None``. ``lr_schedule="plateau"`` has none.
    lr_schedule
        ``"cosine"`` decay to ``lr_min`` at the last step or ``"constant"``, both after warm-up, or ``"plateau"``, which
        multiplies by ``lr_factor`` when ``validation_loss`` has not improved for ``lr_patience`` epochs.
    lr_min
        Smallest learning rate.
    lr_factor, lr_patience
        See ``lr_schedule``.
    loss_weights
        Weight of each modality's loss; 1 where not given.
    validation_seed
        Seed of the masks of the validation cells, the same in every epoch.
    compile
        Whether encoders, decoders and set transformer are compiled with :func:`torch.compile` while training.
    compile_kwargs
        Arguments of :func:`torch.compile`, such as ``mode`` or ``backend``.

    Raises
    ------
    ValueError
        An unknown schedule, warm-up before a plateau, or a weight for a modality that the module does not have.
    """

    def __init__(
        self,
        module: PETRIModule,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        n_warmup_steps: int | None = None,
        lr_schedule: Literal["cosine", "constant", "plateau"] = "cosine",
        lr_min: float = 0.0,
        lr_factor: float = 0.5,
        lr_patience: int = 10,
        loss_weights: Mapping[str, float] | None = None,
        validation_seed: int = 0,
        compile: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if lr_schedule not in ("cosine", "constant", "plateau"):
            raise ValueError(f"lr_schedule={lr_schedule!r}; expected 'cosine', 'constant' or 'plateau'.")
        if lr_schedule == "plateau" and n_warmup_steps:
            raise ValueError(
                f"n_warmup_steps={n_warmup_steps}, but lr_schedule='plateau' has no warm-up. Leave n_warmup_steps out, "
                "or pass lr_schedule='cosine' or 'constant'."
            )
        unknown = set(loss_weights or {}) - set(module.modalities)
        if unknown:
            raise ValueError(
                f"loss_weights names {sorted(unknown)}, but the model's modalities are {list(module.modalities)}."
            )
        self.module = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = betas
        self.n_warmup_steps = n_warmup_steps
        self.lr_schedule = lr_schedule
        self.lr_min = lr_min
        self.lr_factor = lr_factor
        self.lr_patience = lr_patience
        self.loss_weights = dict(loss_weights or {})
        self.validation_seed = validation_seed
        self.is_compiled = compile
        self.compile_kwargs = dict(compile_kwargs or {})

    def on_fit_start(self) -> None:
        """Compile the networks in place, so that their parameters keep their names in checkpoints."""
        if self.is_compiled:
            for network in self.module.networks():
                network.compile(**self.compile_kwargs)

    def on_fit_end(self) -> None:
        """Leave the module as it came: compiled for the shapes of training, it would be compiled again for others."""
        for network in self.module.networks():
            network._compiled_call_impl = None

    def forward(self, minibatch: dict[str, Any], **inference_kwargs: Any) -> Any:
        """Encode, fuse, decode and score a minibatch."""
        return self.module(
            minibatch, inference_kwargs=inference_kwargs, loss_kwargs={"loss_weights": self.loss_weights}
        )[2]

    def training_step(self, minibatch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one minibatch under fresh masks."""
        losses = self.forward(minibatch, is_augmented=True)
        self._log("train", losses)
        return losses.loss

    def validation_step(self, minibatch: dict[str, Any], batch_idx: int) -> None:
        """Log the loss of held-out cells; the masks are the same in every epoch, so that the curve compares."""
        generator = torch.Generator(self.device).manual_seed(self.validation_seed + batch_idx)
        self._log("validation", self.forward(minibatch, generator=generator))

    def _log(self, part: str, losses: Any) -> None:
        settings: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "batch_size": losses.n_obs_minibatch,
            "sync_dist": part == "validation",
        }
        self.log(f"{part}_loss", losses.loss.detach(), prog_bar=True, **settings)
        for name, loss in losses.reconstruction_loss.items():
            self.log(f"{part}_loss_{name}", loss.detach(), **settings)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        linear = {id(layer.weight) for layer in self.module.modules() if isinstance(layer, torch.nn.Linear)}
        groups = [
            {"params": [p for p in trained if id(p) in linear], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if id(p) not in linear], "weight_decay": 0.0},
        ]
        # Lightning refuses to clip the gradients of a fused optimizer in mixed precision.
        is_fused = self.device.type in ("cpu", "cuda") and "mixed" not in str(self.trainer.precision)
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=is_fused)
        if self.lr_schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=self.lr_factor, patience=self.lr_patience, min_lr=self.lr_min
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "validation_loss"}}
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_multiplier())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_multiplier(self) -> Any:
        n_steps = int(self.trainer.estimated_stepping_batches)
        n_warmup = n_steps // 20 if self.n_warmup_steps is None else self.n_warmup_steps
        floor = self.lr_min / self.lr if self.lr else 0.0

        def multiplier(step: int) -> float:
            if step < n_warmup:
                return (step + 1) / (n_warmup + 1)
            if self.lr_schedule == "constant":
                return 1.0
            progress = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
            return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

        return multiplier
