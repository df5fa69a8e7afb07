"""Training that is killed at random moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import torch
from lightning.pytorch.callbacks import Callback

import petri_scvi
from petri_scvi import PETRI
from petri_scvi.model.training._checkpoint import TrainingCheckpoint

torch.set_num_threads(1)
TINY = dict(
    embed_dim=16, n_heads=2, n_latent_tokens=4, image_encoder_depth=1, image_decoder_depth=1, image_decoder_dim=16,
    expression_encoder_depth=1, expression_decoder_dim=16, set_transformer_depth=1, image_flip=True,
)
mdata = petri_scvi.datasets.synthetic_screen(n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16)
PETRI.setup_mudata(mdata)


class Report(Callback):
    "Say which step was written, as soon as that is known."

    def __init__(self, pipe):
        self.pipe = pipe

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        (writer,) = [callback for callback in trainer.callbacks if isinstance(callback, TrainingCheckpoint)]
        os.write(self.pipe, f"{writer._n_steps_written}\\n".encode())


def train(result, pipe=None, checkpoint=None, seed=0):
    "Train in a child, which is dead sooner than its libraries could tidy up."
    child = os.fork()
    if child:
        return child
    torch.manual_seed(seed)
    model = PETRI(mdata, **TINY)
    model.train(
        max_epochs=6, n_contexts_per_minibatch=4, accelerator="cpu", enable_progress_bar=False,
        checkpoint=checkpoint, checkpoint_every_n_steps=checkpoint and 2, callbacks=[Report(pipe)] if pipe else None,
    )
    weights = hashlib.sha256()
    for value in model.module.state_dict().values():
        weights.update(value.numpy().tobytes())
    history = {name: values[name].tolist() for name, values in model.history.items()}
    Path(result).write_text(json.dumps({"weights": weights.hexdigest(), "history": history}))
    os._exit(0)


def last_reported(pipe, child):
    os.waitpid(child, 0)
    lines = os.read(pipe, 1 << 16).split()
    return int(lines[-1]) if lines else 0


n_kills, rng = int(sys.argv[1]), random.Random(int(sys.argv[2]))
started = time.monotonic()
os.waitpid(train("whole.json"), 0)
duration = time.monotonic() - started
whole = json.loads(Path("whole.json").read_text())
n_killed = n_lost = n_finished = 0
checkpoint = Path("training.ckpt")
while n_killed < n_kills or not n_finished:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, b"0\\n")
    child = train("resumed.json", write, str(checkpoint), seed=0 if not checkpoint.exists() else rng.randrange(99))
    end = time.monotonic() + rng.uniform(0, 0.7 * duration)
    while n_killed < n_kills and time.monotonic() < end and not Path("resumed.json").exists():
        time.sleep(0.002)
    if n_killed < n_kills and not Path("resumed.json").exists():
        os.kill(child, signal.SIGKILL)
        n_killed += 1
    reported = last_reported(read, child)
    os.close(read), os.close(write)
    if reported:
        found = torch.load(checkpoint, weights_only=True)["global_step"]
        n_lost += found < reported
    if Path("resumed.json").exists():
        assert json.loads(Path("resumed.json").read_text()) == whole
        n_finished += 1
        Path("resumed.json").unlink()
        checkpoint.unlink()
print(json.dumps({"killed": n_killed, "lost": n_lost, "finished": n_finished, "duration": round(duration, 1)}))
"""


def kill(folder, n_kills, seed):
    """Kill as often as told, and compare every run that came to its end with one that was left alone."""
    (folder / "kill.py").write_text(SCRIPT)
    finished = subprocess.run(
        [sys.executable, "kill.py", str(n_kills), str(seed)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.parametrize("n_kills", [pytest.param(4, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)])
def test_killed_training_loses_nothing_that_was_written_and_ends_with_the_same_result(tmp_path, n_kills):
    result = kill(tmp_path, n_kills, seed=n_kills)
    print(result)
    assert result["killed"] == n_kills
    assert result["lost"] == 0
    assert result["finished"] >= 1
