"""Retrieval of guides per gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

from petri_scvi.pl._axes import open_axes, plot
from petri_scvi.pl._colours import REFERENCE
from petri_scvi.pl._results import read_result

from ._consistency import score_title
from ._ranking import HEIGHT, WIDTH, draw_ranking, ranking_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from petri_scvi.pl._axes import Save

VALUE = "mean_normalized_average_precision"


@plot
def mean_average_precision(
    profiles: AnnData, *, n_labels: int = 10, ax: Axes | None = None, show: bool | None = None, save: Save = None
) -> Axes:
    """Plot the average precision of each gene in ascending order.

    Parameters
    ----------
    profiles
        Profiles that :func:`petri_scvi.tl.mean_average_precision` scored.
    n_labels
        Retrieved genes to name, the best first, as many as fit.
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
    The axes: one point per gene, filled if retrieved; a line at 0, which random rankings give; the share of retrieved
    genes and its 95 % interval in the title.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.mean_average_precision` has not been called.
    """
    result = read_result(
        profiles, "mean_average_precision", field="score", written_by="mean_average_precision(profiles)"
    )
    table = ranking_table(result["table"], name="target_gene", value=VALUE, is_hit="is_consistent")
    with open_axes(ax, WIDTH, HEIGHT) as ax:
        ax.axhline(0, color=REFERENCE, linewidth=1, linestyle=":", label="chance")
        draw_ranking(ax, table, hit="retrieved", alpha=float(result["parameters"]["alpha"]), n_labels=n_labels)
        title = score_title("Genes retrieved by mAP", result)
        ax.set(xlabel="Genes, in order", ylabel="Normalised mAP", title=title)
    return ax
