"""Train the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scvi
import torch
from scvi.train import TrainRunner

from petri_scvi._compat import get_max_epochs_heuristic
from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.dataloaders import DocumentDataModule
from petri_scvi.model._registered import RegisteredData

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

N_CELLS_FOR_STATISTICS = 10_000
"""Training cells of each modality from which normalisation statistics are estimated."""


class TrainingMixin(RegisteredData):
    """Training on documents."""

    _datamodule_cls: type[DocumentDataModule] = DocumentDataModule

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        n_contexts_per_minibatch: int = 8,
        n_cells_per_context: int = 8,
        early_stopping: bool = False,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datamodule: LightningDataModule | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Passes over the cells: an epoch draws as many cells as the larger modality has. By default scvi-tools'
            heuristic, ``min(400, 400 * 20000 / n_cells)``.
        accelerator, devices
            Where to train, as in Lightning.
        train_size, validation_size
            Fractions of the cells of each context; all that do not train validate if ``validation_size`` is ``None``.
        n_contexts_per_minibatch
            Documents per minibatch (G).
        n_cells_per_context
            Cells per document and modality (S), drawn with replacement.
        early_stopping
            Whether to stop when ``validation_loss`` no longer improves. Not with DDP, where scvi-tools disables it.
        datasplitter_kwargs
            More arguments of :class:`petri_scvi.dataloaders.DocumentDataModule`, such as ``seed``.
        plan_kwargs
            Arguments of the training plan: ``lr``, ``weight_decay``, ``n_warmup_steps``, ``lr_schedule``,
            ``loss_weights``, ``compile`` and so on.
        datamodule
            Data to train on instead of the registered MuData. Its minibatches are like those of
            :class:`petri_scvi.dataloaders.DocumentDataset`.
        trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, such as ``precision``, ``logger``, ``callbacks``,
            ``enable_checkpointing`` or ``ckpt_path``. ``gradient_clip_val`` is 1 unless given.

        Raises
        ------
        ValueError
            Early stopping without validation cells, or a model without data.
        TypeError
            An argument that neither this method nor the trainer knows.
        """
        if "batch_size" in trainer_kwargs:
            raise TypeError(
                f"batch_size is not an argument of {type(self).__name__}.train: a minibatch is "
                "n_contexts_per_minibatch documents of n_cells_per_context cells per modality. Pass these two."
            )
        if datamodule is None:
            # Not self.adata_manager: the MuData may have been set up anew, for another model, in the meantime.
            manager = self._manager_of(None)
            readers, codes = self._readers(manager), self._codes(manager)
            seed = scvi.settings.seed if scvi.settings.seed is not None else 0
            datamodule = self._datamodule_cls(
                readers,
                codes,
                **{
                    "train_size": train_size,
                    "validation_size": validation_size,
                    "n_contexts_per_minibatch": n_contexts_per_minibatch,
                    "n_cells_per_context": n_cells_per_context,
                    "seed": seed,
                    **(datasplitter_kwargs or {}),
                },
            )
            if max_epochs is None:
                max_epochs = get_max_epochs_heuristic(max(map(len, readers.values())))
        if max_epochs is None:
            raise ValueError("max_epochs is needed with datamodule=..., whose number of cells is not known.")
        needs_validation = {
            "early_stopping=True": early_stopping,
            "lr_schedule='plateau'": (plan_kwargs or {}).get("lr_schedule") == "plateau",
        }
        for argument, is_needed in needs_validation.items():
            if is_needed and getattr(datamodule, "n_val", None) == 0:
                raise ValueError(
                    f"{argument} needs validation_loss, but no cell is held out for validation; pass train_size=0.9, "
                    "or go without."
                )
        self.n_cells_per_context_ = getattr(datamodule, "n_cells_per_context", n_cells_per_context)
        if not self.is_trained_:
            self._fit_statistics(datamodule)
        runner = TrainRunner(
            self,
            training_plan=PETRITrainingPlan(self.module, **(plan_kwargs or {})),
            data_splitter=datamodule,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            **{
                "early_stopping": early_stopping,
                "early_stopping_monitor": "validation_loss",
                "check_val_every_n_epoch": 1,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 1,  # losses are logged per epoch; a larger value only warns about short epochs
                # Our sampler knows its rank; Lightning's would deal every rank a part of rank 0's rows.
                "use_distributed_sampler": False,
                # Lightning warns about the empty validation loader otherwise.
                "limit_val_batches": 0 if getattr(datamodule, "n_val", None) == 0 else None,
                **trainer_kwargs,
            },
        )
        self.module.train()  # a module that was used before is in evaluation mode
        runner()

    def _fit_statistics(self, datamodule: LightningDataModule) -> None:
        """Estimate normalisation statistics from training cells, before the first step."""
        if isinstance(datamodule, DocumentDataModule):
            rng = np.random.default_rng([datamodule.seed, 2])
            for name, rows in datamodule.train_idx.items():
                some = np.sort(rng.permutation(rows)[:N_CELLS_FOR_STATISTICS])
                chunks = datamodule.readers[name].chunks(some)
                self.module.modality(name).fit_statistics(torch.from_numpy(chunk) for chunk in chunks)
            return
        minibatches = [minibatch for _, minibatch in zip(range(32), datamodule.train_dataloader(), strict=False)]
        for name in self.module.modalities:
            cells = [minibatch["cells"][name] for minibatch in minibatches if name in minibatch["cells"]]
            if cells:
                self.module.modality(name).fit_statistics(cells)
