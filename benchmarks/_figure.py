"""Figure of the table that ``benchmarks.training`` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

LABELS = {
    "expression encoder, forward + backward": "expression encoder",
    "image encoder + decoder, forward + backward": "image encoder + decoder",
    "training step": "training step",
}


def draw(table: Path, figure: Path) -> None:
    rows = pd.read_csv(table)
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    canvas, axes = plt.subplots(2, 2, figsize=(9.5, 7.6), layout="constrained")
    draw_ratios(axes[0, 0], rows)
    draw_profile(axes[0, 1], rows)
    draw_scaling(axes[1, 0], rows, "s", "time of a step (s, fastest)")
    draw_scaling(axes[1, 1], rows, "MiB peak", "peak memory of a step (MiB)")
    canvas.savefig(figure, dpi=110)
    plt.close(canvas)


def draw_ratios(axis: Axes, rows: pd.DataFrame) -> None:
    """How many times the time and memory of ours the others take, with what is required."""
    is_ratio = rows["unit"].isin(["x the s", "x the ms", "x the MiB"]) & ~rows["what"].str.contains("fastest")
    is_first = rows["threads"].isin([0, rows["threads"].max()])
    ratios = rows[is_ratio & is_first].reset_index(drop=True)
    rivals = ratios["what"].str.split(" / ").str[0]
    kinds = ratios["unit"].map({"x the MiB": "memory"}).fillna("time")
    names = ratios["section"].map(LABELS) + "\n" + kinds + " of " + rivals
    names = names.where(~ratios["setting"].str.contains("L = 1"), names + " (L = 1)")
    axis.barh(names, ratios["median"], color=["C1" if kind == "memory" else "C0" for kind in kinds], height=0.6)
    required = pd.to_numeric(ratios["required"].astype(str).str.removeprefix(">= "), errors="coerce")
    for place, (ratio, least) in enumerate(zip(ratios["median"], required, strict=True)):
        axis.text(np.nanmax([ratio, least]), place, f" {ratio:.1f}", va="center")
        if np.isfinite(least):
            axis.plot([least, least], [place - 0.42, place + 0.42], color="black", linewidth=1.5)
    axis.invert_yaxis()
    axis.set_xlabel("times that of PETRI (line: required)")


def draw_profile(axis: Axes, rows: pd.DataFrame) -> None:
    """Share of each part of the training step."""
    parts = rows[rows["unit"] == "% of the parts"].pivot_table(
        index="setting", columns="what", values="median", sort=False
    )
    left = np.zeros(len(parts))
    for part in parts.columns:
        axis.barh(parts.index.str.split(" ").str[0], parts[part], left=left, label=part, height=0.5)
        left += parts[part].to_numpy()
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("share of a training step (%), forward and backward")
    if len(parts):
        axis.legend(ncols=3, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))


def draw_scaling(axis: Axes, rows: pd.DataFrame, unit: str, label: str) -> None:
    """One line per size that is varied, as a multiple of its smallest value."""
    column = "fastest" if unit == "s" else "median"
    for name in ("genes", "cells per document (2 documents)", "image side"):
        points = rows[(rows["section"] == f"scaling with {name}") & (rows["unit"] == unit)]
        if points.empty:
            continue
        sizes = points["setting"].astype(int)
        values = points[column].fillna(points["median"])
        axis.loglog(sizes / sizes.min(), values, marker="o", label=f"{name}, {sizes.min():,} to {sizes.max():,}")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
        side.set_minor_formatter(NullFormatter())
    axis.set_xlabel("size, relative to the smallest")
    axis.set_ylabel(label)
    if axis.lines:
        axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1.0))
