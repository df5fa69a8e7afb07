"""Efficacy of guides with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from petri_scvi.pl._axes import inches, is_rasterized, open_axes, outer_legend, plot, text_inches
from petri_scvi.pl._colours import REFERENCE, palette

from ._guide_model import read_guide_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from petri_scvi.pl._axes import Save

PER_GENE = 0.17
DOUBT = 0.5


@plot
def guide_efficacy(
    genes: AnnData,
    *,
    target_genes: Sequence[str] | None = None,
    n_genes: int = 30,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the efficacy of the guides of each gene with 90 % credible intervals.

    Parameters
    ----------
    genes
        What :func:`petri_scvi.tl.guide_model` returned.
    target_genes
        Genes to draw, in this order. By default those whose guides are most likely dead, the strongest genes last.
    n_genes
        How many genes to draw if ``target_genes`` is ``None``.
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
    The axes: a point and its interval per guide, open where the guide is more likely dead than not, and a line at the
    efficacy below which it is dead.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.guide_model` has not been called.
    ValueError
        A gene is not in the model.
    """
    result = read_guide_model(genes)
    table = result["guides"].astype({"guide": str, "target_gene": str})
    chosen = _choose(table, target_genes, n_genes)
    below = float(result["parameters"]["dead_below"])
    with open_axes(ax, 4.5, 1.5 + PER_GENE * len(chosen)) as ax:
        size = float(np.clip(25 * inches(ax)[1] / (PER_GENE * len(chosen)), 4, 25))
        alive, dead = palette(2)
        for row, gene in enumerate(chosen):
            part = table[table["target_gene"] == gene].sort_values("efficacy")
            height = row + np.linspace(-0.3, 0.3, len(part)) if len(part) > 1 else np.array([float(row)])
            is_dead = (part["p_dead"] > DOUBT).to_numpy()
            for is_drawn, colour, face in ((~is_dead, alive, alive), (is_dead, dead, "white")):
                some = part[is_drawn]
                ax.hlines(height[is_drawn], some["efficacy_low"], some["efficacy_high"], color=colour, linewidth=0.8)
                drawn = ax.scatter(some["efficacy"], height[is_drawn], edgecolors=colour, facecolors=face, zorder=3)
                drawn.set(sizes=[size], rasterized=is_rasterized())
        ax.axvline(below, color=REFERENCE, linestyle=":", linewidth=1)
        _name_rows(ax, chosen)
        ax.set(xlim=(-0.02, 1.02), ylim=(len(chosen) - 0.4, -0.6), xlabel="Efficacy and 90 % interval")
        _draw_legend(ax, table, chosen, (alive, dead), below)
    return ax


def _choose(table: pd.DataFrame, target_genes: Sequence[str] | None, n_genes: int) -> list[str]:
    if target_genes is not None:
        missing = [gene for gene in target_genes if gene not in set(table["target_gene"])]
        if missing or not len(target_genes):
            found = sorted(table["target_gene"].unique())[:10]
            raise ValueError(f"target_genes {missing} are not in the model; pass some of {found}, ...")
        return list(target_genes)
    by_gene = table.groupby("target_gene").agg(p_dead=("p_dead", "max"), efficacy=("efficacy", "mean"))
    return list(by_gene.sort_values(["p_dead", "efficacy"], ascending=[False, True]).index[:n_genes])


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Write the names in a font size that fits, or not at all."""
    per_row = inches(ax)[1] / len(names)
    size = next((s for s in ("small", "x-small", "xx-small") if 1.05 * text_inches(s) <= per_row), None)
    ax.set_yticks(range(len(names)) if size else [], names if size else [], fontsize=size)
    ax.tick_params(axis="y", length=0)


def _draw_legend(ax: Axes, table: pd.DataFrame, chosen: Sequence[str], colours: tuple[str, str], below: float) -> None:
    drawn = table[table["target_gene"].isin(chosen)]
    n_dead, n_left = int((drawn["p_dead"] > DOUBT).sum()), table["target_gene"].nunique() - len(chosen)
    style: dict[str, Any] = {"linestyle": "-", "marker": "o", "markersize": 4, "linewidth": 0.8}
    handles = [
        Line2D([], [], color=colours[0], label=f"{len(drawn) - n_dead} guides, more likely alive", **style),
        Line2D([], [], color=colours[1], markerfacecolor="white", label=f"{n_dead} more likely dead", **style),
        Line2D([], [], color=REFERENCE, linestyle=":", linewidth=1, label=f"dead below {below:g}"),
    ]
    title = f"{n_left} more genes not drawn" if n_left else None
    outer_legend(ax, handles=handles, loc="lower left", bbox_to_anchor=(0, 1), title=title, title_fontsize="small")
