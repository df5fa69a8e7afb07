"""Activity of the dimensions of a sparse code in two modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from petri_scvi._checks import choose_modality_pair
from petri_scvi.pl._axes import is_rasterized, open_axes, outer_legend, plot
from petri_scvi.pl._colours import BACKGROUND, PALETTE, REFERENCE
from petri_scvi.pl._results import read_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

PREFIX = "activity_"
TICKS = (0, 0.01, 0.1, 0.3, 0.6, 1)


@plot
def multimodal_dimensions(
    data: AnnData | MuData,
    *,
    model: str | None = None,
    modalities: Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the share of cells that activate each dimension, one modality against another.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.multimodal_dimensions` was called on.
    model
        Model to draw, of those compared in that call; the first by default.
    modalities
        Two modalities, for the horizontal and the vertical axis; by default the image modality and the RNA modality, or
        the first two.
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
    The axes: a point per dimension, multimodal ones in colour, and the range of activity that makes a dimension
    multimodal. Both axes show the square root, since most dimensions are rarely active.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.multimodal_dimensions` has not been called.
    ValueError
        The model or a modality is not among those compared.
    """
    result = read_result(data, "multimodal_dimensions", field="summary", written_by="multimodal_dimensions(data)")
    table = result["table"].astype({"model": str})
    models = list(dict.fromkeys(table["model"]))
    model = models[0] if model is None else model
    if model not in models:
        raise ValueError(f"model={model!r} was not compared; pass one of {models}")
    across, up = choose_modality_pair([c.removeprefix(PREFIX) for c in table if c.startswith(PREFIX)], modalities)
    table = table[table["model"] == model]
    x, y = (table[PREFIX + name].to_numpy(dtype=np.float64) for name in (across, up))
    is_multimodal = table["is_multimodal"].to_numpy(dtype=bool)
    low, high = (float(result["parameters"][name]) for name in ("min_activity", "max_activity"))
    with open_axes(ax, 3.8, 3.9) as ax:
        frame: dict[str, Any] = {"facecolor": "none", "edgecolor": REFERENCE, "linestyle": ":", "linewidth": 1}
        ax.add_patch(Rectangle((low, low), high - low, high - low, **frame))
        for is_drawn, colour, name in (
            (~is_multimodal, BACKGROUND, "other"),
            (is_multimodal, PALETTE[0], "multimodal"),
        ):
            label = f"{int(is_drawn.sum())} {name}"
            edge = "0.55" if name == "other" else "white"
            drawn = ax.scatter(x[is_drawn], y[is_drawn], s=14, color=colour, label=label, zorder=2)
            drawn.set(edgecolors=edge, linewidths=0.4, rasterized=is_rasterized())
        _scale_by_root(ax)
        ax.set(xlabel=f"Active in share of cells, {across}", ylabel=f"Active in share of cells, {up}", title=model)
        outer_legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, handletextpad=0.2)
    return ax


def _scale_by_root(ax: Axes) -> None:
    """Both axes from 0 to 1, with room for points that lie on the ends."""
    for axis in ("x", "y"):
        # Defined below zero too, where the margin is.
        scale = (lambda v: np.sign(v) * np.sqrt(np.abs(v)), lambda v: np.sign(v) * np.square(v))
        getattr(ax, f"set_{axis}scale")("function", functions=scale)
        getattr(ax, f"set_{axis}ticks")(TICKS, [f"{tick:g}" for tick in TICKS])
        getattr(ax, f"set_{axis}lim")(-0.0008, 1.06)
    ax.set_box_aspect(1)
