"""Heat map of the cosines of genes with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from scipy import sparse

from petri_scvi.pl._axes import open_axes, plot
from petri_scvi.pl._colours import DIVERGING, REFERENCE

from ._guide_model import CALL, read_guide_model
from ._profile_similarity import name_profiles, order_by_group

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

SLOTS = ("cosine", "cosine_low", "cosine_high", "p_similar")
WIDEST = 40
"""With more genes than this, there is no space for squares of different size."""


@plot
def gene_similarity(genes: AnnData, *, ax: Axes | None = None, show: bool | None = None, save: Save = None) -> Axes:
    """Draw a heat map of the posterior cosines of genes; the more certain a cosine, the larger its square.

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
    The axes. Genes are ordered by hierarchical clustering (average linkage). Colours are posterior mean cosines. The
    side of a square falls from 1 to 0.2 as the 90 % credible interval of the cosine widens from 0 to 1; with more than
    40 genes, cells are full and paler instead. A dot marks pairs that are similar with a probability above 95 %.

    Raises
    ------
    KeyError
        :func:`petri_scvi.tl.guide_model` has not been called.
    ValueError
        There are fewer than two genes.
    """
    result = read_guide_model(genes)
    mean, low, high, p_similar = (_dense(genes, name) for name in SLOTS)
    n = len(mean)
    if n < 2:
        raise ValueError(f"{n} gene in the model; at least two are needed")
    order = order_by_group(mean, np.zeros(n, dtype=int))
    mean, width, p_similar = (m[np.ix_(order, order)] for m in (mean, high - low, p_similar))
    sureness = np.clip(1 - width, 0.2, 1)
    side = min(max(3.5, 0.13 * n), 5.0)
    with open_axes(ax, side + 0.8, side + 1.0) as ax:
        image = ax.imshow(mean, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest", aspect="equal")
        if n <= WIDEST:
            image.set_alpha(0.0)
            _draw_squares(ax, mean, sureness)
        else:
            image.set_alpha(sureness)
        _mark_similar(ax, p_similar)
        ax.set(xticks=[], xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
        ax.grid(False)
        name_profiles(ax, np.asarray(genes.obs_names, dtype=str)[order])
        _draw_bar(ax)
        above, n_sure = float(result["parameters"]["similar_above"]), _count_similar(p_similar)
        how = "smaller" if n <= WIDEST else "paler"
        ax.set_title(f"{how} = less certain; {n_sure} pairs (dots)\ncertainly above {above:g}", fontsize="small")
    return ax


def _dense(genes: AnnData, name: str) -> NDArray[np.float64]:
    if name not in genes.obsp:
        raise KeyError(f"genes.obsp has no {name!r}; it has {sorted(genes.obsp)}. Call petri_scvi.tl.{CALL} first.")
    matrix: Any = genes.obsp[name]
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float64)


def _draw_squares(ax: Axes, mean: NDArray[np.float64], sureness: NDArray[np.float64]) -> None:
    """Draw one square per pair; the cells of a mesh would all have the same size."""
    y, x = np.divmod(np.arange(mean.size), len(mean))
    half = sureness.ravel() / 2
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    squares = np.stack([x, y], axis=1)[:, None] + half[:, None, None] * corners  # (n_pairs, 4, 2)
    drawn = PolyCollection(list(squares), array=mean.ravel(), cmap=DIVERGING, edgecolors="none")
    drawn.set_clim(-1, 1)
    ax.add_collection(drawn)


def _similar(p_similar: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (p_similar > 0.95) & ~np.eye(len(p_similar), dtype=bool)


def _count_similar(p_similar: NDArray[np.float64]) -> int:
    return int(_similar(p_similar).sum()) // 2


def _mark_similar(ax: Axes, p_similar: NDArray[np.float64]) -> None:
    y, x = np.nonzero(_similar(p_similar))
    size = float(np.clip((72 * ax.get_window_extent().width / ax.figure.dpi / len(p_similar) / 5) ** 2, 0.2, 6))
    ax.scatter(x, y, s=size, color="white", edgecolors=REFERENCE, linewidths=0.2)


def _draw_bar(ax: Axes) -> None:
    bar = ax.inset_axes((0.25, -0.07, 0.5, 0.025))
    shades = ScalarMappable(Normalize(-1, 1), cmap=DIVERGING)
    colorbar = ax.figure.colorbar(shades, cax=bar, orientation="horizontal", ticks=[-1, 0, 1])
    colorbar.set_label("Cosine, posterior mean", fontsize="small")
    colorbar.ax.tick_params(labelsize="small")
    colorbar.ax.grid(False)
