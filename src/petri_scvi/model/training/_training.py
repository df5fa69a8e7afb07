"""Train the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scvi
import torch
from scvi.train import TrainRunner

from petri_scvi._compat import SimpleLogger
from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.common import user_path
from petri_scvi.dataloaders import DocumentDataModule
from petri_scvi.model.setup._context_groups import group_codes
from petri_scvi.model.setup._registered import RegisteredData, names_of_cells
from petri_scvi.model.training._arguments import (
    check_datamodule,
    check_minibatch,
    check_validation,
    own_arguments,
    rows_by_modality,
    warn_unused_settings,
)
from petri_scvi.model.training._checkpoint import (
    TrainingCheckpoint,
    check_checkpoint,
    check_ckpt_path,
    check_writable,
    describe_training,
)
from petri_scvi.model.training._devices import (
    allow_unused_parameters,
    check_precision,
    check_strategy,
    early_stopping_callback,
    early_stopping_is_ours,
    is_data_parallel,
    lost_processes_are_named,
)
from petri_scvi.model.training._divergence import DivergenceWatch
from petri_scvi.model.training._duration import TimeEstimate, usual_epochs
from petri_scvi.model.training._interrupt import interrupted_model_is_kept
from petri_scvi.model.training._unfinished_epoch import UnfinishedEpoch

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import LightningDataModule
    from numpy.typing import NDArray

N_CELLS_FOR_STATISTICS = 10_000
"""Training cells of each modality from which normalisation statistics are estimated."""


class TrainingMixin(RegisteredData):
    """Training on documents."""

    _datamodule_cls: type[DocumentDataModule] = DocumentDataModule
    _interrupted_checkpoint: Path | None = None
    """Checkpoint of an interrupted call."""

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 0.9,
        validation_size: float | None = None,
        n_contexts_per_minibatch: int = 8,
        n_cells_per_context: int = 8,
        early_stopping: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_every_n_steps: int | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datamodule: LightningDataModule | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        After the first steps, the time that training takes on this machine is printed.

        ``model.history`` then has a table per loss, with one row per epoch: ``train_loss``, ``train_loss_image`` and
        ``train_loss_rna``, or whatever the modalities are called, and, if cells are held out, the same with the prefix
        ``validation_`` instead of ``train_``.

        Parameters
        ----------
        max_epochs
            Passes over the cells: in an epoch, as many cells are drawn as the larger modality has. By default
            ``1920 / sqrt(n_cells)``, from 1 to 400: 19 for 10,000 cells, which are 3,000 steps of 64 cells per
            modality, and 2 for a million cells, 30,000 steps. Of a ``datamodule``, the default needs ``n_obs``.
        accelerator, devices
            Where to train, as in Lightning. With ``strategy="ddp"``, and ``num_nodes`` where there are several, each
            device takes ``n_contexts_per_minibatch`` documents of its own in every step: two devices do what one with
            twice as many does.
        train_size, validation_size
            Fractions of the cells of each context; ``train_size=None`` is 0.9, and all that are not for training are
            for validation if ``validation_size`` is ``None``.
        n_contexts_per_minibatch
            Documents per minibatch (G).
        n_cells_per_context
            Cells per document and modality (S), drawn with replacement.
        early_stopping
            Whether to stop when ``validation_loss`` no longer improves. All devices stop together.
        checkpoint
            File that keeps the state of training, written after every epoch. If it exists, training resumes from it:
            repeat an interrupted call unchanged, and it gives the result of an uninterrupted one. ``max_epochs`` may be
            larger, and the documents of a step may be shared by another number of devices. With several nodes, it must
            be a file that all of them can access.
        checkpoint_every_n_steps
            Also write ``checkpoint`` after this many steps.
        datasplitter_kwargs
            More arguments of :class:`petri_scvi.dataloaders.DocumentDataModule`, such as ``seed`` and
            ``group_share``. The parts of ``external_indexing`` may also be rows of the MuData.
        plan_kwargs
            Arguments of :class:`petri_scvi.PETRITrainingPlan`: ``lr``, ``weight_decay``, ``n_warmup_steps``,
            ``lr_schedule``, ``loss_weights``, ``seed``, ``compile`` and so on.
        datamodule
            Data to train on instead of the registered MuData, split and drawn as it is made; ``train_size`` and other
            arguments for that are refused. Its minibatches are like those of
            ``petri_scvi.dataloaders.DocumentDataset``.
        trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, such as ``strategy``, ``precision``, ``logger``, ``callbacks``,
            ``enable_checkpointing`` or ``ckpt_path``. ``gradient_clip_val`` is 1 unless given.

        Raises
        ------
        ValueError
            Early stopping without validation cells, a model without data, a ``checkpoint`` of another call, or a
            ``strategy`` or ``precision`` that does not work.
        TypeError
            An argument that neither this method nor the trainer accepts. The error says what takes the place of those
            of other models of scvi-tools.
        RuntimeError
            Another process of the same run was killed.
        FloatingPointError
            A loss, a gradient or a weight became NaN or infinite. The model keeps its last finite weights, and a
            ``checkpoint`` stays as it was last written.
        KeyboardInterrupt
            Training was interrupted, by Ctrl-C for example. The model is then trained up to that point: its history has
            the complete epochs, and it can embed cells, be saved and be trained further. With ``checkpoint``, the same
            call resumes from the file.
        """
        model = type(self).__name__
        trainer_kwargs, datasplitter_kwargs, plan_kwargs = own_arguments(
            model, trainer_kwargs, datasplitter_kwargs, plan_kwargs
        )
        is_registered = datamodule is None
        settings = {
            "train_size": train_size,
            "validation_size": validation_size,
            "n_contexts_per_minibatch": n_contexts_per_minibatch,
            "n_cells_per_context": n_cells_per_context,
        }
        if datamodule is None:
            datamodule = self._make_datamodule({**settings, **datasplitter_kwargs})
        else:
            check_datamodule(datamodule, settings, datasplitter_kwargs, self)
        if max_epochs is None:
            max_epochs = usual_epochs(datamodule)
        check_validation(datamodule, early_stopping, plan_kwargs.get("lr_schedule"))
        checkpoint = self._check_checkpoint_arguments(checkpoint, checkpoint_every_n_steps, trainer_kwargs)
        self.n_cells_per_context_ = getattr(datamodule, "n_cells_per_context", n_cells_per_context)
        with early_stopping_is_ours():
            runner = TrainRunner(
                self,
                training_plan=PETRITrainingPlan(self.module, **plan_kwargs),
                data_splitter=datamodule,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                **_trainer_arguments(datamodule, early_stopping, trainer_kwargs),
            )
        if checkpoint:
            described = describe_training(datamodule, runner.training_plan, runner.trainer.world_size)
            runner.trainer.callbacks.append(TrainingCheckpoint(checkpoint, checkpoint_every_n_steps, described))
            if checkpoint.exists():
                check_checkpoint(checkpoint, described, self.module.state_dict())
                runner.ckpt_path = checkpoint
                # A model that was interrupted is restored to the state that it had then.
                self.is_trained_, self.history_ = False, None
        if not self.is_trained_ and not runner.ckpt_path:
            self._fit_statistics(datamodule)
        self._interrupted_checkpoint = checkpoint
        self.module.train()  # a module that was used before is in evaluation mode
        try:
            with (
                lost_processes_are_named(runner.trainer, checkpoint),
                interrupted_model_is_kept(self, runner.trainer.callbacks, checkpoint),
            ):
                runner()
        finally:
            runner.training_plan.on_fit_end()
            if self.train_indices is getattr(datamodule, "train_idx", None):
                self.split_names_ = names_of_cells(self.adata) if is_registered else {}
        self._interrupted_checkpoint = None

    def _make_datamodule(self, settings: dict[str, Any]) -> DocumentDataModule:
        """The registered data."""
        warn_unused_settings()
        # Not self.adata_manager, because the MuData may have been set up again for another model in the meantime.
        manager = self._manager_of(None)
        seed = scvi.settings.seed if scvi.settings.seed is not None else 0
        if isinstance(parts := settings.get("external_indexing"), list | tuple):
            settings["external_indexing"] = [
                rows_by_modality(manager.adata, list(self._readers(manager)), part) for part in parts
            ]
        if groups := group_codes(manager):
            settings["groups"] = self._check_groups(groups)
        settings = {"seed": seed, "cells": self._numbered_cells(manager), **settings}
        return self._datamodule_cls(self._readers(manager), self._codes(manager), **settings)

    def _check_groups(self, groups: list[NDArray[np.integer]]) -> list[NDArray[np.integer]]:
        """Require a network in which the cells of a document meet."""
        if not self.module.set_transformer.blocks:
            raise ValueError(
                "context_groups have no effect: the model has no set transformer, so cells of a document are "
                "independent. Train a model with set_transformer_depth of at least 1, or set the data up without "
                "context_groups."
            )
        return groups

    def _check_checkpoint_arguments(
        self, checkpoint: str | Path | None, every_n_steps: int | None, trainer_kwargs: dict[str, Any]
    ) -> Path | None:
        ckpt_path = trainer_kwargs.get("ckpt_path")
        if ckpt_path is not None:
            trainer_kwargs["ckpt_path"] = user_path(ckpt_path)
            check_ckpt_path(trainer_kwargs["ckpt_path"])
        if checkpoint is None:
            if every_n_steps is not None:
                raise ValueError(
                    f"checkpoint_every_n_steps={every_n_steps} writes nothing without a file; pass "
                    "checkpoint='training.ckpt' as well."
                )
            return None
        if ckpt_path is not None:
            raise ValueError(
                f"checkpoint={str(checkpoint)!r} and ckpt_path={str(ckpt_path)!r} both say where to resume from; pass "
                "one of them."
            )
        path = user_path(checkpoint)
        if self.is_trained_ and not (path == self._interrupted_checkpoint and path.exists()):
            raise ValueError(
                f"checkpoint={str(checkpoint)!r}, but the model is trained already, and a file cannot record what came "
                f"before it. Make a new {type(self).__name__}, or train without checkpoint."
            )
        check_writable(path)
        return path

    def _fit_statistics(self, datamodule: LightningDataModule) -> None:
        """Estimate normalisation statistics from training cells, before the first step."""
        if isinstance(datamodule, DocumentDataModule):
            rng = np.random.default_rng([datamodule.seed, 2])
            for name, rows in datamodule.train_idx.items():
                some = np.sort(rng.permutation(rows)[:N_CELLS_FOR_STATISTICS])
                chunks = datamodule.readers[name].chunks(some)
                self.module.modality(name).fit_statistics(torch.from_numpy(chunk) for chunk in chunks)
            return
        datamodule.setup("fit")
        minibatches = [minibatch for _, minibatch in zip(range(32), datamodule.train_dataloader(), strict=False)]
        check_minibatch(minibatches[0] if minibatches else None)
        for name in self.module.modalities:
            cells = [minibatch["cells"][name] for minibatch in minibatches if name in minibatch["cells"]]
            if cells:
                self.module.modality(name).fit_statistics(cells)


def _trainer_arguments(
    datamodule: LightningDataModule, early_stopping: bool, trainer_kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of scvi-tools' trainer: defaults of this package, replaced by those of the user."""
    arguments = {
        "early_stopping": early_stopping,
        "early_stopping_monitor": "validation_loss",
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 1,  # losses are logged per epoch; a larger value only warns about short epochs
        # DocumentSampler splits documents by rank; Lightning's sampler would split the rows of rank 0 once more.
        "use_distributed_sampler": False,
        # Lightning warns about the empty validation loader otherwise.
        "limit_val_batches": 0 if getattr(datamodule, "n_val", None) == 0 else None,
        **trainer_kwargs,
    }
    # scvi-tools appends its own to this list.
    own = [UnfinishedEpoch(), *(arguments.get("callbacks") or []), DivergenceWatch(), TimeEstimate()]
    arguments["callbacks"] = own
    strategy = arguments.get("strategy")
    check_strategy(strategy)
    check_precision(arguments.get("precision"))
    if is_data_parallel(strategy):
        if getattr(datamodule, "n_kinds_of_documents", 1) > 1:
            arguments["strategy"] = allow_unused_parameters(strategy)
        if early_stopping:
            arguments["callbacks"].append(early_stopping_callback(arguments))
            arguments["early_stopping"] = False
        if arguments.get("logger") is None and not _is_forked(strategy):
            # By default, scvi-tools would pass on the history in a file in the working directory.
            arguments["logger"] = SimpleLogger(save_dir=arguments.get("log_save_dir"))
    return arguments


def _is_forked(strategy: Any) -> bool:
    """Whether training runs in children of this process only, whose memory is lost with them."""
    return isinstance(strategy, str) and any(word in strategy for word in ("fork", "notebook"))
