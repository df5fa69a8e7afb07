"""Axes to draw on: those of the caller, or new ones that follow scanpy's settings."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

POINTS_PER_INCH = 72


@contextmanager
def open_axes(ax: Axes | None, name: str, width: float, height: float) -> Iterator[Axes]:
    """Return the caller's axes, or new ones that are saved when they are drawn.

    Parameters
    ----------
    ax
        The caller's axes, if any.
    name
        Name of the plot, for the file that ``sc.settings.autosave`` writes.
    width, height
        Size in inches under the defaults of matplotlib.
    """
    if ax is not None:
        with names_are_literal(ax.figure):
            yield ax
        return
    with new_figure(name, width, height) as figure:
        yield figure.subplots()


@contextmanager
def new_figure(name: str, width: float, height: float) -> Iterator[Figure]:
    """Open a figure; see :func:`open_axes`. One that could not be drawn is closed."""
    scale = _scale()
    figure = plt.figure(
        figsize=(width * scale, height * scale), layout="compressed"
    )  # as constrained, and right for pictures too
    try:
        with names_are_literal(figure):
            yield figure
    except BaseException:
        plt.close(figure)
        raise
    _autosave(figure, name)


@contextmanager
def names_are_literal(figure: FigureBase) -> Iterator[None]:
    """Draw what is written to a figure as it is; two ``$`` in a name would otherwise enclose a formula.

    Texts that the caller wrote before stay as they are, and so do the powers of ten of logarithmic axes.
    """
    before = {text: text.get_text() for text in figure.findobj(Text)}
    yield
    for text in figure.findobj(Text):
        if "$" in text.get_text() and before.get(text) != text.get_text():
            text.set_parse_math(False)


def is_rasterized() -> bool:
    """Whether to rasterize many points inside vector files."""
    return bool(getattr(_scanpy_settings(), "_vector_friendly", False))


def has_frame() -> bool:
    """Whether scatter plots of embeddings have a frame and labels."""
    return bool(getattr(_scanpy_settings(), "_frameon", True))


def inner_legend(ax: Axes, **options: Any) -> None:
    """Legend on top of lines and grid, readable whatever the user's style."""
    style = {"fontsize": "small", "borderaxespad": 0.3, "framealpha": 0.8, "edgecolor": "none", "handlelength": 2}
    ax.legend(**(style | {"frameon": True} | options))


def outer_legend(ax: Axes, **options: Any) -> None:
    """Legend outside the axes."""
    style = {"fontsize": "small", "borderaxespad": 0.3, "frameon": False, "handlelength": 2, "columnspacing": 1.2}
    ax.legend(**(style | options))


def inches(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes, before a layout moves them."""
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return float(box.width), float(box.height)


def text_inches(size: str = "small") -> float:
    """Height of letters."""
    return float(FontProperties(size=size).get_size_in_points()) / POINTS_PER_INCH


def _scale() -> float:
    """Scale of figures relative to the default; a larger font needs more room, too."""
    wanted = min(mpl.rcParams["figure.figsize"]) / min(mpl.rcParamsDefault["figure.figsize"])
    return float(wanted * max(1.0, mpl.rcParams["font.size"] / mpl.rcParamsDefault["font.size"]))


def _scanpy_settings() -> Any:
    """``scanpy.settings``, or ``None`` if scanpy was not imported, so that nothing can have been set."""
    return getattr(sys.modules.get("scanpy"), "settings", None)


def _autosave(figure: Figure, name: str) -> None:
    settings = _scanpy_settings()
    if settings is None or not settings.autosave:
        return
    settings.figdir.mkdir(parents=True, exist_ok=True)
    path = settings.figdir / f"{name}{settings.plot_suffix}.{settings.file_format_figs}"
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)  # as in scanpy, what is saved is not shown
