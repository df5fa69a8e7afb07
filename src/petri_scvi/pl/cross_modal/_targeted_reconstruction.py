"""Bright patches, reconstructed with and without transcriptomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi.pl._axes import new_figure, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE
from petri_scvi.pl._results import key_argument, read_result
from petri_scvi.pl.images._crop_pictures import colour_channels, draw_montage, hide_patches

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

DEFAULT_KEY = "targeted_reconstruction"
CONDITIONS = ("none", "mixed", "own", "changed")
SCORES = {"intensity": "Predicted intensity", "mse": "Error"}
SPREAD = 0.13
"""Standard deviation of the horizontal jitter of the points."""


@plot
def targeted_reconstruction(
    data: AnnData | MuData,
    *,
    key: str = DEFAULT_KEY,
    n_cells: int = 6,
    axes: tuple[Axes, Axes, Axes] | None = None,
    show: bool | None = None,
    save: Save = None,
) -> tuple[Axes, Axes, Axes]:
    """Draw crops reconstructed next to different transcriptomes, and the change in each cell.

    Parameters
    ----------
    data
        Data that :func:`petri_scvi.tl.targeted_reconstruction` was called on.
    key
        As ``key_added`` of that call.
    n_cells
        Cells to draw, at most the eight that were stored.
    axes
        Three axes to draw on; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    The axes: the channel in crops as measured, as the encoder saw it, and as reconstructed in each condition where it
    was hidden; then, per condition, one point per cell and a line at the mean: the change of the predicted intensity
    relative to transcriptomes of any context, and the same for the squared error, both as a share of their mean there.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.targeted_reconstruction` has not been called.
    ValueError
        ``n_cells`` is below 1.
    """
    call = f"targeted_reconstruction(model, channel=..., changed_context=...{key_argument(key, DEFAULT_KEY)})"
    result = read_result(data, key, field="predictions", written_by=call)
    if n_cells < 1:
        raise ValueError(f"n_cells={n_cells} is not accepted; pass 1 or more")
    if axes is not None:
        _draw(axes, result, n_cells)
        return axes
    n_drawn = min(n_cells, len(result["images"]))
    with new_figure(0.65 * n_drawn + 7.2, 4.4) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(0.65 * n_drawn + 1.4, 2.7, 2.7))
        _draw((left, middle, right), result, n_cells)
    return left, middle, right


def _draw(axes: tuple[Axes, Axes, Axes], result: dict[str, Any], n_cells: int) -> None:
    changed = str(result["parameters"]["changed_context"])
    names = dict(zip(CONDITIONS, ("alone", "with RNA, any", "with RNA, own", f"with RNA,\n{changed}"), strict=True))
    _draw_crops(axes[0], result, n_cells, list(names.values()))
    for ax, score in zip(axes[1:], SCORES, strict=True):
        _draw_changes(ax, result, score, names)


def _draw_crops(ax: Axes, result: dict[str, Any], n_cells: int, names: list[str]) -> None:
    images, mask = np.asarray(result["images"])[:n_cells], np.asarray(result["mask"])[:n_cells]
    predictions = np.asarray(result["predictions"])[:, :n_cells]
    hidden = hide_patches(images, mask)
    reconstructed = [np.where(np.isnan(hidden), prediction, images) for prediction in predictions]
    # Range of the measured crops, so that the same grey is the same intensity in every row.
    scale = tuple(np.percentile(images, q).reshape(1, 1, 1) for q in (1, 99.7))
    rows = [colour_channels(crops[:, None], scale, ["white"]) for crops in (images, hidden, *reconstructed)]
    draw_montage(ax, _on_black(rows, hidden), ["original", "masked", *names])
    ax.set_title(str(result["parameters"]["channel"]).replace("_", " "), fontsize="medium")


def _on_black(rows: list[NDArray[np.floating]], hidden: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Hidden patches in colour, since grey is an intensity here."""
    masked = rows[1].copy()
    masked[np.isnan(hidden)] = (0.35, 0.45, 0.65)
    return [rows[0], masked, *rows[2:]]


def _draw_changes(ax: Axes, result: dict[str, Any], score: str, names: dict[str, str]) -> None:
    """One point per cell: its score against that next to transcriptomes of any context."""
    cells = result["cells"]
    by_condition = {name: cells.loc[cells["condition"] == name, score].to_numpy() for name in CONDITIONS}
    reference = by_condition["mixed"]
    jitter = np.clip(np.random.default_rng(0).normal(0, SPREAD, size=len(reference)), -0.35, 0.35)
    drawn = [name for name in CONDITIONS if name != "mixed"]
    for x, condition in enumerate(drawn):
        change = 100 * (by_condition[condition] - reference) / reference.mean()
        style = {"color": PALETTE[x], "alpha": min(0.6, 30 / len(change) ** 0.5), "linewidths": 0}
        ax.scatter(x + jitter, change, s=10, **style)
        ax.hlines(change.mean(), x - 0.4, x + 0.4, color="black", linewidth=1.5)
    ax.axhline(0, color=REFERENCE, linewidth=1, linestyle=":")
    labels = [names[name].replace("with RNA, ", "RNA,\n").replace("with RNA,", "RNA,") for name in drawn]
    ax.set_xticks(range(len(drawn)), labels, fontsize="small")
    ax.set(xlim=(-0.6, len(drawn) - 0.4), ylabel=f"{SCORES[score]}, % above RNA of any context")
