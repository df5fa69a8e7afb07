"""Distribution over genes of how well they are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import inner_legend, open_axes, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE
from petri_scvi.pl._results import read_result, slot_argument

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

PAPER_MEAN, PAPER_BELOW, PAPER_SHARE = 0.117, 0.20, 0.80
"""Mean over genes, and the share of genes below a value, in the paper's matched cells."""
LOWEST = -1.0
"""Lower scores are drawn at this value."""


@plot
def image_to_expression_r2(
    data: MuData, *, key: str | None = None, ax: Axes | None = None, show: bool | None = None, save: Save = None
) -> Axes:
    """Plot the share of genes below each value of :math:`R^2`, with the numbers of the paper for comparison.

    Parameters
    ----------
    data
        Data that :func:`petri_scvi.tl.image_to_expression_r2` was called on.
    key
        As in that call: the slot of the embedding, or ``None`` for the ViT.
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
    The axes: a curve of the genes, a dot at their mean and, if contexts were predicted, a dashed curve of the limit set
    by measurement error. In grey, the paper's mean and its share of genes below 0.2, of matched single cells.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.image_to_expression_r2` has not been called.
    """
    name = "image_to_expression_r2"
    slot = "" if key is None else f"_{key}"
    result = read_result(data, f"{name}{slot}", field="summary", written_by=f"{name}(mdata{slot_argument(key)})")
    summary, table = result["summary"].iloc[0], result["table"]
    with open_axes(ax, 4, 3) as ax:
        r2 = _draw_shares(ax, table["r2"], PALETTE[0], str(summary["predictor"]))
        ax.plot(r2.mean(), (r2 < r2.mean()).mean(), "o", color=PALETTE[0], label=f"mean, {r2.mean():.3f}")
        if "reliability" in table:
            _draw_shares(ax, table["reliability"], PALETTE[1], "the most to expect", linestyle="--")
        ax.axvline(PAPER_MEAN, color=REFERENCE, linewidth=1, linestyle=":", label=f"paper's mean, {PAPER_MEAN}")
        ax.plot(PAPER_BELOW, PAPER_SHARE, "x", color=REFERENCE, label=f"paper, {PAPER_SHARE:.0%} below {PAPER_BELOW}")
        ax.set(xlabel=f"R² by {summary['level']}", ylabel="Share of genes below", ylim=(-0.02, 1.02))
        inner_legend(ax)
    return ax


@plot
def impute_expression(
    profiles: AnnData, *, ax: Axes | None = None, show: bool | None = None, save: Save = None
) -> Axes:
    """Plot the share of genes below each score of the fold changes that images predict.

    Parameters
    ----------
    profiles
        What :func:`petri_scvi.tl.impute_expression` returned.
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
    The axes: a curve of what images predict and, if it is known, of what measuring the contexts again would; the line
    at 0 is the mean over contexts. Scores below -1 are drawn at -1.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.impute_expression` has not been called.
    """
    name = "impute_expression"
    read_result(profiles, name, field="summary", written_by=f"{name}(model)")
    with open_axes(ax, 4, 3) as ax:
        _draw_shares(ax, profiles.var["r2_predicted"], PALETTE[0], "images")
        if profiles.var["r2_assay"].notna().any():
            _draw_shares(ax, profiles.var["r2_assay"], PALETTE[1], "measured again", linestyle="--")
        ax.axvline(0, color=REFERENCE, linewidth=1, linestyle=":", label="mean over contexts")
        xlabel = "Share of the error of the mean over contexts that is removed"
        ax.set(xlabel=xlabel, ylabel="Share of genes below", ylim=(-0.02, 1.02))
        inner_legend(ax)
    return ax


def _draw_shares(
    ax: Axes, scores: NDArray[np.floating], colour: str, label: str, linestyle: str = "-"
) -> NDArray[np.float64]:
    """Draw the distribution of the scores that are defined, and return them."""
    values = np.asarray(scores, dtype=np.float64)
    values = values[np.isfinite(values)]
    drawn = np.sort(np.clip(values, LOWEST, None))
    share = np.arange(1, len(drawn) + 1) / max(1, len(drawn))
    ax.step(drawn, share, where="post", color=colour, linestyle=linestyle, label=label)
    return values
