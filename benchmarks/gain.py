"""When does PETRI gain over permuted contexts and masked autoencoders: by shared programs, cells, effects and steps?

Run as ``python -m benchmarks.gain --seeds 1``, or with ``--screen weak`` on weak effects. Lines of screens and
trainings leave the usual settings in one respect each; on each, PETRI, PETRI on permuted contexts and the masked
autoencoders are trained alike and scored by the same protocol. What is done is kept in the folder; a second run goes on
from there.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from benchmarks._paper_summary import paired_differences
from benchmarks.paper_table import FIRST_SEED, Settings, run_system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

SYSTEMS = {"petri": "PETRI", "petri_permuted": "PETRI, permuted contexts", "mae": "ViT MAE and Perceiver MAE"}
COLOURS = dict(zip(SYSTEMS.values(), ("C0", "C1", "0.4"), strict=True))
LABELS = {
    "shared_fraction": "share of programs seen in both modalities",
    "n_steps": "training steps of 64 cells per modality",
    "n_cells": "image cells per perturbation",
    "strength": "effect size (1 on the easy screen)",
}
METRIC = "edge_auc"
FUSION = "mean_cosine"
"""How modalities are joined: it asks nothing of their spaces, and whitens each by itself."""
MODALITIES = {"image": "images", "rna": "RNA", "image+rna": "both"}


@dataclass(frozen=True)
class Study:
    """Lines of settings that leave ``at``, the usual ones, in one respect each."""

    settings: Settings
    at: dict[str, float]
    lines: dict[str, tuple[float, ...]]
    first_seed: int

    def settings_of(self, line: str, value: float) -> Settings:
        """The usual settings with one of them changed; the usual ones themselves where ``value`` is the usual one."""
        if line == "n_steps":
            return replace(self.settings, n_steps=int(value))
        if value == self.at[line]:
            return self.settings
        names = ("image_strength", "rna_strength") if line == "strength" else (line,)
        changed = self.settings.screen_arguments | dict.fromkeys(names, value)
        return replace(self.settings, screen_arguments=changed)

    def points(self) -> Iterator[tuple[str, float]]:
        for line, values in self.lines.items():
            for value in values:
                yield line, value


STUDIES = {
    "synthetic": Study(
        Settings("synthetic", {}, n_steps=3000, network={"linear_path": False}, plan={"lr": 1e-3}),
        at={"shared_fraction": 2 / 3, "n_cells": 8000},
        lines={
            "shared_fraction": (0.0, 2 / 3, 1.0),
            "n_steps": (300, 1000, 3000, 9000),
            "n_cells": (4000, 8000, 16000),
        },
        first_seed=FIRST_SEED,
    ),
    "weak": Study(
        Settings("weak", {"n_cells": 4250}, n_steps=300, network={}, plan={"lr": 3e-4}),
        at={"shared_fraction": 2 / 3, "n_cells": 4250, "strength": 0.35},
        lines={
            "n_cells": (1700, 4250, 8500, 17000),
            "strength": (0.35, 0.5, 0.7, 1.0),
            "shared_fraction": (0.0, 2 / 3, 1.0),
        },
        first_seed=200,
    ),
}
"""By screen. Weak effects: 20, 50, 100 and 200 image cells of each of 85 perturbations."""


def train(study: Study, folder: Path, seed: int, systems: Sequence[str]) -> None:
    """Systems of every point that are not done; points with the same settings share a folder."""
    for line, value in study.points():
        settings = study.settings_of(line, value)
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


def collect(study: Study, folder: Path) -> pd.DataFrame:
    """Scores of all points, with the place of each on its line."""
    tables = []
    for line, value in study.points():
        for path in sorted((folder / name_of(study.settings_of(line, value))).glob("seed_*/*.csv")):
            if not path.name.startswith("partial_"):
                tables.append(pd.read_csv(path).assign(line=line, at=value, seed=path.parent.name))
    return pd.concat(tables, ignore_index=True)


def gains(scores: pd.DataFrame) -> pd.DataFrame:
    """PETRI minus each other system on the same screens at each point, with intervals over screens."""
    tables = [
        paired_differences(part).assign(line=line, at=value)
        for (line, value), part in scores.groupby(["line", "at"], sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def divisor_of(line: str, n_perturbations: int) -> int:
    """What values of a line are divided by: numbers of cells are shown per perturbation."""
    return n_perturbations if line == "n_cells" else 1


def labels_of(study: Study, line: str, n_perturbations: int) -> list[str]:
    """Values of a line as the figures show them: counts whole, shares and strengths with two digits."""
    at = [value / divisor_of(line, n_perturbations) for value in study.lines[line]]
    return [f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in at]


def draw_gains(study: Study, found: pd.DataFrame, n_perturbations: int, path: Path) -> None:
    """One panel per line: what true contexts gain over permuted ones, by modality, with 95 % intervals."""
    is_shown = found["fusion"].isin(["none", "concatenate"]) & (found["metric"] == METRIC)
    shown = found[is_shown & (found["system"] == SYSTEMS["petri_permuted"])]
    canvas, axes = plt.subplots(1, len(study.lines), figsize=(10, 3.2), sharey=True, layout="constrained")
    for axis, line in zip(axes, study.lines, strict=True):
        labels = labels_of(study, line, n_perturbations)
        for shift, (modality, label) in enumerate(MODALITIES.items()):
            part = shown[(shown["line"] == line) & (shown["modality"] == modality)].set_index("at")
            part = part.reindex(study.lines[line])
            # Side by side, so that intervals do not cover each other.
            places = np.arange(len(labels)) + 0.12 * (shift - 1)
            axis.errorbar(places, part["mean"], yerr=part["half_width"], marker="o", markersize=4, label=label)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlabel(LABELS[line])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("edge AUC:\ntrue minus permuted contexts")
    axes[0].legend(fontsize="small", frameon=False)
    canvas.savefig(path, dpi=110)
    plt.close(canvas)


def draw(study: Study, scores: pd.DataFrame, n_perturbations: int, path: Path) -> None:
    """One column per line of settings, one row per modality and for both."""
    shown = scores[(scores["metric"] == METRIC) & scores["fusion"].isin(["none", FUSION])]
    lines = study.lines
    canvas, axes = plt.subplots(3, len(lines), figsize=(10, 8), sharex="col", sharey="row", layout="constrained")
    for column, line in enumerate(lines):
        for row, modality in enumerate(MODALITIES):
            part = shown[(shown["line"] == line) & (shown["modality"] == modality)]
            draw_line(axes[row, column], part, divisor_of(line, n_perturbations))
            axes[row, 0].set_ylabel(f"{modality}: edge AUC")
        axes[-1, column].set_xlabel(LABELS[line])
        if line != "shared_fraction":
            at = [value / divisor_of(line, n_perturbations) for value in lines[line]]
            axes[-1, column].set_xscale("log")
            axes[-1, column].set_xticks(at, labels_of(study, line, n_perturbations))
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
    parser.add_argument("--screen", choices=STUDIES, default="synthetic")
    parser.add_argument("--first-seed", type=int, help="default: 100, and 200 for weak screens")
    parser.add_argument("--seeds", type=int, default=1, help="number of screens")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=[*SYSTEMS], help="run these systems")
    parser.add_argument("--out", type=Path, default=Path("gain"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    study, folder = STUDIES[arguments.screen], arguments.out / arguments.screen
    first = study.first_seed if arguments.first_seed is None else arguments.first_seed
    for seed in range(first, first + arguments.seeds):
        train(study, folder, seed, arguments.only)
        scores = collect(study, folder)
        scores.to_csv(folder / "gain.csv", index=False)
        targets = study.settings.load(seed).uns["synthetic_screen"]["perturbations"]
        differences = gains(scores)
        differences.to_csv(folder / "differences.csv", index=False)
        draw(study, scores, len(targets) + 1, folder / "gain.png")
        draw_gains(study, differences, len(targets) + 1, folder / "differences.png")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
