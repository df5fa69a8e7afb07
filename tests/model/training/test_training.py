from __future__ import annotations

import math

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from petri_scvi import PETRI
from petri_scvi.dataloaders import DocumentDataModule

LOSSES = {f"{part}_loss{name}" for part in ("train", "validation") for name in ("", "_image", "_rna")}


class Record(Callback):
    """Learning rate and context codes of every training step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.contexts: list[list[int]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.contexts.append(batch["context"].tolist())


def test_one_epoch_trains_every_part_of_the_model(screen, build, quiet):
    model = build(screen)
    before = {name: value.clone() for name, value in model.module.named_parameters()}
    assert not model.is_trained
    model.train(max_epochs=1, **quiet)
    assert model.is_trained
    assert not model.module.training
    assert [name for name, value in model.module.named_parameters() if torch.equal(value, before[name])] == []


def test_history_has_one_finite_value_per_loss_and_epoch(trained_model):
    assert set(trained_model.history) == LOSSES
    for name, values in trained_model.history.items():
        assert values.shape == (2, 1), name
        assert np.isfinite(values.to_numpy(dtype=float)).all()
    history = {name: values.to_numpy(dtype=float) for name, values in trained_model.history.items()}
    np.testing.assert_allclose(
        history["validation_loss"], history["validation_loss_image"] + history["validation_loss_rna"], rtol=1e-5
    )


def test_validation_scores_the_same_documents_under_the_same_masks(screen, fit):
    """Without training the curve must be flat, or it would compare epochs by luck."""
    history = fit(screen, max_epochs=3, plan_kwargs={"lr": 0.0}).history
    assert history["validation_loss"]["validation_loss"].nunique() == 1
    assert history["train_loss"]["train_loss"].nunique() == 3


def test_losses_decrease(screen, fit):
    history = fit(screen, max_epochs=30, plan_kwargs={"lr": 3e-3}).history
    decrease = {name: values[name].iloc[0] - values[name].iloc[-1] for name, values in history.items()}
    assert min(decrease["train_loss_image"], decrease["validation_loss_image"], decrease["validation_loss"]) > 0.01
    assert decrease["validation_loss_rna"] > 0  # little: it starts at the mean expression


def test_epochs_draw_different_documents(screen, fit):
    record = Record()
    fit(screen, max_epochs=2, n_contexts_per_minibatch=2, callbacks=[record])
    half = len(record.contexts) // 2
    assert record.contexts[:half] != record.contexts[half:]


def test_early_stopping_stops_when_validation_loss_no_longer_improves(screen, fit):
    model = fit(screen, max_epochs=20, early_stopping=True, early_stopping_patience=2, plan_kwargs={"lr": 0.0})
    assert len(model.history["validation_loss"]) == 3


@pytest.mark.parametrize(
    "train", [{"early_stopping": True}, {"plan_kwargs": {"lr_schedule": "plateau"}}], ids=["early stopping", "plateau"]
)
def test_what_watches_the_validation_loss_needs_validation_cells(screen, build, quiet, refused, train):
    model = build(screen)
    with refused(ValueError, "needs validation_loss", "no cell is held out", "train_size=0.9"):
        model.train(max_epochs=1, train_size=1.0, **train, **quiet)
    datamodule = DocumentDataModule(
        model._readers(model.adata_manager), model._codes(model.adata_manager), train_size=1.0
    )
    with refused(ValueError, "no cell is held out"):
        model.train(max_epochs=1, datamodule=datamodule, **train, **quiet)


def test_all_cells_can_train(screen, fit):
    model = fit(screen, train_size=1.0)
    assert set(model.history) == {name for name in LOSSES if name.startswith("train")}
    assert [len(rows) for rows in model.validation_indices.values()] == [0, 0]


def test_indices_of_the_split_are_disjoint_and_complete(screen, fit):
    model = fit(screen, train_size=0.7, validation_size=0.2)
    for name, n_cells in (("image", 240), ("rna", 228)):
        parts = [part[name] for part in (model.train_indices, model.validation_indices, model.test_indices)]
        assert [len(part) for part in parts] == [
            n_cells - round(0.3 * n_cells),
            round(0.2 * n_cells),
            pytest.approx(0.1 * n_cells, abs=1),
        ]
        assert sorted(np.concatenate(parts)) == list(range(n_cells))


def test_checkpoints_of_scvi_load(screen, fit, tmp_path):
    scvi.settings.logging_dir = str(tmp_path)
    model = fit(screen, max_epochs=2, enable_checkpointing=True, plan_kwargs={"lr": 1e-3, "lr_schedule": "constant"})
    best = model.trainer.checkpoint_callback.best_model_path
    loaded = PETRI.load(best, screen)
    assert loaded.is_trained
    losses = model.history["validation_loss"]["validation_loss"]
    assert f"validation_loss={losses.min():.4f}"[:-1] in best
    assert loaded.get_latent_representation().shape == (468, 16)


def test_resuming_from_a_checkpoint_of_lightning_continues_to_count(screen, fit, build, quiet, tmp_path):
    plan = {"lr_schedule": "constant", "n_warmup_steps": 0}
    started = fit(screen, max_epochs=2, plan_kwargs=plan)
    started.trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = build(screen)
    record = Record()
    resumed.train(max_epochs=3, plan_kwargs=plan, ckpt_path=tmp_path / "two.ckpt", callbacks=[record], **quiet)
    assert resumed.history["train_loss"].index.tolist() == [2]
    assert resumed.trainer.current_epoch == 3
    assert resumed.trainer.global_step == 3 * len(record.contexts)
    state = resumed.trainer.optimizers[0].state
    assert {int(entry["step"]) for entry in state.values()} == {3 * len(record.contexts)}


def test_training_again_continues_the_history_and_keeps_the_statistics(screen, fit, quiet):
    model = fit(screen, max_epochs=2)
    mean = model.module.modalities["image"].channel_mean.clone()
    model.train(max_epochs=3, train_size=0.5, **quiet)
    for name in LOSSES:
        assert model.history[name].index.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(model.module.modalities["image"].channel_mean, mean)


def test_statistics_are_those_of_the_training_cells(screen, fit):
    model = fit(screen, train_size=0.5)
    images = screen["image"].obsm["single_cell_images"][model.train_indices["image"]]
    np.testing.assert_allclose(model.module.modalities["image"].channel_mean, images.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(model.module.modalities["image"].channel_std, images.std(axis=(0, 2, 3)), rtol=1e-5)


def test_another_logger_gets_the_losses(screen, fit, tmp_path):
    model = fit(screen, logger=CSVLogger(tmp_path))
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert set(header.split(",")) >= LOSSES
    assert model.is_trained


def test_a_data_module_replaces_the_registered_data(screen, build, quiet):
    model = build(screen)
    readers, codes = model._readers(model.adata_manager), model._codes(model.adata_manager)
    datamodule = DocumentDataModule(readers, codes, train_size=0.6, n_contexts_per_minibatch=2)
    record = Record()
    model.train(max_epochs=1, datamodule=datamodule, callbacks=[record], **quiet)
    assert {len(contexts) for contexts in record.contexts} == {2}
    assert model.train_indices is datamodule.train_idx


def test_arguments_of_the_data_module_pass_through(screen, fit):
    splits = [fit(screen, datasplitter_kwargs={"seed": seed}).train_indices["rna"].tolist() for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize("n_warmup", [0, 3])
def test_cosine_schedule_warms_up_and_decays_to_its_floor(screen, fit, n_warmup):
    record = Record()
    plan = {"lr": 1e-3, "lr_min": 1e-4, "n_warmup_steps": n_warmup}
    fit(screen, max_epochs=3, plan_kwargs=plan, callbacks=[record])
    n = len(record.rates)
    cosine = [
        1e-4 + 9e-4 * (1 + math.cos(math.pi * (step - n_warmup) / (n - n_warmup))) / 2 for step in range(n_warmup, n)
    ]
    np.testing.assert_allclose(record.rates, [2.5e-4, 5e-4, 7.5e-4][:n_warmup] + cosine)


def test_warm_up_before_a_plateau_is_refused(screen, build, quiet, refused):
    with refused(ValueError, "n_warmup_steps=3", "'plateau' has no warm-up", "'cosine' or 'constant'"):
        build(screen).train(max_epochs=1, plan_kwargs={"lr_schedule": "plateau", "n_warmup_steps": 3}, **quiet)


def test_documents_after_training_are_as_large_as_in_it(screen, fit):
    assert fit(screen, n_cells_per_context=3).n_cells_per_context_ == 3
    assert fit(screen, datasplitter_kwargs={"n_cells_per_context": 4}).n_cells_per_context_ == 4


def test_constant_schedule_stays_after_its_warm_up(screen, fit):
    record = Record()
    fit(
        screen,
        max_epochs=2,
        plan_kwargs={"lr": 1e-3, "lr_schedule": "constant", "n_warmup_steps": 1},
        callbacks=[record],
    )
    np.testing.assert_allclose(record.rates, [5e-4] + [1e-3] * (len(record.rates) - 1))


def test_warm_up_takes_a_twentieth_of_the_steps(screen, fit):
    record = Record()
    fit(screen, max_epochs=10, plan_kwargs={"lr": 1e-3, "lr_schedule": "constant"}, callbacks=[record])
    assert sum(rate < 1e-3 for rate in record.rates) == len(record.rates) // 20 == 2


def test_plateau_schedule_reduces_the_rate_when_validation_loss_stalls(screen, fit):
    record = Record()
    weights = {"image": 0.0, "rna": 0.0}  # a loss of 0 never improves
    plan = {"lr": 1e-3, "lr_patience": 0, "lr_factor": 0.1, "lr_min": 1e-5, "loss_weights": weights}
    plan["lr_schedule"] = "plateau"
    fit(screen, max_epochs=5, plan_kwargs=plan, callbacks=[record])
    per_epoch = np.reshape(record.rates, (5, -1))
    np.testing.assert_allclose(per_epoch[:, 0], [1e-3, 1e-3, 1e-4, 1e-5, 1e-5])
    np.testing.assert_array_equal(per_epoch, per_epoch[:, :1].repeat(per_epoch.shape[1], axis=1))


def test_only_weight_matrices_decay(screen, fit):
    model = fit(screen, plan_kwargs={"weight_decay": 0.3})
    decayed, kept = model.trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    names = {id(value): name for name, value in model.module.named_parameters()}
    decayed, kept = ({names[id(value)] for value in group["params"]} for group in (decayed, kept))
    assert decayed | kept == set(names.values())
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    for part in ("bias", "norm", "latents", "mask_token", "modality_embedding", "log_dispersion"):
        assert any(part in name for name in kept)
        assert not any(part in name for name in decayed)


@pytest.mark.parametrize(
    ("plan_kwargs", "words"),
    [
        ({"lr_schedule": "linear"}, ("lr_schedule='linear'", "'cosine', 'constant' or 'plateau'")),
        ({"loss_weights": {"atac": 2.0}}, ("['atac']", "['image', 'rna']")),
    ],
)
def test_wrong_arguments_of_the_plan_are_refused(screen, build, quiet, refused, plan_kwargs, words):
    with refused(ValueError, *words):
        build(screen).train(max_epochs=1, plan_kwargs=plan_kwargs, **quiet)


def test_loss_weights_weigh_the_sum_and_not_the_parts(screen, fit):
    history = fit(screen, plan_kwargs={"loss_weights": {"rna": 10.0}}).history
    loss, image, rna = (history[f"validation_loss{name}"].iloc[0].item() for name in ("", "_image", "_rna"))
    assert loss == pytest.approx(image + 10 * rna, rel=1e-5)


def test_a_modality_without_weight_does_not_learn(screen, build, quiet):
    model = build(screen)
    before = model.module.modalities["rna"].encoder.latents.clone()
    model.train(max_epochs=1, plan_kwargs={"loss_weights": {"rna": 0.0}, "weight_decay": 0.0}, **quiet)
    decoder = model.module.modalities["rna"].decoder
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in decoder.parameters())
    assert before.shape == model.module.modalities["rna"].encoder.latents.shape


def test_mixed_precision_trains_and_scores_in_float32(screen, build, quiet):
    model = build(screen)
    dtypes = {"linear": set(), "loss": set()}
    for modality in model.module.modalities.values():
        layer = [layer for layer in modality.decoder.modules() if isinstance(layer, torch.nn.Linear)][-1]
        layer.register_forward_hook(lambda layer, inputs, output: dtypes["linear"].add(output.dtype))
    model.module.register_forward_hook(
        lambda module, inputs, outputs: dtypes["loss"].update(
            [outputs[2].loss.dtype, *(losses.dtype for losses in outputs[2].reconstruction_loss.values())]
        )
    )
    model.train(max_epochs=2, precision="bf16-mixed", **quiet)
    assert dtypes == {"linear": {torch.bfloat16}, "loss": {torch.float32}}
    assert model.get_latent_representation().dtype == np.float32
    assert np.isfinite(model.history["validation_loss"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", 64])
def test_precisions_that_change_the_type_of_the_weights_are_refused(screen, build, quiet, refused, precision):
    model = build(screen)
    with refused(ValueError, f"precision={precision!r}", "'32-true', 'bf16-mixed' or '16-mixed'"):
        model.train(max_epochs=1, precision=precision, **quiet)
    assert next(model.module.parameters()).dtype == torch.float32
    model.train(max_epochs=1, precision="32-true", **quiet)


def test_batch_size_is_refused_with_what_to_pass_instead(screen, build, refused):
    with refused(TypeError, "batch_size is not an argument", "n_contexts_per_minibatch", "n_cells_per_context"):
        build(screen).train(max_epochs=1, batch_size=128)


def test_an_unknown_argument_is_a_type_error(screen, build, quiet):
    with pytest.raises(TypeError, match="n_epoch"):
        build(screen).train(max_epochs=1, n_epoch=3, **quiet)
    with pytest.raises(TypeError, match="learning_rate"):
        build(screen).train(max_epochs=1, plan_kwargs={"learning_rate": 1e-3}, **quiet)
    with pytest.raises(TypeError, match="n_workers"):
        build(screen).train(max_epochs=1, datasplitter_kwargs={"n_workers": 1}, **quiet)


@pytest.mark.parametrize("argument", ["n_contexts_per_minibatch", "n_cells_per_context"])
def test_documents_hold_at_least_one_cell(screen, build, quiet, refused, argument):
    with refused(ValueError, f"{argument}=0", "at least 1"):
        build(screen).train(max_epochs=1, **{argument: 0}, **quiet)


@pytest.mark.parametrize(("train_size", "validation_size"), [(0.0, None), (1.1, None), (0.9, 0.2), (0.5, -0.1)])
def test_impossible_splits_are_refused(screen, build, quiet, refused, train_size, validation_size):
    with refused(ValueError, f"train_size={train_size}", "validation_size=", "train_size=0.9"):
        build(screen).train(max_epochs=1, train_size=train_size, validation_size=validation_size, **quiet)


def test_a_seed_decides_every_bit_of_the_embedding(make_screen, fit):
    embeddings = []
    for seed in (3, 3, 4):
        scvi.settings.seed = seed
        embeddings.append(fit(make_screen(), model={"image_flip": True}).get_latent_representation())
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert np.abs(embeddings[0] - embeddings[2]).max() > 1e-3


def test_a_model_without_data_refuses_to_train(trained_model, tmp_path, quiet, refused):
    trained_model.save(tmp_path / "model")
    with refused(ValueError, "loaded without data", "PETRI.load(folder, mdata)"):
        PETRI.load(tmp_path / "model").train(max_epochs=1, **quiet)
