"""Strength of perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, plot
from petri_scvi.pl._colours import REFERENCE
from petri_scvi.pl._results import read_score, slot_argument

from ._ranking import HEIGHT, WIDTH, choose_modality, draw_ranking, ranking_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save


@plot
def perturbation_strength(
    data: AnnData | MuData,
    *,
    modality: str | None = None,
    key: str | None = None,
    n_labels: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the energy distance of each perturbation to the controls in ascending order.

    Parameters
    ----------
    data
        Cells that :func:`petri_scvi.tl.perturbation_strength` tested.
    modality
        Draw this modality; by default all, in colours. If each has an embedding of its own, their distances are not in
        the same units.
    key
        Slot of the embedding; may be left out if a single one was scored.
    n_labels
        Active perturbations to name, per modality, the strongest first, as many as fit.
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
    The axes: one point per perturbation, filled if active, and a line at 0, the expectation for controls.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.perturbation_strength` has not been called for this embedding.
    ValueError
        The modality has not been tested, or several embeddings were and ``key`` is ``None``.
    """
    call = f"perturbation_strength(data{slot_argument(key)})"
    result = read_score(data, key, start="perturbation_strength", field="table", written_by=call)
    parameters = result["parameters"]
    tested = choose_modality(result["table"], modality)
    table = ranking_table(tested, name="perturbation", value="energy_distance", is_hit="is_active")
    with open_axes(ax, WIDTH, HEIGHT) as ax:
        ax.axhline(0, color=REFERENCE, linewidth=1, linestyle=":", label="controls")
        draw_ranking(ax, table, hit="active", alpha=float(parameters["alpha"]), n_labels=n_labels)
        ylabel = f"Energy distance to {', '.join(np.atleast_1d(parameters['control']).astype(str))}"
        ax.set(xlabel=f"{str(parameters['perturbation_key']).capitalize()}s, in order", ylabel=ylabel)
    return ax
