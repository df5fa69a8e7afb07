"""Scores of embeddings as a forest plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import REFERENCE, palette
from petri_scvi.pl._results import read_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

NAMES = {
    "guide_consistency": "Guide consistency",
    "edge_tpr_at_1_fpr": "Known pairs recalled at 1 % FPR",
    "edge_tpr_at_5_fpr": "Known pairs recalled at 5 % FPR",
    "edge_tpr_at_10_fpr": "Known pairs recalled at 10 % FPR",
    "edge_auc": "Known pairs, AUC",
    "edge_average_precision": "Known pairs, average precision",
}
CHANCE = {"edge_tpr_at_1_fpr": 0.01, "edge_tpr_at_5_fpr": 0.05, "edge_tpr_at_10_fpr": 0.10, "edge_auc": 0.5}
"""Scores of random profiles. Guide consistency has 0; that of average precision depends on the number of pairs."""
LINE_STYLES = ("--", "-.", (0, (1, 1)), (0, (5, 1)))
MARKERS = "osD^vP*X"


@plot
def score_screen(
    data: AnnData | MuData,
    *,
    metric: str = "guide_consistency",
    references: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Draw a forest plot of one metric: one row per embedding, modality and fusion.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.score_screen` scored.
    metric
        Metric to draw; see there for their names.
    references
        Values to compare with, such as published ones, by name; each becomes a line.
    ax
        Axes to draw on; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes: a point and its 95 % interval per row, colours by embedding, values right, and a dotted line at the chance
    level of the edge metrics that have one.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.score_screen` has not been called.
    ValueError
        The metric has not been scored.
    """
    result = read_result(data, "score_screen", field="table", written_by="score_screen(data, keys)")
    table = _rows(result["table"], metric)
    n_lines = len(table) + (metric in CHANCE) + len(references or {})
    with open_axes(ax, 6.5, 0.9 + 0.28 * n_lines) as ax:
        for (key, rows), colour, marker in zip(
            table.groupby("key", sort=False), palette(table["key"].nunique()), MARKERS * len(table), strict=False
        ):
            y = rows["y"].to_numpy()
            ax.hlines(y, rows["ci_low"], rows["ci_high"], color=colour, linewidth=1.5, label=f"_{key}")
            ax.plot(rows["value"], y, linestyle="", marker=marker, color=colour, label=f"_{key}")
        for y, text in zip(table["y"], _values(table), strict=True):
            ax.annotate(text, (1.02, y), xycoords=ax.get_yaxis_transform(), va="center", fontsize="small")
        ax.set_yticks(table["y"], table["row"])
        ax.set(ylim=(table["y"].max() + 0.6, -0.6), xlabel=NAMES.get(metric, metric))
        if metric != "edge_auc":
            ax.set_xlim(left=0)
        _draw_references(ax, metric, references or {})
    return ax


def _rows(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of a metric with their label and height; embeddings stay together, half a row apart."""
    metrics = table["metric"].astype(str)
    if not (metrics == metric).any():
        hint = (
            "" if metrics.str.startswith("edge_").any() else " Pass edges=... to petri_scvi.tl.score_screen for more."
        )
        raise ValueError(f"metric={metric!r} has not been scored; pass one of {list(metrics.unique())}.{hint}")
    text = {column: table[column].astype(str) for column in ("key", "modality", "fusion")}
    numbers = {column: table[column].astype(np.float64) for column in ("value", "ci_low", "ci_high")}
    rows = pd.DataFrame(text | numbers)[(metrics == metric).to_numpy()].reset_index(drop=True)
    codes, _ = pd.factorize(rows["key"])
    rows = rows.assign(code=codes).sort_values("code", kind="stable", ignore_index=True)
    modality = rows["modality"].where(rows["modality"] != "all", "")
    fusion = rows["fusion"].where(rows["fusion"] != "none", "").str.replace("_", " ")
    parts = pd.concat([rows["key"], modality, fusion], axis=1)
    label = [", ".join(filter(None, part)) for part in parts.itertuples(index=False, name=None)]
    return rows.assign(row=label, y=np.arange(len(rows)) + 0.5 * rows["code"])


def _values(table: pd.DataFrame) -> list[str]:
    """Scores with their intervals, as text."""
    return [
        f"{row.value:.2f}" + ("" if np.isnan(row.ci_low) else f" [{row.ci_low:.2f}, {row.ci_high:.2f}]")
        for row in table.itertuples()
    ]


def _draw_references(ax: Axes, metric: str, references: Mapping[str, float]) -> None:
    lines = []
    if metric in CHANCE:
        lines.append(ax.axvline(CHANCE[metric], color=REFERENCE, linewidth=1, linestyle=":", label="chance"))
    for i, (name, value) in enumerate(references.items()):
        style = LINE_STYLES[i % len(LINE_STYLES)]
        lines.append(ax.axvline(value, color="black", linewidth=1, linestyle=style, label=f"{name}, {value:g}"))
    if lines:
        outer_legend(ax, handles=lines, loc="lower left", bbox_to_anchor=(0, 1))
