"""Genes or perturbations ranked by a value, with significant ones and their null."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from petri_scvi.pl._axes import inches, inner_legend, is_rasterized, text_inches
from petri_scvi.pl._colours import palette
from petri_scvi.pl._labels import name_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ALL = "all"
"""Name of the only modality of an AnnData, which is not shown."""
WIDTH, HEIGHT = 4.5, 3.5
NULL_GREY = "0.6"


def ranking_table(table: pd.DataFrame, *, name: str, value: str, is_hit: str, null: Sequence[str] = ()) -> pd.DataFrame:
    """Convert a table of ``tl``, from memory or a file, to the columns that :func:`draw_ranking` reads."""
    modality = table["modality"].astype(str) if "modality" in table else ALL
    columns = {
        "modality": modality,
        "name": table[name].astype(str),
        "value": table[value].astype(np.float64),
        "is_hit": table[is_hit].astype(bool),
    }
    columns |= {column: table[column].astype(np.float64) for column in null}
    return pd.DataFrame(columns, index=table.index).reset_index(drop=True)


def choose_modality(table: pd.DataFrame, modality: str | None) -> pd.DataFrame:
    """Rows of one modality, or of all."""
    if modality is None:
        return table
    found = table["modality"].astype(str)
    if not (found == modality).any():
        raise ValueError(f"modality={modality!r} has not been scored; pass one of {list(found.unique())}")
    return table[(found == modality).to_numpy()]


def draw_ranking(ax: Axes, table: pd.DataFrame, *, hit: str, alpha: float, n_labels: int) -> None:
    """Draw values in order, the largest right, and name the largest hits in the margin.

    Parameters
    ----------
    ax
        Axes to draw on.
    table
        From :func:`ranking_table`. Rows without a value are counted in the legend.
    hit
        What a hit is called.
    alpha
        Hits have a q-value below this.
    n_labels
        Hits to name, per modality.
    """
    modalities = list(dict.fromkeys(table["modality"]))
    parts = [table[(table["modality"] == m) & table["value"].notna()].sort_values("value") for m in modalities]
    n_most = max(1, *(len(part) for part in parts))
    parts = [part.assign(x=np.arange(n_most - len(part), n_most) + 1) for part in parts]
    handles: list[Artist] = []
    for modality, part, colour in zip(modalities, parts, palette(len(parts)), strict=True):
        is_only = len(parts) == 1
        _draw_null(ax, part, NULL_GREY if is_only else colour, is_filled=is_only)
        for is_hit, face, edge in ((False, "none", "0.5" if is_only else colour), (True, colour, colour)):
            points = part[part["is_hit"] == is_hit]
            drawn = ax.scatter(points["x"], points["value"], facecolors=face, edgecolors=edge, linewidths=0.7, zorder=3)
            drawn.set(sizes=[float(np.clip(3000 / n_most, 6, 30))], rasterized=is_rasterized())
        prefix = "" if modality == ALL else f"{modality}: "
        text = f"{prefix}{int(part['is_hit'].sum())} of {len(part)} {hit}"
        handles.append(Line2D([], [], linestyle="", marker="o", color=colour, markersize=5, label=text))
    handles += _other_handles(table, alpha, has_band=len(parts) == 1)
    ax.set_xlim(1 - 0.03 * n_most, 1.03 * n_most)
    _make_room(ax, pd.concat(parts), len(handles))
    inner_legend(ax, handles=handles, loc="upper left", handlelength=1.2)
    _name_hits(ax, parts, n_labels)


def _draw_null(ax: Axes, part: pd.DataFrame, colour: str, *, is_filled: bool) -> None:
    """95 % quantile of the null of each gene, and the band from its mean to there."""
    if "null_95" not in part or len(part) == 0:
        return
    if is_filled:
        edges = np.append(part["x"] - 0.5, part["x"].iloc[-1] + 0.5)
        ax.stairs(part["null_95"], edges, baseline=part["null_mean"], color=colour, fill=True, alpha=0.25, linewidth=0)
    # Dashes, because with many genes of different numbers of guides, steps would fill the band.
    dashes = ax.scatter(part["x"], part["null_95"], marker="_", color=colour, linewidths=1.0, label="null_95")
    dashes.set(sizes=[float(np.clip(2000 / len(part), 3, 50))], rasterized=is_rasterized())


def _other_handles(table: pd.DataFrame, alpha: float, *, has_band: bool) -> list[Artist]:
    """Legend of open circles, of the null and of what is missing."""
    circle = Line2D([], [], linestyle="", marker="o", color="0.5", markerfacecolor="none", markersize=5)
    circle.set_label(f"others, q ≥ {alpha:g}")
    handles: list[Artist] = [circle]
    if "null_95" in table:
        band = Patch(color=NULL_GREY, alpha=0.25, label="null, mean to 95 %")
        handles.append(band if has_band else Line2D([], [], color=NULL_GREY, label="null, 95 %"))
    n_missing = int(table["value"].isna().sum())
    if n_missing:
        handles.append(Line2D([], [], linestyle="", label=f"{n_missing} not tested"))
    return handles


def _make_room(ax: Axes, points: pd.DataFrame, n_lines: int) -> None:
    """Raise the upper limit until the legend lies above all points but the few at the right end."""
    bottom, top = ax.get_ylim()
    below = float(points.loc[points["x"] <= 0.9 * points["x"].max(), "value"].max())
    share = min(0.6, 1.7 * text_inches() * (n_lines + 0.5) / inches(ax)[1])
    if np.isfinite(below):
        ax.set_ylim(bottom, max(top, bottom + (below - bottom) / (1 - share)))


def _name_hits(ax: Axes, parts: list[pd.DataFrame], n_labels: int) -> None:
    """Name the largest hits; the modalities take turns, so that each keeps its largest if not all fit."""
    found = []
    for part, colour in zip(parts, palette(len(parts)), strict=True):
        hits = part[part["is_hit"]].assign(colour=colour).iloc[::-1].head(n_labels)
        found.append(list(hits[["x", "value", "name", "colour"]].itertuples(index=False, name=None)))
    named = [point for turn in zip_longest(*found) for point in turn if point is not None]
    if named:
        x, y, names, colours = zip(*named, strict=True)
        name_points(ax, x, y, names, colours=colours if len(parts) > 1 else None)
