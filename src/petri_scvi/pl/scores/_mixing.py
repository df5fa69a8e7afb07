"""Mixing of groups of cells in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE
from petri_scvi.pl._results import read_score, slot_argument

from ._ranking import ALL

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

METRICS = {"entropy": ("o", PALETTE[0], "entropy (1: mixed)"), "silhouette": ("s", PALETTE[1], "silhouette (0: mixed)")}


@plot
def mixing(
    data: AnnData | MuData,
    *,
    obs_key: str = "modality",
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot entropy and silhouette of groups of cells, such as batches or modalities.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.mixing` scored.
    obs_key
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
    The axes: one row per modality, with both scores.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.mixing` has not been called for this column and embedding.
    ValueError
        Several embeddings were scored and ``key`` is ``None``.
    """
    call = f"mixing(data{slot_argument(key)}, obs_key={obs_key!r})"
    table = read_score(data, key, start="mixing", end=f"_{obs_key}", field="table", written_by=call)["table"]
    names = ["" if name == ALL else name for name in table["modality"].astype(str)]
    rows = np.arange(len(table))
    with open_axes(ax, 4.0, 1.5 + 0.4 * len(table)) as ax:
        for at in (0, 1):
            ax.axvline(at, color=REFERENCE, linewidth=1, linestyle=":", label="_ends")
        for column, (marker, colour, label) in METRICS.items():
            scores = table[column].to_numpy(dtype=np.float64)
            ax.plot(scores, rows, linestyle="", marker=marker, color=colour, label=label)
        low = min(-0.05, 1.2 * float(table["silhouette"].min()))
        ax.set(xlim=(low, 1.05), ylim=(len(table) - 0.5, -0.5), xlabel=f"Mixing of {obs_key}")
        groups = table["n_groups"].astype(int)
        ax.set_yticks(rows, [f"{name}\n{n} groups".lstrip() for name, n in zip(names, groups, strict=True)])
        outer_legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handlelength=1)
    return ax
