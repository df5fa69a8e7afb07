"""Names beside the axes that do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression

from ._axes import inches, text_inches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

LINE_SPACING = 1.25
LINES = "0.65"


def n_that_fit(ax: Axes) -> int:
    """Number of names that fit beside the axes, one above the other."""
    return max(1, int(inches(ax)[1] / (LINE_SPACING * text_inches())))


def name_points(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    names: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    side: Literal["left", "right"] = "right",
    offset: float = 0.04,
) -> None:
    """Write names in the margin, as close to their points as space allows, and connect them by lines.

    Parameters
    ----------
    ax
        Axes whose limits are set already.
    x, y
        Points, in data coordinates; ``x`` in fractions of the axes on the left side.
    names
        One per point; as many as :func:`n_that_fit`, the first of them, are written.
    colours
        One per point; by default that of text.
    side
        Margin to write in.
    offset
        Distance from the axes, in fractions of their width.
    """
    n = min(len(names), n_that_fit(ax))
    bottom, top = ax.get_ylim()
    wanted = (np.asarray(y[:n], dtype=np.float64) - bottom) / (top - bottom)
    height = spread(wanted, LINE_SPACING * text_inches() / inches(ax)[1])
    for i in range(n):
        style: dict[str, Any] = {} if colours is None else {"color": colours[i]}
        ax.annotate(
            names[i],
            xy=(x[i], y[i]),
            xycoords="data" if side == "right" else ax.get_yaxis_transform(),
            xytext=(1 + offset if side == "right" else -offset, height[i]),
            textcoords="axes fraction",
            ha="left" if side == "right" else "right",
            va="center",
            fontsize="small",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": LINES, "shrinkA": 1, "shrinkB": 1},
            **style,
        )


def spread(wanted: NDArray[np.floating], gap: float) -> NDArray[np.float64]:
    """Heights between 0 and 1 that are at least ``gap`` apart and closest to the wanted ones in least squares."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    start = isotonic_regression(wanted[order] - steps).x
    heights = np.empty(len(wanted))
    heights[order] = np.clip(start, 0, max(0.0, 1 - steps[-1])) + steps
    return heights
