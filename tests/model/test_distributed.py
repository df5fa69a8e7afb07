from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import json
import warnings

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
PETRI.setup_mudata(mdata)
model = PETRI(
    mdata, embed_dim=16, n_heads=2, n_latent_tokens=4, image_encoder_depth=1, image_decoder_depth=1,
    image_decoder_dim=16, expression_encoder_depth=1, expression_decoder_dim=16, set_transformer_depth=1,
)
model.train(
    max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", n_contexts_per_minibatch=4, callbacks=[Record()],
    enable_progress_bar=False,
)
if model.trainer.is_global_zero:
    with open("history.json", "w") as file:
        json.dump({name: values[name].tolist() for name, values in model.history.items()}, file)
assert model.is_trained and model.get_latent_representation().shape == (468, 16)
"""


@pytest.mark.slow
def test_two_processes_train_on_different_documents_and_agree_on_the_weights(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["world_size"] == 2
    assert len(first["steps"]) == len(second["steps"]) == 4  # 240 cells / (4 contexts * 8 cells * 2 ranks)
    for one, other in zip(first["steps"], second["steps"], strict=True):
        assert one["image"] != other["image"]
        assert one["rna"] != other["rna"]
    contexts = [step["context"] for steps in (first["steps"], second["steps"]) for step in steps]
    assert sorted(np.concatenate(contexts)) == sorted([*range(8)] * 4)  # every context equally often
    assert first["weights"] == second["weights"]
    history = json.loads((tmp_path / "history.json").read_text())
    assert set(history) == {f"{part}_loss{name}" for part in ("train", "validation") for name in ("", "_image", "_rna")}
    assert np.isfinite(list(history.values())).all()
