from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy

from petri_scvi.model.training._devices import allow_unused_parameters, lost_processes_are_named
from petri_scvi.model.training._training import _trainer_arguments

GLOO = "[pair.cc:553] Connection closed by peer [127.0.0.1]:40094."


class Fake:
    """A trainer or a data module with the attributes given."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_spawn_find_unused_parameters_true"])
def test_strategies_that_would_wait_for_ever_are_refused(screen, build, quiet, refused, strategy):
    with refused(ValueError, strategy, "cannot hand an AnnData", "strategy='ddp'"):
        build(screen).train(max_epochs=1, strategy=strategy, devices=2, **quiet)


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", FSDPStrategy(), ModelParallelStrategy(), "deepspeed"])
def test_strategies_that_shard_the_weights_are_refused(screen, build, quiet, refused, strategy):
    with refused(ValueError, "shards the weights", "Pass strategy='ddp'"):
        build(screen).train(max_epochs=1, strategy=strategy, devices=2, **quiet)


@pytest.mark.parametrize(
    ("strategy", "n_kinds", "expected"),
    [
        ("ddp", 1, "ddp"),
        ("ddp", 2, "ddp_find_unused_parameters_true"),
        ("ddp_notebook", 3, "ddp_notebook_find_unused_parameters_true"),
        ("ddp_find_unused_parameters_true", 2, "ddp_find_unused_parameters_true"),
    ],
)
def test_an_encoder_may_go_without_gradient_if_contexts_lack_its_modality(strategy, n_kinds, expected):
    datamodule = Fake(n_kinds_of_documents=n_kinds)
    assert _trainer_arguments(datamodule, False, {"strategy": strategy})["strategy"] == expected


def test_a_strategy_object_is_taken_as_it_is():
    strategy = DDPStrategy()
    assert allow_unused_parameters(strategy) is strategy


def test_the_list_of_callbacks_of_the_user_stays_as_it_was():
    callbacks: list = []
    arguments = _trainer_arguments(Fake(), True, {"strategy": "ddp", "callbacks": callbacks})
    assert callbacks == []
    assert arguments["early_stopping"] is False
    (stopping,) = [found for found in arguments["callbacks"] if isinstance(found, EarlyStopping)]
    assert (stopping.monitor, stopping.patience, stopping.mode) == ("validation_loss", 45, "min")


def test_kinds_of_documents_are_counted(screen, make_screen, combine, build):
    assert build(screen)._make_datamodule({}).n_kinds_of_documents == 1
    image, rna = (make_screen()[name] for name in ("image", "rna"))
    image = image[image.obs["perturbation"] != "TARGET03"].copy()
    rna = rna[rna.obs["perturbation"] != "TARGET01"].copy()
    with pytest.warns(UserWarning, match="2 contexts were measured in one modality only"):
        model = build(combine(image=image, rna=rna))
    assert model._make_datamodule({}).n_kinds_of_documents == 3


def test_a_process_that_does_not_answer_is_named_and_other_errors_stay_as_they_are():
    trainer = Fake(global_rank=1, world_size=4, global_step=7)
    with (
        pytest.raises(
            RuntimeError, match="process 1 of 4 lost contact with another one in step 7.*from checkpoint"
        ) as e,
        lost_processes_are_named(trainer, "a.ckpt"),
    ):
        raise RuntimeError(GLOO)
    assert str(e.value.__cause__) == GLOO
    with pytest.raises(RuntimeError, match="pass checkpoint='training.ckpt'"), lost_processes_are_named(trainer, None):
        raise torch.distributed.DistBackendError("NCCL communicator was aborted")
    with pytest.raises(RuntimeError, match="^mat1 and mat2"), lost_processes_are_named(trainer, None):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    alone = Fake(global_rank=0, world_size=1, global_step=7)
    with pytest.raises(RuntimeError, match="^Connection closed"), lost_processes_are_named(alone, None):
        raise RuntimeError("Connection closed by the database of a callback")
