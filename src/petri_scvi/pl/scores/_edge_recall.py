"""Recall of known gene pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke

from petri_scvi.pl._axes import inches, inner_legend, open_axes, outer_legend, plot, text_inches
from petri_scvi.pl._colours import REFERENCE, palette
from petri_scvi.pl._labels import LINE_SPACING, spread
from petri_scvi.pl._results import key_argument, read_result

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

CURVE, POINT, CHANCE, RATE = ("petri_scvi_" + part for part in ("roc", "roc_point", "chance", "roc_rate"))
LINE_STYLES = ("-", "--", "-.", ":")


@plot
def edge_recall(
    profiles: AnnData,
    *,
    key: str = "edge_recall",
    label: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the ROC curve of known gene pairs and the true-positive rate at the scored false-positive rate.

    Parameters
    ----------
    profiles
        Profiles that :func:`petri_scvi.tl.edge_recall` scored.
    key
        Name of the result, its ``key_added``.
    label
        Name in the legend; by default ``key``. Call again with the same ``ax`` to compare embeddings.
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
    The axes, with one line per call, its area under the curve in the legend, a point at the scored rate, and the
    diagonal that random scores would give.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.edge_recall` has not been called.
    """
    call = f"edge_recall(profiles, edges{key_argument(key, 'edge_recall')})"
    result = read_result(profiles, key, field="curve", written_by=call)
    max_fpr, score, auc = (float(v) for v in (result["parameters"]["max_fpr"], result["score"], result["auc"]))
    with open_axes(ax, 3.5, 3.5) as ax:
        drawn = [line for line in ax.lines if line.get_gid() == CURVE]
        if not drawn:
            ax.plot([0, 1], [0, 1], color=REFERENCE, linewidth=1, linestyle=":", gid=CHANCE, label="_chance")
        colour = palette(len(drawn) + 1)[-1]
        ax.plot(
            np.asarray(result["curve"]["fpr"], dtype=np.float64),
            np.asarray(result["curve"]["tpr"], dtype=np.float64),
            color=colour,
            linestyle=LINE_STYLES[len(drawn) % len(LINE_STYLES)],
            label=f"{key if label is None else label}, AUC {auc:.2f}",
            gid=CURVE,
        )
        ax.plot(max_fpr, score, "o", color=colour, markeredgecolor="white", markersize=7, label="_point", gid=POINT)
        ax.text(
            max_fpr,
            score,
            f"{100 * score:.0f} % at {100 * max_fpr:g} % FPR",
            color=colour,
            va="center",
            fontsize="small",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            gid=RATE,
        )
        ax.set(xlabel="False-positive rate", ylabel="True-positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        ax.set_aspect("equal")
        _move_rates(ax)
        inner_legend(ax, loc="lower right")
    return ax


def _move_rates(ax: Axes) -> None:
    """Write the rates below and right of their points, where there is no curve, one above the other."""
    texts = [text for text in ax.texts if text.get_gid() == RATE]
    points = _points(ax)
    heights = spread(points[:, 1] - 0.06, LINE_SPACING * text_inches() / inches(ax)[1])
    for text, x, y in zip(texts, points[:, 0], heights, strict=True):
        text.set_position((float(x) + 0.04, float(y)))


def _points(ax: Axes) -> NDArray[np.float64]:
    """Points that earlier calls drew, shape ``(n, 2)``."""
    lines = [np.asarray(line.get_xydata(), dtype=np.float64) for line in ax.lines if line.get_gid() == POINT]
    return np.concatenate([np.empty((0, 2)), *lines])


@plot
def efaar_recall(
    profiles: AnnData, *, label: str | None = None, ax: Axes | None = None, show: bool | None = None, save: Save = None
) -> Axes:
    """Plot the share of known gene pairs in both tails, and that expected by chance.

    Parameters
    ----------
    profiles
        Profiles that :func:`petri_scvi.tl.efaar_recall` scored.
    label
        Name of the row; by default the number of known pairs. Call again with the same ``ax`` to add a row.
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
    The axes, with one point per call and a line at the chance level.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.efaar_recall` has not been called.
    """
    result = read_result(profiles, "efaar_recall", field="chance", written_by="efaar_recall(profiles, edges)")
    score, chance, n_positive = float(result["score"]), float(result["chance"]), int(result["n_positive"])
    with open_axes(ax, 3.8, 1.6) as ax:
        n_rows = len(_points(ax))
        names = [text.get_text() for text in ax.get_yticklabels()] if n_rows else []
        if f"{CHANCE}_{chance:g}" not in [line.get_gid() for line in ax.lines]:
            line = ax.axvline(chance, color=REFERENCE, linewidth=1, linestyle=":", label=f"chance, {chance:g}")
            line.set_gid(f"{CHANCE}_{chance:g}")
        ax.plot(score, n_rows, "o", color=palette(n_rows + 1)[-1], label="_point", gid=POINT)
        ax.annotate(f"{score:.2f}", (score, n_rows), (6, 0), textcoords="offset points", va="center")
        names.append(f"{n_positive:,} pairs" if label is None else label)
        ax.set_yticks(range(len(names)), names)
        ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="Recall in both tails")
        ax.set_xlim(0, max(1.25 * float(_points(ax)[:, 0].max()), 1.5 * chance))
        outer_legend(ax, loc="lower right", bbox_to_anchor=(1, 1))
    return ax
