"""The training plan: optimiser, schedule and logged losses."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

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
    contrastive_weight
        Weight of a contrastive loss that finds a document's mean latent in one modality from that in another, among the
        documents of the minibatch. The paper has none, and it is off by default. With 1, it aligns the modalities; it
        needs many documents per minibatch, such as ``n_contexts_per_minibatch=32, n_cells_per_context=2``. With several
        processes, each tells its own documents apart.
    seed
        Seed of masks and augmentation in training; drawn from torch's global generator if ``None``. A document's masks
        follow from it, the epoch and the number of the document in the epoch, so that they depend neither on how many
        devices share the documents nor on when training was interrupted.
    validation_seed
        Seed of the masks of the validation cells, the same in every epoch.
    compile
        Whether encoders, decoders and set transformer are compiled with :func:`torch.compile` while training.
    compile_kwargs
        Arguments of :func:`torch.compile`, such as ``mode`` or ``backend``.

    Raises
    ------
    ValueError
        An unknown schedule, warm-up before a plateau, a learning rate or weight that is not finite, a weight for a
        modality that the module does not have, or a contrastive weight for a model that has one modality or is
        contrastive itself.
    """

    eps = 1e-8
    """AdamW's constant in the denominator; scvi-tools logs it and the following four to MLflow."""
    n_epochs_kl_warmup = n_steps_kl_warmup = max_kl_weight = min_kl_weight = None

    def __init__(
        self,
        module: PETRIModule,
        *,
        lr: float = 3e-4,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        n_warmup_steps: int | None = None,
        lr_schedule: Literal["cosine", "constant", "plateau"] = "cosine",
        lr_min: float = 0.0,
        lr_factor: float = 0.5,
        lr_patience: int = 10,
        loss_weights: Mapping[str, float] | None = None,
        contrastive_weight: float = 0.0,
        seed: int | None = None,
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
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"lr={lr!r}; expected a finite number of at least 0, for example 3e-4.")
        bad = {name: weight for name, weight in (loss_weights or {}).items() if not math.isfinite(weight)}
        if bad:
            raise ValueError(f"loss_weights={bad!r}; expected finite numbers, for example {dict.fromkeys(bad, 1.0)}.")
        unknown = set(loss_weights or {}) - set(module.modalities)
        if unknown:
            raise ValueError(
                f"loss_weights names {sorted(unknown)}, but the model's modalities are {list(module.modalities)}."
            )
        _check_contrastive_weight(contrastive_weight, module)
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
        self.contrastive_weight = contrastive_weight
        # Not when training starts, because with several processes Lightning seeds torch again until then.
        self.seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        self.validation_seed = validation_seed
        self.losses: dict[str, Tensor] = {}  # of each modality, in the last training step
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
        self._loader_states: list[dict[str, Any]] = []
        self.is_compiled = compile
        self.compile_kwargs = dict(compile_kwargs or {})

    def on_fit_start(self) -> None:
        """Share the seed between processes, and compile the networks in place, so that parameters keep their names."""
        self.seed = self.trainer.strategy.broadcast(self.seed)
        if self.is_compiled:
            for network in self.module.networks():
                network.compile(**self.compile_kwargs)

    def on_fit_end(self) -> None:
        """Restore the uncompiled module, which would be recompiled for shapes other than those of training."""
        for network in self.module.networks():
            network._compiled_call_impl = None

    def forward(self, minibatch: dict[str, Any], **inference_kwargs: Any) -> Any:
        """Encode, fuse, decode and score a minibatch."""
        loss_kwargs: dict[str, Any] = {"loss_weights": self.loss_weights}
        if self.contrastive_weight:
            loss_kwargs["contrastive_weight"] = self.contrastive_weight
        return self.module(minibatch, inference_kwargs=inference_kwargs, loss_kwargs=loss_kwargs)[2]

    def training_step(self, minibatch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one minibatch under fresh masks."""
        generators = self._generators(minibatch, batch_idx, self.seed, self.current_epoch)
        losses = self.forward(minibatch, is_augmented=True, generator=generators)
        self.losses = {name: loss.detach() for name, loss in losses.reconstruction_loss.items()}
        self._add("train", losses)
        return losses.loss

    def validation_step(self, minibatch: dict[str, Any], batch_idx: int) -> None:
        """Log the loss of held-out cells; the masks are the same in every epoch, so that epochs can be compared."""
        generators = self._generators(minibatch, batch_idx, self.validation_seed, 0)
        self._add("validation", self.forward(minibatch, generator=generators))

    def _generators(self, minibatch: dict[str, Any], batch_idx: int, seed: int, epoch: int) -> list[Generator]:
        """One source of randomness per document, by its number among those of all processes in this epoch."""
        n = len(minibatch["context"])
        first = (batch_idx * self.trainer.world_size + self.trainer.global_rank) * n
        states = [np.random.SeedSequence([seed, epoch, first + i]).generate_state(2) for i in range(n)]
        return [torch.Generator(self.device).manual_seed(int(a) << 31 | int(b) >> 1) for a, b in states]

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch."""
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        """Log the mean losses of the held-out cells."""
        self._log("validation")

    def _add(self, part: str, losses: Any) -> None:
        # Summed here and not by Lightning, whose means start again when training resumes in the middle of an epoch.
        n = losses.n_obs_minibatch
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        parts = {f"{part}_loss_{name}": loss for name, loss in losses.reconstruction_loss.items()}
        parts |= {f"{part}_{name}": loss for name, loss in (losses.extra_metrics or {}).items()}
        for name, loss in {f"{part}_loss": losses.loss, **parts}.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + loss.detach().to(dtype) * n, count + n)

    def _sums_of_all(self, part: str) -> dict[str, tuple[float, int]]:
        """Sum of each loss over the documents of all processes, and their number; the same on each of them."""
        own = {name: (float(total), n) for name, (total, n) in self._sums.items() if name.startswith(part)}
        if self.trainer.world_size == 1:
            return own
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, own)
        # Processes may have seen different modalities, or in another order.
        names = sorted(set().union(*everyone))
        found = {name: [sums[name] for sums in everyone if name in sums] for name in names}
        return {name: (sum(total for total, _ in sums), sum(n for _, n in sums)) for name, sums in found.items()}

    def _log(self, part: str) -> None:
        sums = self._sums_of_all(part)
        self._sums = {name: value for name, value in self._sums.items() if not name.startswith(part)}
        for name, (total, n) in sums.items():
            self.log(name, total / n, prog_bar=name == f"{part}_loss", sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that the rest of the epoch depends on."""
        checkpoint["petri_scvi"] = {"seed": self.seed, "sums": self._sums_of_all("train")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore masks and mean losses."""
        if "petri_scvi" in checkpoint:
            self.seed = checkpoint["petri_scvi"]["seed"]
            # Sums of all processes are added up again.
            self._sums = dict(checkpoint["petri_scvi"]["sums"]) if self.trainer.is_global_zero else {}
        self._loader_states = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_train_start(self) -> None:
        """Resume in the middle of an epoch, which Lightning forgets if the length of the loader was read before."""
        loader: Any = self.trainer.train_dataloader
        if len(self._loader_states) == 1 and hasattr(loader, "load_state_dict"):
            loader.load_state_dict(self._loader_states[0])
        self._loader_states = []

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        linear = {id(layer.weight) for layer in self.module.modules() if isinstance(layer, torch.nn.Linear)}
        groups = [
            {"params": [p for p in trained if id(p) in linear], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if id(p) not in linear], "weight_decay": 0.0},
        ]
        # Lightning refuses to clip the gradients of a fused optimizer in mixed precision.
        is_mixed = "mixed" in str(self.trainer.precision)
        is_fused = self.device.type in ("cpu", "cuda") and not is_mixed
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=is_fused)
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
        return partial(_multiplier, n_steps=n_steps, n_warmup=n_warmup, floor=floor, schedule=self.lr_schedule)


def _multiplier(step: int, *, n_steps: int, n_warmup: int, floor: float, schedule: str) -> float:
    """Learning rate of a step as a fraction of the largest one."""
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


def _check_contrastive_weight(weight: float, module: PETRIModule) -> None:
    """Require a module that the loss can be added to."""
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"contrastive_weight={weight!r}; expected a finite number of at least 0, for example 1.0.")
    if weight and module.without_contrastive_loss:
        raise ValueError(f"contrastive_weight={weight!r}, but {module.without_contrastive_loss}")
    if weight and len(module.modalities) < 2:
        raise ValueError(
            f"contrastive_weight={weight!r} compares modalities, but the model has only {list(module.modalities)}; "
            "leave it out, or set up the data with two modalities."
        )
