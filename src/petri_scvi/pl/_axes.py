"""Axes to draw on: those of the caller, or new ones that follow scanpy's settings."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

POINTS_PER_INCH = 72
ENDINGS = (".pdf", ".png", ".svg")
"""Endings of ``save`` that name a format; others are a part of the name, as in scanpy."""

P = ParamSpec("P")
Drawn = TypeVar("Drawn")
Save: TypeAlias = "bool | str | os.PathLike[str] | None"


def plot(draw: Callable[P, Drawn]) -> Callable[P, Drawn]:
    """Show and save what a function draws, as the functions of scanpy do.

    The function names ``show`` and ``save`` in its signature, for readers, type checkers and the documentation, and
    leaves them to this decorator. With ``show=True`` it returns ``None``. Its type does not say so, since whoever
    passes ``show=True`` wants no axes, and everybody else would have to rule out ``None``.
    """
    parameters = signature(draw)

    @functools.wraps(draw)
    def shown(*args: P.args, **kwargs: P.kwargs) -> Drawn:
        given = parameters.bind(*args, **kwargs).arguments
        is_new = given.get("ax") is None and given.get("axes") is None
        show, path = given.get("show"), _path(draw.__name__, given.get("save"), is_new)
        drawn = draw(*args, **kwargs)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _figure_of(drawn).savefig(path, bbox_inches="tight")
        if show or (show is None and is_new and _shows_by_default()):
            plt.show()
        if path is not None and is_new:
            plt.close(_figure_of(drawn))  # as in scanpy, what is saved does not stay open
        return cast("Drawn", None) if show else drawn

    return shown


@contextmanager
def open_axes(ax: Axes | None, width: float, height: float) -> Iterator[Axes]:
    """Return the caller's axes, or new ones.

    Parameters
    ----------
    ax
        The caller's axes, if any.
    width, height
        Size in inches under the defaults of matplotlib.
    """
    if ax is not None:
        with names_are_literal(ax.figure):
            yield ax
        return
    with new_figure(width, height) as figure:
        yield figure.subplots()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
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


def _figure_of(drawn: Any) -> Figure:
    """Figure of what a plot returned: axes, a tuple of them, or a mapping from names to them."""
    axes = drawn.values() if isinstance(drawn, dict) else drawn if isinstance(drawn, tuple) else (drawn,)
    figure = next(iter(axes)).figure
    return cast("Figure", figure.figure)  # of a subfigure, the whole one


def _shows_by_default() -> bool:
    """Whether scanpy's settings show figures; a backend that only writes files has no way to."""
    backend = mpl.get_backend().lower()
    can_show = backend not in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    return can_show and bool(getattr(_scanpy_settings(), "autoshow", True))


def _path(name: str, save: Save, is_new: bool) -> Path | None:
    """File to write, if any."""
    settings = _scanpy_settings()
    if save is None:
        save = is_new and bool(getattr(settings, "autosave", False))
    if not isinstance(save, bool | str | os.PathLike):
        raise TypeError(f"save={save!r} is not accepted; pass True, a suffix such as '_a.pdf', or a pathlib.Path")
    if save is False:
        return None
    if isinstance(save, os.PathLike) or (isinstance(save, str) and Path(save).name != save):
        return Path(save).expanduser()
    suffix, ending = "" if save is True else save, getattr(settings, "file_format_figs", "pdf")
    if suffix.endswith(ENDINGS):
        suffix, _, ending = suffix.rpartition(".")
    folder = Path(getattr(settings, "figdir", "figures"))
    return folder / f"{name}{suffix}{getattr(settings, 'plot_suffix', '')}.{ending}"
