"""Variance components of profiles: shared effects, effects specific to a modality, and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, outer_legend, plot
from petri_scvi.pl._colours import palette

from ._guide_model import read_guide_model

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from matplotlib.axes import Axes

    from petri_scvi.pl._axes import Save

PARTS = {"shared": "shared by modalities", "specific": "in this modality only", "off_target": "of one guide only"}
PARTS |= {"sampling": "sampling of cells"}
ALL = "all"


@plot
def shared_variance(genes: AnnData, *, ax: Axes | None = None, show: bool | None = None, save: Save = None) -> Axes:
    """Plot the variance of profiles by source, for each modality.

    Parameters
    ----------
    genes
        What :func:`petri_scvi.tl.guide_model` returned.
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
    The axes: one bar per source and modality with its 90 % credible interval, in units of the squared embedding per
    dimension; the title gives the correlation of the effects in each pair of modalities, and their mutual information
    per gene. With one modality, shared and specific effects cannot be distinguished, and both are called effects of
    genes.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.guide_model` has not been called.
    """
    result = read_guide_model(genes)
    table = result["variance"].astype({"modality": str})
    is_single = len(table) == 1
    parts = {name: label for name, label in PARTS.items() if not (is_single and name == "specific")}
    if is_single:
        parts["shared"] = "effects of genes"
    width = 0.8 / len(parts)
    with open_axes(ax, 1.8 + 1.5 * len(table), 3.2) as ax:
        for i, ((name, label), colour) in enumerate(zip(parts.items(), palette(len(parts)), strict=True)):
            x = np.arange(len(table)) + (i - (len(parts) - 1) / 2) * width
            value, low, high = (table[name + end].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
            ax.bar(x, value, width=0.9 * width, color=colour, label=label)
            ax.vlines(x, low, high, color="black", linewidth=1)
        ax.set_xticks(np.arange(len(table)), ["" if name == ALL else name for name in table["modality"]])
        ax.set(ylabel="Variance per dimension", ylim=(0, None))
        ax.set_title(_title(result), fontsize="small")
        outer_legend(ax, loc="upper left", bbox_to_anchor=(1.02, 1))
    return ax


def _title(result: dict[str, Any]) -> str:
    if "pairs" not in result:
        return ""
    return "\n".join(
        f"{row.modality} and {row.other}\ncorrelation {row.correlation:.2f} [{row.correlation_low:.2f}, "
        f"{row.correlation_high:.2f}]\n{row.bits:.1f} bits [{row.bits_low:.1f}, {row.bits_high:.1f}] per gene"
        for row in result["pairs"].itertuples()
    )
