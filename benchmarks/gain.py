"""When does PETRI gain over masked autoencoders: by what modalities share, by cells, and by training?

Run as ``python -m benchmarks.gain --seeds 1``. Three lines of screens and trainings leave the settings of
``benchmarks.paper_table`` in one respect each; on each, PETRI, PETRI on permuted contexts and the masked autoencoders
are trained alike and scored by the same protocol. What is done is kept in the folder; a second run goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from benchmarks.paper_table import FIRST_SEED, Settings, run_system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

SYSTEMS = {"petri": "PETRI", "petri_permuted": "PETRI, permuted contexts", "mae": "ViT MAE and Perceiver MAE"}
COLOURS = dict(zip(SYSTEMS.values(), ("C0", "C1", "0.4"), strict=True))
LINES = {
    "shared_fraction": (0.0, 2 / 3, 1.0),
    "n_steps": (300, 1000, 3000, 9000),
    "n_cells": (4000, 8000, 16000),
}
"""What changes, and its values; the others stay at two thirds, 3,000 steps and 8,000 cells."""
LABELS = {
    "shared_fraction": "share of programs seen in both modalities",
    "n_steps": "training steps of 64 cells per modality",
    "n_cells": "image cells per perturbation",
}
USUAL = {"shared_fraction": 2 / 3, "n_cells": 8000}
"""Defaults of the screen: passed or not, the settings are the same."""
METRIC = "edge_auc"
FUSION = "mean_cosine"
"""How modalities are joined: it asks nothing of their spaces, and whitens each by itself."""


def settings_of(line: str, value: float) -> Settings:
    network = {"linear_path": False}
    usual = Settings("synthetic", {}, n_steps=3000, network=network, plan={"lr": 1e-3})
    if line == "n_steps":
        return replace(usual, n_steps=int(value))
    return usual if value == USUAL[line] else replace(usual, screen_arguments={line: value})


def points() -> Iterator[tuple[str, float]]:
    for line, values in LINES.items():
        for value in values:
            yield line, value


def train(folder: Path, seed: int, systems: Sequence[str]) -> None:
    """Systems of every point that are not done; points with the same settings share a folder."""
    for line, value in points():
        settings = settings_of(line, value)
        place = folder / name_of(settings) / f"seed_{seed}"
        place.mkdir(parents=True, exist_ok=True)
        settings.keep(place.parent)
        print(f"{line} = {value:.3g}", flush=True)
        for system in systems:
            run_system(system, settings, seed, {}, place)


def name_of(settings: Settings) -> str:
    """The same for the usual settings on whichever line they lie."""
    changed = "".join(f"_{argument}_{value:.3g}" for argument, value in settings.screen_arguments.items())
    return f"steps_{settings.n_steps}{changed}"


def collect(folder: Path) -> pd.DataFrame:
    """Scores of all points, with the place of each on its line."""
    tables = []
    for line, value in points():
        for path in sorted((folder / name_of(settings_of(line, value))).glob("seed_*/*.csv")):
            if not path.name.startswith("partial_"):
                tables.append(pd.read_csv(path).assign(line=line, at=value, seed=path.parent.name))
    return pd.concat(tables, ignore_index=True)


def draw(scores: pd.DataFrame, n_perturbations: int, path: Path) -> None:
    """One column per line of settings, one row per modality and for both."""
    shown = scores[(scores["metric"] == METRIC) & scores["fusion"].isin(["none", FUSION])]
    modalities = ["image", "rna", "image+rna"]
    canvas, axes = plt.subplots(3, len(LINES), figsize=(10, 8), sharex="col", sharey="row", layout="constrained")
    for column, line in enumerate(LINES):
        for row, modality in enumerate(modalities):
            part = shown[(shown["line"] == line) & (shown["modality"] == modality)]
            draw_line(axes[row, column], part, n_perturbations if line == "n_cells" else 1)
            axes[row, 0].set_ylabel(f"{modality}: edge AUC")
        axes[-1, column].set_xlabel(LABELS[line])
        if line != "shared_fraction":
            divisor = n_perturbations if line == "n_cells" else 1
            at = [value / divisor for value in LINES[line]]
            axes[-1, column].set_xscale("log")
            axes[-1, column].set_xticks(at, [f"{value:.0f}" for value in at])
            axes[-1, column].minorticks_off()
    axes[0, 0].legend(fontsize="small", frameon=False)
    canvas.savefig(path, dpi=110)
    plt.close(canvas)


def draw_line(axis: Axes, part: pd.DataFrame, divisor: int) -> None:
    for system, colour in COLOURS.items():
        found = part[part["system"] == system].groupby("at")["value"]
        mean, spread = found.mean(), found.std().fillna(0.0)
        if len(mean):
            axis.errorbar(
                np.asarray(mean.index) / divisor,
                mean,
                yerr=spread,
                color=colour,
                marker="o",
                markersize=4,
                label=system,
            )
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="number of screens, from seed 100")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=[*SYSTEMS], help="run these systems")
    parser.add_argument("--out", type=Path, default=Path("gain"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        train(arguments.out, seed, arguments.only)
        scores = collect(arguments.out)
        scores.to_csv(arguments.out / "gain.csv", index=False)
        targets = settings_of("n_steps", 3000).load(seed).uns["synthetic_screen"]["perturbations"]
        draw(scores, len(targets) + 1, arguments.out / "gain.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
