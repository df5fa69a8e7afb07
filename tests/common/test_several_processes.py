"""Functions that write files, called by every process of a distributed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import numpy as np
import torch

import petri_scvi
from petri_scvi import PETRI, io, tl

torch.set_num_threads(1)
rank, is_late = int(sys.argv[1]), sys.argv[2] == "late"
torch.distributed.init_process_group("gloo", init_method=f"file://{Path('meeting').resolve()}", rank=rank, world_size=2)


screen = petri_scvi.datasets.synthetic_screen(n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16)
if is_late and rank == 0:
    time.sleep(4)
io.write_training_store(screen, "screen.h5mu", progress=False)
mdata = io.open_screen("screen.h5mu")
PETRI.setup_mudata(mdata)
torch.manual_seed(0)
model = PETRI(
    mdata, embed_dim=16, n_heads=2, n_latent_tokens=4, image_encoder_depth=1, image_decoder_depth=1,
    image_decoder_dim=16, expression_encoder_depth=1, expression_decoder_dim=16, set_transformer_depth=1,
)
model.is_trained_ = True
model.write_latent_representation("embedding.h5mu")
model.save("model")
cells = io.open_screen("embedding.h5mu")
Path("scaled").mkdir(exist_ok=True)
tl.center_scale(cells, folder="scaled", key_added="X_scaled")
tl.whiten(cells, "X_scaled", folder="scaled", key_added="X_white")
sae = tl.fit_sae(cells, "X_white", n_dimensions=8, n_active=2, max_epochs=1, progress=False)
sae.save("sae.pt")
found = {
    "embedding": float(np.abs(np.asarray(cells.obsm["X_petri"])).sum()),
    "white": float(np.abs(np.asarray(cells.obsm["X_white"])).sum()),
    "again": float(np.abs(PETRI.load("model", mdata).get_latent_representation()).sum()),
}
Path(f"{rank}.json").write_text(json.dumps(found))
torch.distributed.barrier()
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["together", "late"])
def test_one_process_writes_and_the_other_waits(tmp_path, order):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "script.py", str(rank), order],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    messages = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(message[-2000:] for message in messages)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == pytest.approx(second)
    assert first["embedding"] == pytest.approx(first["again"], rel=1e-5)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".unfinished", ".partial", ".lock"))]
