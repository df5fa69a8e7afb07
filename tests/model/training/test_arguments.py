from __future__ import annotations

import sys
from inspect import signature
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import scvi
from scvi.dataloaders import DataSplitter
from scvi.model import MULTIVI, SCVI, TOTALVI
from scvi.train import Trainer, TrainingPlan
from torch.utils.data import DataLoader

from petri_scvi import PETRI, PETRITrainingPlan, baselines
from petri_scvi.dataloaders import DocumentDataModule
from petri_scvi.model.training._arguments import INSTEAD, SAME, own_arguments

NAMES = [
    ("train", {"batch_size": 128}, "n_contexts_per_minibatch documents of n_cells_per_context cells"),
    ("train", {"shuffle_set_split": False}, "datasplitter_kwargs={'external_indexing': [train, validation, test]}"),
    ("train", {"load_sparse_tensor": True}, "become dense when they are read"),
    ("train", {"external_indexing": None}, "Pass datasplitter_kwargs={'external_indexing': None}"),
    ("train", {"num_workers": 2}, "read ahead in a thread"),
    ("train", {"plan_config": {"lr": 1.0}}, "pass plan_kwargs={...}"),
    ("train", {"trainer_config": {"benchmark": True}}, "pass plan_kwargs={...}, and arguments of the trainer"),
    ("train", {"lr": 0.1}, "Pass plan_kwargs={'lr': 0.1}"),
    ("train", {"draw_runs": True}, "Pass datasplitter_kwargs={'draw_runs': True}"),
    ("train", {"reduce_lr_on_plateau": True}, "plan_kwargs={'lr_schedule': 'plateau'}"),
    ("datasplitter_kwargs", {"drop_last": True}, "all minibatches have the same size"),
    ("datasplitter_kwargs", {"num_workers": 2}, "read ahead in a thread"),
    ("datasplitter_kwargs", {"batch_size": 2}, "n_contexts_per_minibatch"),
    ("datasplitter_kwargs", {"foo": 2}, "expected some of ['draw_runs', 'external_indexing'"),
    ("plan_kwargs", {"n_epochs_kl_warmup": 10}, "no KL term"),
    ("plan_kwargs", {"optimizer": "Adam"}, "the optimizer is AdamW"),
    ("plan_kwargs", {"learning_rate": 10}, "['betas', 'compile'"),
]


@pytest.mark.parametrize(("place", "given", "advice"), NAMES, ids=lambda value: str(value)[:30])
def test_arguments_of_scvi_tools_are_refused_with_what_takes_their_place(
    trained_model, quiet, refused, place, given, advice
):
    arguments = given if place == "train" else {place: given}
    with refused(TypeError, next(iter(given)), advice):
        trained_model.train(max_epochs=1, **arguments, **quiet)


def test_values_that_ask_for_what_is_done_anyway_are_accepted(screen, fit):
    places = {"plan_config": "train", "trainer_config": "train", "reduce_lr_on_plateau": "plan_kwargs"}
    given = {"train": {}, "plan_kwargs": {}, "datasplitter_kwargs": {}}
    for name, value in SAME.items():
        given[places.get(name, "datasplitter_kwargs")][name] = value
    assert fit(screen, max_steps=1, **given.pop("train"), **given).is_trained


def test_every_argument_of_scvi_tools_is_known_or_refused():
    """Also those of releases to come: an argument that is neither would be ignored or fail without advice."""
    own = {place: set(signature(of).parameters) for place, of in (
        ("train", PETRI.train), ("datasplitter_kwargs", DocumentDataModule), ("plan_kwargs", PETRITrainingPlan)
    )}  # fmt: skip
    theirs = {
        "train": [method.train for method in (SCVI, MULTIVI, TOTALVI)],
        "datasplitter_kwargs": [DataSplitter],
        "plan_kwargs": [TrainingPlan],
    }
    skipped = {"self", "kwargs", "module", "adata_manager", "loss_kwargs", "on_step", "on_epoch"}
    for place, functions in theirs.items():
        names = {name for function in functions for name in signature(function).parameters}
        for name in names - own[place] - skipped - set(signature(Trainer).parameters):
            kwargs = [{}, {}, {}]
            kwargs[list(theirs).index(place)] = {name: "value"}
            with pytest.raises(TypeError, match=f"^{name} is not an argument of"):
                own_arguments("PETRI", *kwargs)


def test_the_table_says_nothing_about_our_own_arguments():
    for of in (PETRI.train, DocumentDataModule, PETRITrainingPlan):
        assert not set(INSTEAD) & set(signature(of).parameters)
    assert set(SAME) <= set(INSTEAD)


def test_a_train_size_of_none_is_the_default(screen, fit):
    default, none = fit(screen, max_steps=1), fit(screen, train_size=None, max_steps=1)
    for name, rows in default.train_indices.items():
        np.testing.assert_array_equal(none.train_indices[name], rows)


@pytest.mark.parametrize("metric", ["early_stopping_monitor", "checkpointing_monitor"])
def test_losses_of_other_models_cannot_be_monitored(trained_model, quiet, refused, metric):
    with refused(ValueError, f"{metric}='elbo_validation'", "'validation_loss'"):
        trained_model.train(max_epochs=1, early_stopping=True, **{metric: "elbo_validation"}, **quiet)


def test_global_settings_without_effect_are_named(screen, build, quiet):
    model = build(screen)
    scvi.settings.dl_num_workers = 2
    try:
        with pytest.warns(UserWarning, match="dl_num_workers=2 changes nothing here: .* thread"):
            model.train(max_steps=1, max_epochs=1, **quiet)
    finally:
        scvi.settings.dl_num_workers = 0


def test_a_split_can_be_given(screen, fit):
    first = fit(screen, train_size=0.7, validation_size=0.2, max_steps=1)
    parts = [first.train_indices, first.validation_indices, first.test_indices]
    again = fit(screen, datasplitter_kwargs={"external_indexing": parts}, max_steps=1)
    for before, after in zip(parts, (again.train_indices, again.validation_indices, again.test_indices), strict=True):
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])


def test_a_split_can_be_rows_of_the_mudata_as_in_scvi_tools(screen, fit):
    rows = np.random.default_rng(0).permutation(screen.n_obs)
    model = fit(screen, max_steps=1, datasplitter_kwargs={"external_indexing": [rows[100:], rows[:100]]})
    names = {name: screen[name].obs_names[found] for name, found in model.validation_indices.items()}
    assert set(screen.obs_names[rows[:100]]) == set(names["image"]) | set(names["rna"])
    assert [len(found) for found in model.test_indices.values()] == [0, 0]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (np.arange(3), ("is a ndarray", "list of 1 to 3 parts")),
        ([], ("list of 1 to 3 parts",)),
        ([{"images": [0]}], ("the data has the modalities ['image', 'rna']",)),
        ([{"image": [0, 1], "rna": [0]}, {"image": [1]}], ("1 cells of 'image' in several parts",)),
        ([{"image": [0, 1]}], ("no training cells of 'rna'",)),
        ([{"image": [0, 1000]}], ("there are 240 cells",)),
    ],
)
def test_a_split_that_cannot_be_used_is_refused(trained_model, quiet, refused, parts, words):
    with refused(ValueError, *words):
        trained_model.train(max_epochs=1, datasplitter_kwargs={"external_indexing": parts}, **quiet)


def test_the_data_module_of_scvi_tools_is_refused(trained_model, quiet, refused):
    with refused(TypeError, "datamodule=DataSplitter(...)", "Leave datamodule out"):
        trained_model.train(max_epochs=1, datamodule=DataSplitter(trained_model.adata_manager), **quiet)


class Wrapped(pl.LightningDataModule):
    """A data module of somebody else, which has loaders after ``setup`` only."""

    def __init__(self, inner: DocumentDataModule, n_obs: int | None = None) -> None:
        super().__init__()
        self._inner = inner
        if n_obs is not None:
            self.n_obs = n_obs

    def setup(self, stage: str) -> None:
        self.loader = self._inner.train_dataloader()

    def train_dataloader(self) -> DataLoader:
        return self.loader

    def val_dataloader(self) -> DataLoader | list:
        return self._inner.val_dataloader()


@pytest.fixture
def inner(trained_model) -> DocumentDataModule:
    manager = trained_model.adata_manager
    return DocumentDataModule(trained_model._readers(manager), trained_model._codes(manager))


def test_the_number_of_epochs_follows_from_n_obs_of_a_data_module(screen, build, quiet, inner):
    model = build(screen)
    model.train(datamodule=Wrapped(inner, n_obs=10_000), max_steps=1, **quiet)
    assert model.trainer.max_epochs == 19
    assert inner.n_obs == 240


def test_a_data_module_without_n_obs_needs_max_epochs(trained_model, quiet, refused, inner):
    with refused(ValueError, "max_epochs is needed", "no n_obs"):
        trained_model.train(datamodule=Wrapped(inner), **quiet)


def test_arguments_of_a_data_module_that_is_not_made_are_refused(trained_model, quiet, refused, inner):
    with refused(TypeError, "{'seed': 1} belongs to the data module that train() makes"):
        trained_model.train(max_epochs=1, datamodule=inner, datasplitter_kwargs={"seed": 1}, **quiet)
    settings = {"train_size": 0.5, "validation_size": 0.1, "n_contexts_per_minibatch": 4, "n_cells_per_context": 2}
    for name, value in settings.items():
        with refused(TypeError, f"{{'{name}': {value}}} belongs to", "pass it to that data module"):
            trained_model.train(max_epochs=1, datamodule=inner, **{name: value}, **quiet)


@pytest.mark.parametrize("model_class", [baselines.CLIP, baselines.CrossModalAutoencoder])
def test_defaults_of_other_models_are_not_taken_for_arguments(screen, quiet, refused, model_class):
    if model_class is baselines.CLIP:
        model_class.setup_mudata(screen)
        model = model_class(screen, embed_dim=16, n_heads=2, n_latent_tokens=2)
    else:
        for adata in screen.mod.values():
            adata.obsm["X_known"] = adata.obs[["true_effect", "true_cell_cycle"]].to_numpy()
        model_class.setup_mudata(screen, embedding_keys={"image": "X_known", "rna": "X_known"})
        model = model_class(screen)
    own = DocumentDataModule(
        model._readers(model.adata_manager), model._codes(model.adata_manager), n_contexts_per_minibatch=2
    )
    with refused(TypeError, "{'train_size': None} belongs to"):
        model.train(max_epochs=1, datamodule=own, train_size=None, **quiet)
    model.train(max_epochs=1, max_steps=1, datamodule=own, **quiet)
    assert model.is_trained


def test_minibatches_of_another_form_are_refused(screen, build, quiet, refused):
    class Rows(pl.LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return DataLoader([{"X": 1.0}])  # type: ignore[arg-type]

    model = build(screen)
    with refused(TypeError, "minibatches of ['X']", "'cells'", "'context'"):
        model.train(max_epochs=1, datamodule=Rows(), **quiet)
    assert not model.is_trained


def test_training_may_end_before_the_first_validation(screen, fit):
    model = fit(screen, max_epochs=3, max_steps=2, early_stopping=True)
    assert model.is_trained
    assert model.trainer.global_step == 2
    assert "validation_loss" not in model.history


def test_early_stopping_still_notices_a_loss_that_is_never_logged(screen, fit):
    with pytest.raises(RuntimeError, match="`validation_lost` which is not available"):
        fit(screen, early_stopping=True, early_stopping_monitor="validation_lost")


class FakeRun:
    """What scvi-tools calls of MLflow."""

    def __init__(self) -> None:
        self.info = SimpleNamespace(run_id="7")
        self.params: dict[str, Any] = {}
        self.metrics: dict[str, list[float]] = {}
        self.tags: dict[str, str] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def test_a_run_is_logged_to_mlflow(screen, fit, monkeypatch):
    run = FakeRun()
    mlflow = SimpleNamespace(
        set_tracking_uri=lambda uri: None,
        set_experiment=lambda name: None,
        start_run=lambda **kwargs: run,
        active_run=lambda: run,
        log_params=lambda params, run_id: run.params.update(params),
        log_metric=lambda key, value, step, run_id: run.metrics.setdefault(key, []).append(value),
        set_tag=run.tags.__setitem__,
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(scvi.settings, "_mlflow_set_tracking_uri", "folder")
    model = fit(screen, max_epochs=2, plan_kwargs={"lr": 1e-3})
    assert run.tags["status"] == "success"
    assert model.run_id == "7"
    assert run.metrics["validation_loss"] == model.history["validation_loss"]["validation_loss"].tolist()
    expected = {"lr": 1e-3, "train_size": 0.9, "n_cells_per_context": 8, "n_epochs_kl_warmup": None}
    assert {name: run.params[name] for name in expected} == expected


def test_a_data_module_that_mlflow_cannot_log_is_refused_before_training(
    screen, build, quiet, refused, monkeypatch, inner
):
    monkeypatch.setattr(scvi.settings, "_mlflow_set_tracking_uri", "folder")
    model = build(screen)
    with refused(TypeError, "['data_loader_kwargs', 'train_size', 'n_train', 'n_val']", "mlflow_set_tracking_uri"):
        model.train(max_epochs=1, datamodule=Wrapped(inner), **quiet)
    assert not model.is_trained


@pytest.mark.filterwarnings("default")  # of the packages of MLflow
def test_a_run_is_in_the_files_of_mlflow(screen, fit, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scvi.settings, "_mlflow_set_tracking_uri", f"sqlite:///{tmp_path}/runs.db")
    model = fit(screen, max_epochs=2)
    run = mlflow.get_run(model.run_id)
    assert run.data.metrics["validation_loss"] == pytest.approx(model.history["validation_loss"].iloc[-1, 0])


def test_a_run_is_in_the_files_of_tensorboard(screen, fit, tmp_path):
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    fit(screen, max_epochs=2, logger=logger)
    logger.experiment.close()
    events = EventAccumulator(logger.log_dir).Reload()
    assert [event.step for event in events.Scalars("validation_loss")] == sorted(
        event.step for event in events.Scalars("train_loss")
    )
    assert len(events.Scalars("train_loss_rna")) == 2
