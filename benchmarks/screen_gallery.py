"""Pictures of the simulated screens: easy, weak, and each thing that real screens have, switched on.

Run as ``python -m benchmarks.screen_gallery --out docs/_static``. Each row is the same few cells, drawn with the same
random numbers, of one target gene; beside them is how the perturbation shows in two measurements.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

SEED = 3
COMMON: dict[str, Any] = {"n_cells": 3000, "n_pathways": 6, "image_size": 48, "shared_fraction": 1.0}
ROWS: dict[str, dict[str, Any]] = {
    "easy": {"image_strength": 1.0, "rna_strength": 1.0, "penetrance": 0.8},
    "weak": {"image_strength": 0.35, "rna_strength": 0.35, "penetrance": 0.5},
    "changes_fractions": {"changes_fractions": True, "penetrance": 0.5},
    "equal_intensity": {"equal_intensity": True},
    "gene_interactions": {"gene_interactions": True},
    "well_effects=0.5,\nwell_confounding=0.8": {"well_effects": 0.5, "well_confounding": 0.8},
    "n_backgrounds=4": {"n_backgrounds": 4},
}
N_CELLS = 5
COLOURS = {
    "nucleus": (0.25, 0.45, 1.0),
    "lipid_droplets": (1.0, 0.85, 0.1),
    "mitochondria": (1.0, 0.2, 0.35),
    "actin": (0.2, 0.9, 0.6),
}


def colour(cells: np.ndarray, names: list[str]) -> np.ndarray:
    """Channels as colours; shape ``(n, C, H, W)`` -> ``(H, n * W, 3)``."""
    scaled = cells.astype(float) / 65535
    shown = sum(scaled[:, names.index(name), :, :, None] * np.asarray(rgb) for name, rgb in COLOURS.items())
    return np.clip(np.concatenate(list(np.asarray(shown) * 1.9), axis=1), 0, 1)


def strongest(mdata: MuData) -> str:
    """The target gene whose droplets change most."""
    effects = mdata.uns["synthetic_screen"]["perturbation_morphology_effects"].loc["droplet_number"]
    return str(effects.idxmax())


def draw_cells(axis: Axes, mdata: MuData, target: str) -> None:
    image = mdata["image"]
    names = [str(name) for name in image.uns["channel_names"]]
    obs = image.obs
    if "true_state" in obs:
        shown = [np.flatnonzero(obs["is_control"]), np.flatnonzero(obs["perturbation"] == target)]
    else:
        shown = [
            np.flatnonzero(obs["is_control"]),
            np.flatnonzero((obs["perturbation"] == target) & (obs["true_effect"] > 0)),
        ]
    strips = [colour(image.obsm["single_cell_images"][rows[:N_CELLS]], names) for rows in shown]
    axis.imshow(np.concatenate([strips[0], np.ones((strips[0].shape[0], 12, 3)), strips[1]], axis=1))
    axis.set_axis_off()


def draw_points(axis: Axes, mdata: MuData, target: str) -> None:
    """Two genes of one program, or of the switch: cells of the target and controls, in one background colour."""
    rna = mdata["rna"]
    effects = mdata.uns["synthetic_screen"]["perturbation_gene_effects"][target].drop(target)
    genes = effects.abs() * np.exp(mdata.uns["synthetic_screen"]["genes"]["base_log_mean"].reindex(effects.index) / 2)
    a, b = genes.nlargest(2).index
    total = np.asarray(rna.X.sum(axis=1)).ravel()
    level = pd.DataFrame({name: np.log1p(100 * rna[:, name].X.toarray().ravel() / total) for name in (a, b)})
    level += 0.03 * np.random.default_rng(0).normal(size=level.shape)
    is_target = (rna.obs["perturbation"] == target).to_numpy()
    is_control = rna.obs["is_control"].to_numpy()
    axis.scatter(level[a][is_control], level[b][is_control], s=3, color="0.7", label="controls", linewidths=0)
    axis.scatter(level[a][is_target], level[b][is_target], s=5, color="C3", label=target, linewidths=0)
    axis.set(xticks=[], yticks=[], xlabel="gene 1", ylabel="gene 2")


def draw_intensity(axis: Axes, mdata: MuData, target: str) -> None:
    """Mean brightness of droplets, of the target and of controls."""
    image = mdata["image"]
    names = [str(name) for name in image.uns["channel_names"]]
    value = np.log(image.obsm["single_cell_images"][:, names.index("lipid_droplets")].mean(axis=(1, 2)))
    groups = [image.obs["is_control"].to_numpy(), (image.obs["perturbation"] == target).to_numpy()]
    lowest, highest = np.quantile(value, [0.005, 0.995])
    bins = np.linspace(lowest, highest, 25).tolist()
    for rows, shade in zip(groups, ("0.7", "C3"), strict=True):
        axis.hist(value[rows], bins=bins, density=True, color=shade, histtype="stepfilled", alpha=0.7)
    axis.set(yticks=[], xticks=[], xlabel="log mean of droplets")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--quick", action="store_true", help="fewer cells and pixels: does the script run?")
    options = parser.parse_args(arguments)
    common = COMMON | ({"n_cells": 700, "image_size": 16, "n_pathways": 2, "n_genes": 60} if options.quick else {})
    canvas, axes = plt.subplots(
        len(ROWS), 3, figsize=(11, 1.25 * len(ROWS)), width_ratios=[6.5, 1, 1.2], layout="constrained"
    )
    for row, (name, changes) in zip(axes, ROWS.items(), strict=True):
        mdata = synthetic_screen(SEED, **common | changes)
        target = strongest(mdata)
        draw_cells(row[0], mdata, target)
        row[0].set_title(name.replace("\n", " "), fontsize=9, loc="left", pad=3)
        draw_points(row[1], mdata, target)
        draw_intensity(row[2], mdata, target)
        for axis in row[1:]:
            axis.xaxis.label.set_size(7)
            axis.yaxis.label.set_size(7)
            axis.spines[["top", "right"]].set_visible(False)
    canvas.savefig(options.out / "screens.png", dpi=100)
    plt.close(canvas)


if __name__ == "__main__":
    main()
