"""A UMAP of cells next to example crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.transforms import ScaledTranslation
from mudata import MuData

from petri_scvi._constants import IMAGE, IMAGES_KEY
from petri_scvi.common import rows_in_mdata
from petri_scvi.common._labels import as_text
from petri_scvi.pl._axes import has_frame, is_rasterized, new_figure, plot
from petri_scvi.pl._colours import BACKGROUND, group_colours

from ._montage import choose_crops, montage_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save

    from ._montage import Montage


@plot
def umap_crops(
    data: AnnData | MuData,
    group_key: str = "perturbation",
    *,
    basis: str = "X_umap",
    groups: Sequence[str] | None = None,
    n_per_group: int = 6,
    channels: Sequence[str | int] | None = None,
    modality: str = IMAGE,
    seed: int = 0,
    axes: tuple[Axes, Axes] | None = None,
    show: bool | None = None,
    save: Save = None,
) -> tuple[Axes, Axes]:
    """Draw a UMAP of cells next to example crops of the same groups, in the same colours.

    Parameters
    ----------
    data
        Cells with images in ``obsm["single_cell_images"]``, or a MuData with such a modality.
    group_key
        ``obs`` column of the group; in a MuData, of each modality that has it.
    basis
        ``obsm`` slot of the two coordinates, of the MuData or of the imaging modality.
    groups, n_per_group, channels, modality, seed
        As in :func:`petri_scvi.pl.crops`.
    axes
        Two axes to draw on, for the UMAP and the crops; a new figure if ``None``.
    show
        Display the figure and return ``None``. By default a new figure is displayed as ``sc.settings.autoshow`` says.
    save
        File to write. As in scanpy, ``True`` and a string such as ``"_a.pdf"`` write to ``sc.settings.figdir``, under
        the name of the function and this suffix; a path with a folder or a :class:`pathlib.Path` is taken as it is. By
        default a new figure is written as ``sc.settings.autosave`` says.

    Returns
    -------
    Both axes. Colours are those of ``uns[f"{group_key}_colors"]`` where present. Cells of other groups are grey, and
    those whose crops are drawn have a black ring.

    Raises
    ------
    KeyError
        The modality, a slot or the column is missing.
    ValueError
        There are no such groups or channels, or the slot has fewer than two dimensions.
    """
    montage = choose_crops(
        data,
        group_key,
        groups=groups,
        n_per_group=n_per_group,
        channels=channels,
        modality=modality,
        images_key=IMAGES_KEY,
        seed=seed,
    )
    points, labels, shown = _points(data, montage, basis, group_key)
    colour_of = group_colours(montage.groups, group_key, data, montage.adata)
    if axes is not None:
        _draw_both(axes, montage, points, labels, shown, colour_of)
        return axes
    width, height = montage_size(len(montage.groups), n_per_group)
    with new_figure(3.8 + width, max(3.8, height)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3.8, width))
        _draw_both((left, right), montage, points, labels, shown, colour_of)
    return left, right


def _points(
    data: AnnData | MuData, montage: Montage, basis: str, group_key: str
) -> tuple[NDArray[np.floating], NDArray[Any], NDArray[np.intp]]:
    """Coordinates and group of all cells, and the rows of those whose crops are drawn."""
    owner = data if basis in data.obsm else montage.adata
    if basis not in owner.obsm:
        found = sorted(set(data.obsm) | set(owner.obsm))
        raise KeyError(f"basis={basis!r} is not in obsm, which has {found}. Call scanpy.tl.umap first.")
    points = np.asarray(owner.obsm[basis], dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"obsm[{basis!r}] has shape {points.shape}; expected two coordinates per cell")
    rows = np.concatenate(list(montage.rows.values()))
    if not isinstance(owner, MuData):
        return points, as_text(owner.obs[group_key]).to_numpy(), rows
    labels = np.full(owner.n_obs, None, dtype=object)
    for name, adata in owner.mod.items():
        place = rows_in_mdata(owner, name)
        if group_key in adata.obs:
            labels[place] = as_text(adata.obs[group_key]).to_numpy()
        if adata is montage.adata:
            rows = place[rows]
    return points, labels, rows


def _draw_both(
    axes: tuple[Axes, Axes],
    montage: Montage,
    points: NDArray[np.floating],
    labels: NDArray[Any],
    shown: NDArray[np.intp],
    colour_of: dict[str, str],
) -> None:
    left, right = axes
    names = np.array([str(label) for label in labels])
    is_grouped = np.isin(names, list(colour_of))
    size = float(np.clip(20000 / len(points), 1, 25))
    _scatter(left, points[~is_grouped], [BACKGROUND], s=size, linewidths=0, rasterized=is_rasterized())
    # In random order, so that no group covers the others.
    rows = np.random.default_rng(0).permutation(np.flatnonzero(is_grouped))
    colours = [colour_of[name] for name in names[rows]]
    _scatter(left, points[rows], colours, s=1.5 * size, linewidths=0, rasterized=is_rasterized())
    colours = [colour_of[name] for name in names[shown]]
    _scatter(left, points[shown], colours, s=4 * size, linewidths=0.8, edgecolors="black")
    left.set(xticks=[], yticks=[], xlabel="UMAP1", ylabel="UMAP2")
    left.grid(False)
    if not has_frame():
        left.axis("off")
    montage.draw(right)
    right.tick_params(axis="y", pad=16)
    marks = np.column_stack([np.zeros(len(montage.groups)), right.get_yticks()])
    colours = [colour_of[group] for group in montage.groups]
    beside = right.get_yaxis_transform() + ScaledTranslation(-9 / 72, 0, right.figure.dpi_scale_trans)
    _scatter(right, marks, colours, s=40, clip_on=False, transform=beside)


def _scatter(ax: Axes, points: NDArray[np.floating], colours: Sequence[str], **style: Any) -> None:
    ax.scatter(points[:, 0], points[:, 1], c=[to_rgb(colour) for colour in colours], **style)
