from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json
import sys
import warnings

import mudata

warnings.simplefilter("ignore")

import torch
from lightning.pytorch.callbacks import Callback

import petri_scvi
from petri_scvi import PETRI


class Record(Callback):
    steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        sums = {name: cells.double().flatten(1).sum(dim=1).tolist() for name, cells in batch["cells"].items()}
        self.steps.append({"context": batch["context"].tolist(), **sums})

    def on_fit_end(self, trainer, pl_module):
        weights = {name: value.double().sum().item() for name, value in pl_module.module.state_dict().items()}
        with open(f"rank{trainer.global_rank}.json", "w") as file:
            json.dump({"steps": self.steps, "weights": weights, "world_size": trainer.world_size}, file)


torch.set_num_threads(1)
mdata = petri_scvi.datasets.synthetic_screen(n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16)
strategy = "ddp"
if sys.argv[1] == "partial":
    image, rna = (mdata[name] for name in ("image", "rna"))
    image = image[image.obs["perturbation"] != "TARGET03"].copy()
    rna = rna[~rna.obs["perturbation"].isin(["TARGET01", "TARGET02"])].copy()
    mdata, strategy = mudata.MuData({"image": image, "rna": rna}), "ddp_find_unused_parameters_true"
PETRI.setup_mudata(mdata)
model = PETRI(
    mdata, embed_dim=16, n_heads=2, n_latent_tokens=4, image_encoder_depth=1, image_decoder_depth=1,
    image_decoder_dim=16, expression_encoder_depth=1, expression_decoder_dim=16, set_transformer_depth=1,
)
model.train(
    max_epochs=1, accelerator="cpu", devices=2, strategy=strategy, callbacks=[Record()],
    enable_progress_bar=False, **json.loads(sys.argv[2]),
)
if model.trainer.is_global_zero:
    with open("history.json", "w") as file:
        json.dump({name: values[name].tolist() for name, values in model.history.items()}, file)
assert model.is_trained and model.get_latent_representation().shape == (mdata.n_obs, 16)
"""


def _train(tmp_path, *arguments):
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    names = ("rank0", "rank1", "history")
    return [json.loads((tmp_path / f"{name}.json").read_text()) for name in names]


def test_two_processes_train_on_different_documents_and_agree_on_the_weights(tmp_path):
    first, second, history = _train(tmp_path, "complete", '{"n_contexts_per_minibatch": 4}')
    assert first["world_size"] == 2
    assert len(first["steps"]) == len(second["steps"]) == 4  # 240 cells / (4 contexts * 8 cells * 2 ranks)
    for one, other in zip(first["steps"], second["steps"], strict=True):
        assert one["image"] != other["image"]
        assert one["rna"] != other["rna"]
    contexts = [step["context"] for steps in (first["steps"], second["steps"]) for step in steps]
    assert sorted(np.concatenate(contexts)) == sorted([*range(8)] * 4)  # every context equally often
    assert first["weights"] == second["weights"]
    assert set(history) == {f"{part}_loss{name}" for part in ("train", "validation") for name in ("", "_image", "_rna")}
    assert np.isfinite(list(history.values())).all()


def test_processes_do_not_mix_the_losses_of_modalities(tmp_path):
    """Where contexts lack a modality, processes meet the modalities in different order."""
    train = {"n_contexts_per_minibatch": 1, "n_cells_per_context": 4, "train_size": 0.7}
    _, _, history = _train(tmp_path, "partial", json.dumps(train))
    assert history["validation_loss_image"][0] > 0.8
    assert history["validation_loss_rna"][0] < 0.6
