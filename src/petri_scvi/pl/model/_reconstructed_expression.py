"""Observed and reconstructed expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from petri_scvi.pl._axes import is_rasterized, open_axes, plot
from petri_scvi.pl._colours import PALETTE, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save


@plot
def reconstructed_expression(
    expression: NDArray[np.number] | sparse.spmatrix | sparse.sparray,
    prediction: NDArray[np.floating],
    mask: NDArray[np.bool_],
    *,
    groups: Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Plot the mean of the masked entries of each gene, reconstructed against observed.

    Parameters
    ----------
    expression
        Expression as measured, shape ``(n, n_genes)``.
    prediction, mask
        What :meth:`petri_scvi.PETRI.get_reconstruction` returned for these cells.
    groups
        Group of each cell, such as its perturbation; one point per gene and group. By default one point per gene.
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
    The axes, on logarithmic scales. Points with no observed or no predicted expression are left out.

    Raises
    ------
    ValueError
        Expression, prediction and mask do not belong together.
    """
    observed = sparse.csr_array(expression).toarray() if sparse.issparse(expression) else np.asarray(expression)
    if not observed.shape == prediction.shape == mask.shape:
        raise ValueError(
            f"expression {observed.shape}, prediction {prediction.shape} and mask {mask.shape} do not belong together; "
            "pass the cells that were reconstructed, for example mdata['rna'].X[indices] with the same indices."
        )
    labels = np.zeros(len(observed), dtype=int) if groups is None else pd.factorize(np.asarray(groups))[0]
    means = [
        [np.where(mask[labels == group], values[labels == group], 0).sum(axis=0) for values in (observed, prediction)]
        / np.maximum(mask[labels == group].sum(axis=0), 1)
        for group in np.unique(labels)
    ]
    x, y = np.stack(means, axis=1).reshape(2, -1)
    is_drawn = (x > 0) & (y > 0)
    limits = (min(x[is_drawn].min(), y[is_drawn].min()), max(x[is_drawn].max(), y[is_drawn].max()))
    unit = "gene" if groups is None else "gene and group"
    with open_axes(ax, 3.5, 3.5) as ax:
        points = ax.scatter(x[is_drawn], y[is_drawn], s=4, alpha=0.4, linewidths=0, color=PALETTE[0])
        points.set_rasterized(is_rasterized())
        ax.plot(limits, limits, color=REFERENCE, linewidth=1, linestyle=":")
        ax.set(
            xscale="log", yscale="log", xlabel=f"Observed mean per {unit}", ylabel="Reconstructed mean", aspect="equal"
        )
    return ax
