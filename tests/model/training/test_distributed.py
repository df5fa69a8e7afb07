from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

SCRIPT = """
import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import anndata
import mudata
import numpy as np
import scvi
import torch
from lightning.pytorch.callbacks import Callback

import petri_scvi
from petri_scvi import PETRI

TINY = dict(
    embed_dim=16, n_heads=2, n_latent_tokens=4, image_encoder_depth=1, image_decoder_depth=1, image_decoder_dim=16,
    expression_encoder_depth=1, expression_decoder_dim=16, set_transformer_depth=1, image_flip=True,
)


class Record(Callback):
    def __init__(self):
        self.steps, self.gradients, self.world_size = [], None, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        sums = {name: cells.double().flatten(1).nansum(dim=1).tolist() for name, cells in batch["cells"].items()}
        self.steps.append({"context": batch["context"].tolist(), **sums})
        print(f"step {trainer.global_step} of rank {trainer.global_rank}\\n", end="", flush=True)  # in one piece

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if self.gradients is None:  # before they are clipped
            gradients = {name: value.grad for name, value in pl_module.module.named_parameters()}
            self.gradients = {name: None if v is None else v.flatten().tolist() for name, v in gradients.items()}

    def on_fit_end(self, trainer, pl_module):
        self.world_size, self.epochs = trainer.world_size, trainer.current_epoch


def screen(kind):
    mdata = petri_scvi.datasets.synthetic_screen(
        n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16
    )
    if kind == "partial":
        image, rna = (mdata[name] for name in ("image", "rna"))
        image = image[image.obs["perturbation"] != "TARGET03"].copy()
        rna = rna[~rna.obs["perturbation"].isin(["TARGET01", "TARGET02"])].copy()
        mdata = mudata.MuData({"image": image, "rna": rna})
    if kind == "mixed":  # proteins, a table with gaps, and flags, of different cells
        kinds = {"protein": "counts", "table": "features", "flags": "binary"}
        more = petri_scvi.datasets.synthetic_screen(
            n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16, n_proteins=8
        )
        table = more["image"].obsm["true_morphology"]
        table = table.where(np.random.default_rng(0).random(table.shape) > 0.1)
        flags = (mdata["rna"].X.toarray() > 1).astype("float32")
        mdata = petri_scvi.pp.build_mudata(
            protein=more["protein"],
            table=anndata.AnnData(table, obs=more["image"].obs),
            flags=anndata.AnnData(flags, obs=mdata["rna"].obs, var=mdata["rna"].var),
        )
        PETRI.setup_mudata(mdata, modalities=kinds)
        return mdata
    groups = {"first": ["TARGET01", "TARGET02", "TARGET03"], "second": ["TARGET03", "TARGET05"]}
    PETRI.setup_mudata(mdata, context_groups=groups if kind == "groups" else None)
    return mdata


def train(name, kind, **arguments):
    scvi.settings.seed = 0
    mdata = screen(kind)
    model, record = PETRI(mdata, **TINY), Record()
    model.train(accelerator="cpu", callbacks=[record], enable_progress_bar=False, **arguments)
    embedding = model.get_latent_representation()
    assert model.is_trained and embedding.shape == (mdata.n_obs, 16)
    model.save(f"{name} model")
    result = {
        "steps": record.steps,
        "gradients": record.gradients,
        "world_size": record.world_size,
        "epochs": record.epochs,
        "weights": {name: value.double().sum().item() for name, value in model.module.state_dict().items()},
        "history": {name: values[name].tolist() for name, values in (model.history or {}).items()},
        "embedding": embedding.tolist(),
        "rank": model.trainer.global_rank,
    }
    Path(f"{name} rank{model.trainer.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for call in json.loads(sys.argv[1]):
        train(**call)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
DDP = {"devices": 2, "strategy": "ddp"}
COMPLETE = {"kind": "complete", "n_cells_per_context": 8, "max_epochs": 2}
PARTIAL = {"kind": "partial", "n_cells_per_context": 8, "max_epochs": 2, "train_size": 0.7}
MIXED = {"kind": "mixed", "n_cells_per_context": 8, "max_epochs": 2}
GROUPS = {"kind": "groups", "n_cells_per_context": 8, "max_epochs": 2}
STOPPING = {"early_stopping": True, "early_stopping_patience": 2, "plan_kwargs": {"lr": 0.0}, "max_epochs": 9}


def start(folder, *calls):
    (folder / "train.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "train.py", json.dumps(calls)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that all its processes can be ended
    )


def finish(process, timeout=200.0):
    """Output and errors; no process of the run is left."""
    try:
        return process.communicate(timeout=timeout)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of all runs, by name and rank; two calls, as to start a process takes longer than to train."""
    folder = tmp_path_factory.mktemp("ddp")
    two = [
        {"name": "complete 2", "n_contexts_per_minibatch": 4, **COMPLETE, **DDP},
        {"name": "partial 2", "n_contexts_per_minibatch": 1, **PARTIAL, **DDP},
        {"name": "mixed 2", "n_contexts_per_minibatch": 4, **MIXED, **DDP},
        {"name": "groups 2", "n_contexts_per_minibatch": 4, **GROUPS, **DDP},
        {"name": "stopped 2", "n_contexts_per_minibatch": 4, **COMPLETE, **STOPPING, **DDP},
    ]
    one = [
        {"name": "complete 1", "n_contexts_per_minibatch": 8, **COMPLETE, "devices": 1},
        {"name": "mixed 1", "n_contexts_per_minibatch": 8, **MIXED, "devices": 1},
        {"name": "groups 1", "n_contexts_per_minibatch": 8, **GROUPS, "devices": 1},
        {"name": "partial 1", "n_contexts_per_minibatch": 2, **PARTIAL, "devices": 1},
    ]
    for calls in (two, one):
        process = start(folder, *calls)
        _, errors = finish(process)
        assert process.returncode == 0, errors[-3000:]
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    found["files"] = sorted(path.name for path in folder.iterdir())
    return found


@pytest.mark.slow
def test_two_processes_train_on_different_documents_and_agree_on_the_weights(results):
    first, second = (results[f"complete 2 rank{rank}"] for rank in (0, 1))
    assert first["world_size"] == 2
    assert len(first["steps"]) == len(second["steps"]) == 2 * 4  # 240 cells / (4 contexts * 8 cells * 2 ranks)
    for one, other in zip(first["steps"], second["steps"], strict=True):
        assert one["image"] != other["image"]
        assert one["rna"] != other["rna"]
    contexts = [step["context"] for steps in (first["steps"], second["steps"]) for step in steps[:4]]
    assert sorted(np.concatenate(contexts)) == sorted([*range(8)] * 4)  # every context equally often
    assert first["weights"] == second["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["complete", "partial", "mixed", "groups"])
def test_two_processes_do_what_one_does_with_twice_the_minibatch(results, kind):
    """Also where contexts lack a modality, with other kinds, and by group: all meet the same modalities in a step."""
    ranks = [results[f"{kind} 2 rank{rank}"] for rank in (0, 1)]
    alone = results[f"{kind} 1 rank0"]
    for first, second, both in zip(*(rank["steps"] for rank in ranks), alone["steps"], strict=True):
        assert {name: [*first[name], *second[name]] for name in first} == both
    for name, expected in alone["gradients"].items():
        for rank in ranks:
            found = rank["gradients"][name]
            if expected is None or found is None:
                assert not np.any(found or 0), name
                assert not np.any(expected or 0), name
            else:
                scale = np.linalg.norm(expected) + 1e-6
                assert np.linalg.norm(np.subtract(found, expected)) / scale < 1e-4, name
    for name, expected in alone["history"].items():
        np.testing.assert_allclose(ranks[0]["history"][name], expected, rtol=1e-4, err_msg=name)
    difference = np.subtract(ranks[0]["embedding"], alone["embedding"])
    assert np.abs(difference).max() < 2e-3 * np.std(alone["embedding"])


@pytest.mark.slow
def test_processes_do_not_mix_the_losses_of_modalities(results):
    """Where contexts lack a modality, processes meet the modalities in different order."""
    history = results["partial 2 rank0"]["history"]
    assert history["validation_loss_image"][0] > 0.8
    assert history["validation_loss_rna"][0] < 0.6


@pytest.mark.slow
def test_processes_stop_early_at_the_same_time(results):
    """Without training the loss does not improve after the first epoch."""
    assert [results[f"stopped 2 rank{rank}"]["epochs"] for rank in (0, 1)] == [3, 3]
    assert len(results["stopped 2 rank0"]["history"]["validation_loss"]) == 3


@pytest.mark.slow
def test_only_the_first_process_writes_and_has_the_history(results):
    losses = {f"{part}_loss{name}" for part in ("train", "validation") for name in ("", "_image", "_rna")}
    assert set(results["complete 2 rank0"]["history"]) == losses
    assert results["complete 2 rank1"]["history"] == {}
    names = [
        "complete 1",
        "complete 2",
        "groups 1",
        "groups 2",
        "mixed 1",
        "mixed 2",
        "partial 1",
        "partial 2",
        "stopped 2",
    ]
    assert [name for name in results["files"] if name.endswith("model")] == [f"{name} model" for name in names]
    assert {name.split()[-1] for name in results["files"]} == {"model", "rank0.json", "rank1.json", "train.py"}


def children(pid):
    """Processes that a process started, not those of threads of ours."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


@pytest.mark.parametrize("rank", [pytest.param(1, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.long)])
def test_a_killed_process_ends_the_run_with_a_clear_error_and_the_checkpoint_resumes(tmp_path, rank):
    call = {"name": "run", "kind": "complete", "n_contexts_per_minibatch": 2, "n_cells_per_context": 4}
    call |= {"max_epochs": 3, "checkpoint": "run.ckpt", "checkpoint_every_n_steps": 5}
    process = start(tmp_path, {**call, **DDP})
    for line in process.stdout:
        if line == "step 12 of rank 0\n":
            break
    child = children(process.pid)
    assert len(child) == 1, process.communicate(timeout=60)[1][-3000:]
    killed = time.monotonic()
    os.kill(child[0] if rank else process.pid, signal.SIGKILL)
    output, errors = finish(process, timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - killed < 30
    survivor = 1 - rank
    assert f"process {survivor} of 2 lost contact with another one in step" in errors
    assert "Start the run again without changes: it goes on from checkpoint" in errors
    assert not (tmp_path / "run rank0.json").exists()

    resumed = start(tmp_path, {**call, **DDP})
    output, errors = finish(resumed)
    assert resumed.returncode == 0, errors[-3000:]
    steps = [int(line.split()[1]) for line in output.splitlines() if line.endswith("of rank 0")]
    assert steps == [*range(steps[0], 3 * 14 + 1)]
    assert steps[0] - 1 in (10, 14, 15)  # written every five steps, and between epochs
