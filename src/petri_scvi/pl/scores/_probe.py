"""Linear and nearest-neighbour probes of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE
from petri_scvi.pl._results import read_score, slot_argument

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save

NAMES = {"balanced_accuracy": "Balanced accuracy", "auc": "AUC, one class against the rest", "r2": "R²"}
GUESS = {"auc": 0.5, "r2": 0.0}
"""Chance levels; that of balanced accuracy depends on the number of classes."""


@plot
def probe(
    data: AnnData | MuData,
    *,
    obs_key: str,
    method: Literal["linear", "knn"] = "linear",
    metric: str | None = None,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot how well an ``obs`` column is predicted in held-out cells, per modality.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.probe` scored.
    obs_key, method
        As in that call.
    metric
        ``"balanced_accuracy"``, ``"auc"`` or ``"r2"``; by default the first that was scored.
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
    The axes: per modality a point per fold, a line at their mean, and a dotted line at the chance level.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.probe` has not been called for this column, method and embedding.
    ValueError
        The metric has not been scored, or several embeddings were scored and ``key`` is ``None``.
    """
    call = f"probe(data{slot_argument(key)}, obs_key={obs_key!r}, method={method!r})"
    name_ends = f"_{obs_key}_{method}"
    table = read_score(data, key, start="probe", end=name_ends, field="summary", written_by=call)["table"]
    scored = [name for name in NAMES if name in table and table[name].notna().any()]
    metric = scored[0] if metric is None else metric
    if metric not in scored:
        raise ValueError(f"metric={metric!r} has not been scored; pass one of {scored}")
    modality = table["modality"].astype(str)
    names = list(dict.fromkeys(modality))
    with open_axes(ax, 1.6 + 0.8 * len(names), 3) as ax:
        for x, name in enumerate(names):
            rows = table[(modality == name).to_numpy()]
            scores = rows[metric].to_numpy(dtype=np.float64)
            shift = np.linspace(-0.12, 0.12, len(scores))
            ax.scatter(x + shift, scores, s=16, color=PALETTE[0], alpha=0.7, linewidths=0, label=f"_{name}")
            ax.hlines(np.nanmean(scores), x - 0.25, x + 0.25, color=PALETTE[0], linewidth=2, label="mean of folds")
            guess = float(rows["chance"].iloc[0]) if metric == "balanced_accuracy" else GUESS[metric]
            ax.hlines(guess, x - 0.35, x + 0.35, color=REFERENCE, linewidth=1.2, linestyle=":", label="chance")
        ax.set_xticks(range(len(names)), names)
        ax.set(xlim=(-0.6, len(names) - 0.4), ylabel=NAMES[metric], title=f"{obs_key}, {method} probe")
        low, high = ax.get_ylim()
        ax.set_ylim(min(0.0, low), max(1.02, high))
        handles = ax.get_legend_handles_labels()[0][:2]
        outer_legend(ax, handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return ax
