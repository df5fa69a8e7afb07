"""What a user gets who changes nothing: time of the default training, and its scores beside principal components.

Run as ``python -m benchmarks.defaults --threads 2``. First, a step of the default network is timed for screens of more
genes and larger crops; then models are trained with ``PETRI(mdata).train()`` on simulated screens and scored. Every
result is appended to ``defaults.csv``; a second run goes on after what is there. ``--quick`` is a small screen and few
steps.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scvi
import torch

from benchmarks._cases import Setting, make_cells
from benchmarks._systems import Job, Row, embed, pca
from benchmarks.paper_table import score
from petri_scvi import PETRI, datasets
from petri_scvi._model import DEFAULTS
from petri_scvi._module import build_module
from petri_scvi.modalities import ExpressionModality, ImageModality, Settings

GENES = (300, 2000, 5000, 10_000, 20_000)
SIDES = (32, 64, 96, 128)
N_CHANNELS, N_STEPS = 4, 7
QUICK: dict[str, Any] = {"n_cells": 600, "n_pathways": 3, "image_size": 16, "n_genes": 60}


def seconds_per_step(n_genes: int, side: int) -> tuple[float, float]:
    """Median wall and processor time of a step of the default network, with 64 cells per modality."""
    torch.manual_seed(0)
    states: dict[str, Any] = {
        "image": (ImageModality, {"channels": list("abcd"), "height": side, "width": side}),
        "rna": (ExpressionModality, {"n_vars": n_genes}),
    }
    module = build_module(states, Settings.of(DEFAULTS))
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    setting = Setting("default", n_genes, N_CHANNELS, side)
    minibatch = {"cells": make_cells(setting, "cpu"), "context": torch.arange(setting.n_documents)}
    times = []
    for _ in range(N_STEPS):
        wall, cpu = time.perf_counter(), time.process_time()
        module(minibatch)[2].loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(times[2:], axis=0)
    return float(wall), float(cpu)


def train_and_score(difficulty: Any, seed: int, changes: dict[str, Any]) -> pd.DataFrame:
    """Scores of PETRI as it is by default, with the time of its training, and of principal components."""
    mdata = datasets.synthetic_screen(seed, difficulty=difficulty, **changes)
    components = next(pca(Job(mdata, seed, 0, {}, {}, Path(), {})))
    scvi.settings.seed = seed
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata)
    wall, cpu = time.perf_counter(), time.process_time()
    model.train(1 if changes else None, enable_progress_bar=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ours = score(Row("PETRI", embed(model, mdata), is_shared=True), mdata).assign(seconds=wall, processor_seconds=cpu)
    return pd.concat([ours, score(components, mdata)]).assign(screen=difficulty, seed=seed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", nargs="+", default=["weak", "easy"], choices=["weak", "easy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[200])
    parser.add_argument("--quick", action="store_true", help="small sizes, one epoch: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of defaults.csv")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    steps_path, scores_path = options.out / "default_steps.csv", options.out / "defaults.csv"
    if not steps_path.exists():
        sizes = [(n, 32) for n in GENES] + [(GENES[0], side) for side in SIDES[1:]]
        rows = [(*size, *seconds_per_step(*size)) for size in (sizes[:1] if options.quick else sizes)]
        table = pd.DataFrame(rows, columns=["n_genes", "side", "seconds", "processor_seconds"])
        table.to_csv(steps_path, index=False)
        print(table.round(3).to_string(index=False), flush=True)
    for screen in options.screens:
        for seed in options.seeds:
            before = pd.read_csv(scores_path) if scores_path.exists() else pd.DataFrame(columns=["screen", "seed"])
            if ((before["screen"] == screen) & (before["seed"] == seed)).any():
                continue
            found = train_and_score(screen, seed, QUICK if options.quick else {})
            pd.concat([before, found] if len(before) else [found]).to_csv(scores_path, index=False)
            shown = found[found["fusion"].isin(["none", "concatenate"])].pivot_table(
                index=["system", "modality"], columns="metric", values="value"
            )
            print(f"{screen}, screen {seed}: {found['seconds'].max():.0f} s\n{shown.round(3)}", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
