"""What one GPU does in ten minutes: a training of width 256 on the weak screen, and the speed of the step.

Run as ``python -m benchmarks.on_gpu``. Each figure is written to ``on_gpu.csv`` as it is measured, and no section
starts that is expected to end after the limit, so that the script may be cut off at any moment. ``--quick`` runs the
same code on small sizes, on a CPU too. The pairs use perceiver-pytorch and transformers where they are installed.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import petri_scvi
from benchmarks import _cases as cases
from benchmarks._systems import Job, Row, embed, make_petri, pca
from benchmarks._timing import N_REPEATS, Table
from benchmarks.paper_table import score
from benchmarks.training import large_model, pairs
from petri_scvi import datasets

if TYPE_CHECKING:
    from mudata import MuData

QUICK: dict[str, Any] = {"n_cells": 600, "n_pathways": 3, "image_size": 16, "n_genes": 60}
SEED = 200
N_STEPS = 3000


def weak_screen(table: Table, run: cases.Run) -> None:
    """Train a network of width 256 on the weak screen, and score it beside principal components."""
    section = "weak screen, width 256"
    mdata = datasets.synthetic_screen(SEED, difficulty="weak", **(QUICK if run.is_quick else {}))
    n_steps = 5 if run.is_quick else N_STEPS
    job = Job(mdata, SEED, n_steps, {"embed_dim": 256}, {}, Path(), plan_kwargs={})
    row = next(pca(job))
    add_scores(table, section, mdata, row)
    start = time.perf_counter()
    model = make_petri(job)
    model.train(
        max_epochs=n_steps,
        max_steps=n_steps,
        accelerator=run.device,
        precision="bf16-mixed" if run.device == "cuda" else "32-true",
        enable_progress_bar=False,
    )
    seconds = time.perf_counter() - start
    table.add(section, f"{n_steps} steps", "training", seconds, "s")
    table.add(section, f"{n_steps} steps", "training", 2 * 64 * n_steps / seconds, "cells/s")
    start = time.perf_counter()
    embeddings = embed(model, mdata)
    n_cells = sum(len(embedding) for embedding in embeddings.values())
    table.add(section, "all cells", "embedding", n_cells / (time.perf_counter() - start), "cells/s")
    add_scores(table, section, mdata, Row("PETRI", embeddings, is_shared=True))


def add_scores(table: Table, section: str, mdata: MuData, row: Row) -> None:
    for found in score(row, mdata).itertuples():
        setting = f"{found.modality}, {found.fusion}"
        table.add(section, setting, f"{row.name}: {found.metric}", float(found.value), "")


def pairs_of(variant: int, case: str) -> Any:
    """A section that times one case of :mod:`benchmarks.training` in one precision."""

    def section(table: Table, run: cases.Run) -> None:
        variants = run.variants()
        if variant < len(variants):
            pairs(table, run, run.threads[0], variants[variant], case, run.settings[1])

    return section


def step_of_small_data(table: Table, run: cases.Run) -> None:
    """The training step on few genes and small crops, where a GPU mostly waits for kernels to start."""
    for variant in run.variants():
        pairs(table, run, run.threads[0], variant, "step", run.settings[0])


def large(table: Table, run: cases.Run) -> None:
    if run.device == "cuda":
        setting = cases.LARGE if not run.is_quick else replace(cases.LARGE, n_genes=200, side=16, embed_dim=64)
        large_model(table, run, setting)


SECTIONS = [
    ("weak screen", weak_screen, 180),
    ("large model", large, 60),
    ("step", pairs_of(0, "step"), 25),
    ("step, bf16", pairs_of(1, "step"), 40),
    ("step, bf16, compiled", pairs_of(2, "step"), 60),
    ("expression", pairs_of(0, "expression"), 40),
    ("expression, bf16", pairs_of(1, "expression"), 40),
    ("image", pairs_of(0, "image"), 40),
    ("image, bf16", pairs_of(1, "image"), 40),
    ("step of small data", step_of_small_data, 90),
    ("expression, bf16, compiled", pairs_of(2, "expression"), 60),
    ("image, bf16, compiled", pairs_of(2, "image"), 60),
]
"""Name, function and the seconds that it is expected to take on a GPU; what matters most comes first."""
N_QUICK = 3
"""Sections of a quick run; the others time further cases with the same code."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"), help="folder of on_gpu.csv")
    parser.add_argument("--minutes", type=float, default=10, help="no section starts that would end later")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.quick:
        raise SystemExit("no GPU was found; pass --quick to try the script on a CPU")
    start = time.perf_counter()
    run = cases.Run(options.device, [torch.get_num_threads()], options.quick, N_REPEATS)
    name = torch.cuda.get_device_name() if run.device == "cuda" else platform.machine()
    print(f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}, {name}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(options.out / "on_gpu.csv")
    for section, measure, expected in SECTIONS[:N_QUICK] if run.is_quick else SECTIONS:
        used = time.perf_counter() - start
        if used + (0 if run.is_quick else expected) > 60 * options.minutes:
            print(f"{section}: not run, {used:.0f} s of {60 * options.minutes:.0f} s are used", flush=True)
            continue
        try:
            measure(table, run)
        except Exception as error:  # noqa: BLE001  # the other sections can still be measured
            print(f"{section}: failed: {type(error).__name__}: {error}", flush=True)
        print(f"{section}: {time.perf_counter() - start - used:.0f} s", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
