"""Do several modalities share dimensions, and do these mean the same in each?

``python -m benchmarks.multimodal_dimensions --out FOLDER`` trains PETRI, PETRI on permuted contexts and CLIP on a
synthetic screen with the recipe of the demo, fits sparse autoencoders, and compares the dimensions with the recorded
truth. What was trained is kept in the folder; a second run goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import petri_scvi
from benchmarks._systems import Job, contrastive, petri, petri_permuted
from petri_scvi import datasets
from petri_scvi.demo import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks._systems import Row

SYSTEMS: dict[str, Callable[[Job], Iterator[Row]]] = {
    "PETRI": petri,
    "PETRI, permuted contexts": petri_permuted,
    "CLIP": lambda job: contrastive(job, "CLIP", 64, 1),
}
PLANS: dict[str, dict[str, Any]] = {"CLIP": {"lr": 2e-3}}
RECIPE: dict[str, Any] = {"lr": 2e-3, "loss_weights": {"rna": 3.0}}


def embed(name: str, seed: int, n_steps: int, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Embedding of each modality, trained now or before."""
    path = folder / f"{name.replace(' ', '_').replace(',', '')}_seed{seed}_{n_steps}.npz"
    if not path.exists():
        start = time.perf_counter()
        plan = PLANS.get(name, RECIPE)
        job = Job(datasets.synthetic_screen(seed), seed, n_steps, MODEL, {}, finished=folder, plan_kwargs=plan)
        row = next(iter(SYSTEMS[name](job)))
        np.savez(path, **row.embeddings)
        print(f"{name}, seed {seed}, {n_steps} steps: {time.perf_counter() - start:.0f} s", flush=True)
    with np.load(path) as found:
        return {modality: found[modality] for modality in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of 64 cells per modality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the screen and of training")
    parser.add_argument("--out", type=Path, default=Path("multimodal_dimensions"), help="folder of embeddings")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}", flush=True)
    for seed in arguments.seeds:
        for name in SYSTEMS:
            embed(name, seed, arguments.steps, arguments.out)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
