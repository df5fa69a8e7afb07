"""Arguments of scvi-tools' models that have another place here, or no meaning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import scvi
from scvi.dataloaders import DataSplitter, SemiSupervisedDataSplitter

from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.common import rows_from_indices, rows_in_modality
from petri_scvi.dataloaders import DocumentDataModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

DATA = "datasplitter_kwargs"
PLAN = "plan_kwargs"

NO_WORKERS = "minibatches are read ahead in a thread, so no worker processes are needed. Leave it out."
NO_KL = "the loss has no KL term and nothing to warm up. Leave it out."
NO_ADVERSARY = "no classifier is trained against the model. Leave it out."
NO_CONFIG = "pass plan_kwargs={...}, and arguments of the trainer such as early_stopping_patience directly."
ONE_OPTIMIZER = "the optimizer is AdamW; pass plan_kwargs={'lr': ..., 'weight_decay': ..., 'betas': ...}."

INSTEAD = {
    "batch_size": (
        "a minibatch is n_contexts_per_minibatch documents of n_cells_per_context cells per modality. Pass these two."
    ),
    "shuffle_set_split": (
        "the cells of each context are split at random, by datasplitter_kwargs={'seed': ...}. For a split of your own, "
        "pass datasplitter_kwargs={'external_indexing': [train, validation, test]}."
    ),
    "load_sparse_tensor": (
        "the rows of a minibatch become dense when they are read. Leave it out; memory holds one minibatch of them."
    ),
    "drop_last": "all minibatches have the same size, so that none is left over. Leave it out.",
    "shuffle": "training cells are drawn at random in every epoch, and validation cells once. Leave it out.",
    "sampler": "documents are drawn by DocumentSampler. Pass datamodule=... for others.",
    "distributed_sampler": "with strategy='ddp', each device draws documents of its own. Leave it out.",
    "num_workers": NO_WORKERS,
    "persistent_workers": NO_WORKERS,
    "plan_config": NO_CONFIG,
    "trainer_config": NO_CONFIG,
    "reduce_lr_on_plateau": "pass plan_kwargs={'lr_schedule': 'plateau'}.",
    "lr_scheduler_metric": "the schedule 'plateau' watches validation_loss. Leave it out.",
    "lr_threshold": "pass plan_kwargs={'lr_schedule': 'plateau', 'lr_factor': ..., 'lr_patience': ...}.",
    "optimizer": ONE_OPTIMIZER,
    "optimizer_creator": ONE_OPTIMIZER,
    "eps": ONE_OPTIMIZER,
    "fused_optimizer": "AdamW is fused where the device allows it. Leave it out.",
    "n_steps_kl_warmup": NO_KL,
    "n_epochs_kl_warmup": NO_KL,
    "max_kl_weight": NO_KL,
    "min_kl_weight": NO_KL,
    "adversarial_mixing": NO_ADVERSARY,
    "adversarial_classifier": NO_ADVERSARY,
    "scale_adversarial_loss": NO_ADVERSARY,
    "update_only_decoder": "freeze parameters with requires_grad_(False) instead; they are then not trained.",
}
"""What takes the place of an argument of scvi-tools."""
SAME: dict[str, Any] = {
    "shuffle_set_split": True,
    "load_sparse_tensor": False,
    "drop_last": False,
    "num_workers": 0,
    "persistent_workers": False,
    "plan_config": None,
    "trainer_config": None,
    "reduce_lr_on_plateau": False,
    "adversarial_mixing": False,
    "adversarial_classifier": False,
}
"""Values that ask for what is done anyway."""
METRICS = ("elbo_validation", "reconstruction_loss_validation", "kl_local_validation")
"""What scvi-tools' models can monitor."""


def own_arguments(
    model: str,
    trainer_kwargs: Mapping[str, Any],
    datasplitter_kwargs: Mapping[str, Any] | None,
    plan_kwargs: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arguments of the trainer, the data module and the plan, without those that ask for what is done anyway.

    Parameters
    ----------
    model
        Name of the model's class.
    trainer_kwargs
        What ``train`` was given besides its own arguments.
    datasplitter_kwargs, plan_kwargs
        As given to ``train``.

    Raises
    ------
    TypeError
        An argument belongs in another place, or has no meaning for the model.
    ValueError
        A loss to be monitored is one of other models.
    """
    data_names, plan_names = (
        _names(DocumentDataModule) - {"readers", "codes", "groups", "cells"},
        _names(PETRITrainingPlan) - {"module"},
    )
    trainer = _without_same(trainer_kwargs, f"{model}.train")
    for name, value in trainer.items():
        for place, names in ((DATA, data_names), (PLAN, plan_names)):
            if name in names:
                raise TypeError(f"{name} is not an argument of {model}.train. Pass {place}={{{name!r}: {value!r}}}.")
        if isinstance(value, str) and value in METRICS:
            raise ValueError(
                f"{name}={value!r} is a loss of other models. {model} has 'validation_loss', which is the default, "
                "'validation_loss_' with the name of a modality, and the same with 'train'."
            )
    data, plan = _without_same(datasplitter_kwargs or {}, DATA), _without_same(plan_kwargs or {}, PLAN)
    for place, given, names in ((DATA, data, data_names), (PLAN, plan, plan_names)):
        if unknown := sorted(set(given) - names):
            raise TypeError(f"{place} has {unknown}; expected some of {sorted(names)}.")
    return trainer, data, plan


def check_datamodule(
    datamodule: Any, settings: Mapping[str, Any], datasplitter_kwargs: Mapping[str, Any], model: Any
) -> None:
    """Require a data module of documents, and no arguments for another one.

    Parameters
    ----------
    datamodule
        As given to ``train``.
    settings
        Arguments of ``train`` for the data module that it makes, defaults included.
    datasplitter_kwargs
        As given to ``train``.
    model
        The model.

    Raises
    ------
    TypeError
        The data module is one of scvi-tools, or arguments are given for one that ``train`` would make.
    """
    name = type(model).__name__
    if isinstance(datamodule, DataSplitter | SemiSupervisedDataSplitter):
        raise TypeError(
            f"datamodule={type(datamodule).__name__}(...) reads rows of one table, and {name} trains on documents of "
            "cells of each modality. Leave datamodule out: train() makes a DocumentDataModule of the registered data, "
            "with train_size, validation_size and datasplitter_kwargs."
        )
    given = _changed(settings, model) | dict(datasplitter_kwargs)
    if not hasattr(datamodule, "n_cells_per_context"):
        given.pop("n_cells_per_context", None)  # says how many cells of a document there are after training
    if given:
        raise TypeError(
            f"{given!r} belongs to the data module that train() makes; datamodule={type(datamodule).__name__}(...) "
            "splits and draws its own cells. Leave it out and pass it to that data module, or leave datamodule out."
        )
    if scvi.settings.mlflow_set_tracking_uri:
        logged = ("data_loader_kwargs", "train_size", "n_train", "n_val")
        if missing := [name for name in logged if not hasattr(datamodule, name)]:
            raise TypeError(
                f"scvi.settings.mlflow_set_tracking_uri is set, and scvi-tools logs attributes {missing} of the data "
                "module, which it does not have. Add them, or set mlflow_set_tracking_uri to ''."
            )


def check_minibatch(minibatch: Any) -> None:
    """Require the form of a minibatch of documents.

    Raises
    ------
    TypeError
        A minibatch of another data module has another form.
    """
    if not (isinstance(minibatch, dict) and {"cells", "context"} <= set(minibatch)):
        found = sorted(minibatch) if isinstance(minibatch, dict) else type(minibatch).__name__
        raise TypeError(
            f"datamodule yields minibatches of {found}; expected the dictionary of DocumentDataset: 'cells', the raw "
            "cells of each modality, and 'context', the code of each document."
        )


def warn_unused_settings() -> None:
    """Warn about global settings of scvi-tools that change nothing here."""
    for name in ("dl_num_workers", "dl_persistent_workers"):
        value = getattr(scvi.settings, name)
        if value:
            warnings.warn(f"scvi.settings.{name}={value} changes nothing here: {NO_WORKERS}", UserWarning, stacklevel=3)


def _changed(settings: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Arguments of ``train`` that differ from the defaults of the model's class; ``None`` stands for its attribute."""
    trains = [signature(c.__dict__["train"]).parameters for c in type(model).__mro__ if "train" in c.__dict__]
    defaults = {}
    for name in settings:
        default = next(of_class[name].default for of_class in trains if name in of_class)
        defaults[name] = getattr(model, f"_{name}", None) if default is None else default
    return {name: value for name, value in settings.items() if value != defaults[name]}


def rows_by_modality(mdata: MuData, modalities: Sequence[str], rows: Any) -> Any:
    """Rows of each modality, from rows of a MuData; a mapping stays as it is."""
    if isinstance(rows, Mapping) or rows is None:
        return rows or {}
    chosen = rows_from_indices(rows, mdata.n_obs)
    found = {name: rows_in_modality(mdata, name)[chosen] for name in modalities}
    return {name: of_modality[of_modality >= 0] for name, of_modality in found.items()}


def _names(of: type) -> set[str]:
    return set(signature(of).parameters)


def _without_same(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Arguments that are not in the table, which says what to do with the others."""
    for name, value in given.items():
        if name in INSTEAD and not (name in SAME and value == SAME[name]):
            raise TypeError(f"{name} is not an argument of {place}: {INSTEAD[name]}")
    return {name: value for name, value in given.items() if name not in INSTEAD}


def check_validation(datamodule: Any, early_stopping: bool, lr_schedule: str | None) -> None:
    """Require validation cells if something watches their loss."""
    needs_validation = {"early_stopping=True": early_stopping, "lr_schedule='plateau'": lr_schedule == "plateau"}
    for argument, is_needed in needs_validation.items():
        if is_needed and getattr(datamodule, "n_val", None) == 0:
            raise ValueError(
                f"{argument} needs validation_loss, but no cell is held out for validation; pass train_size=0.9, "
                f"or leave {argument} out."
            )
