"""How much of an embedding's variance labels of the cells explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import PALETTE
from petri_scvi.pl._results import read_score, slot_argument

from ._ranking import ALL

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save


@plot
def variance_shares(
    data: AnnData | MuData,
    *,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the share of an embedding's variance that each column explains.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.variance_shares` scored.
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
    The axes: a row per column and modality, with the share and the adjusted share, which is 0 by chance.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.variance_shares` has not been called for this embedding.
    ValueError
        Several embeddings were scored and ``key`` is ``None``.
    """
    call = f"variance_shares(data{slot_argument(key)})"
    table = read_score(data, key, start="variance_shares", field="table", written_by=call)["table"]
    names = [
        str(row.explained_by) if row.modality == ALL else f"{row.explained_by}, {row.modality}"
        for row in table.itertuples()
    ]
    rows = np.arange(len(table))
    with open_axes(ax, 4.0, 1.2 + 0.25 * len(table)) as ax:
        ax.barh(rows, table["share_adjusted"].to_numpy(), height=0.6, color=PALETTE[0], label="adjusted")
        ax.plot(table["share"].to_numpy(), rows, linestyle="", marker="|", color="black", label="not adjusted")
        ax.set_yticks(rows, names)
        ax.set_ylim(len(table) - 0.5, -0.5)
        ax.set_xlabel("Share of variance")
        ax.set_xlim(left=min(0.0, 1.1 * float(table["share_adjusted"].min())))
        outer_legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handlelength=1)
    return ax
