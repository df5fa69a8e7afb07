"""Alignment of two modalities: true pairs and recall of contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE
from petri_scvi.pl._results import read_score, slot_argument

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

ARROW = "{} to {}"


@plot
def foscttm(
    data: MuData,
    *,
    pair_key: str,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the share of pairs by the fraction of cells that are closer than the true match.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.foscttm` scored.
    pair_key
        As in that call.
    key
        Slot of the embedding; may be left out if a single one was scored.
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
    The axes: a cumulative curve per direction; the diagonal is chance.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.foscttm` has not been called for this column and embedding.
    ValueError
        Several embeddings were scored and ``key`` is ``None``.
    """
    call = f"foscttm(data{slot_argument(key)}, pair_key={pair_key!r})"
    result = read_score(data, key, start="foscttm", end=f"_{pair_key}", field="pairs", written_by=call)
    table = result["table"]
    with open_axes(ax, 3.6, 3.2) as ax:
        ax.plot([0, 1], [0, 1], color=REFERENCE, linewidth=1, linestyle=":", label="_chance")
        for i, column in enumerate(result["pairs"].columns[1:]):  # one per direction, in the order of the table
            row, fractions = table.iloc[i], np.sort(result["pairs"][column].to_numpy(dtype=np.float64))
            shares = np.arange(len(fractions) + 1) / len(fractions)
            label = f"{ARROW.format(row['query'], row['reference'])}: mean {row['foscttm']:.2f}"
            ax.step([0, *fractions], shares, where="post", color=PALETTE[i], label=label)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel=f"Share of {len(result['pairs'])} pairs")
        ax.set_xlabel("Fraction closer than the match")
        outer_legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1), handlelength=1.2)
    return ax


@plot
def context_recall(
    data: MuData,
    *,
    context_key: str = "perturbation",
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot how often a context is found among the k nearest ones of the other modality.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.context_recall` scored.
    context_key
        As in that call.
    key
        Slot of the embedding; may be left out if a single one was scored.
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
    The axes: a line per direction, and chance.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.context_recall` has not been called for this column and embedding.
    ValueError
        Several embeddings were scored and ``key`` is ``None``.
    """
    call = f"context_recall(data{slot_argument(key)}, context_key={context_key!r})"
    table = read_score(data, key, start="context_recall", end=f"_{context_key}", field="table", written_by=call)[
        "table"
    ]
    with open_axes(ax, 3.6, 3.2) as ax:
        for i, ((query, reference), part) in enumerate(table.groupby(["query", "reference"], sort=False)):
            part = part.sort_values("k")
            if i == 0:
                ax.plot(part["k"], part["chance"], color=REFERENCE, linestyle=":", marker=".", label="chance")
            ax.plot(part["k"], part["recall"], color=PALETTE[i], marker="o", label=ARROW.format(query, reference))
        ax.set(xlabel="k", ylabel=f"Recall at k of {int(table['n_queries'].iloc[0])} contexts", ylim=(-0.02, 1.02))
        ax.set_xticks(sorted(set(table["k"].astype(int))))
        outer_legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handlelength=1.2)
    return ax
