"""Example crops of groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from petri_scvi._constants import IMAGE, IMAGES_KEY
from petri_scvi.pl._axes import open_axes, plot

from ._montage import choose_crops, montage_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from petri_scvi.pl._axes import Save


@plot
def crops(
    data: AnnData | MuData,
    group_key: str = "perturbation",
    *,
    groups: Sequence[str] | None = None,
    n_per_group: int = 8,
    channels: Sequence[str | int] | None = None,
    modality: str = IMAGE,
    images_key: str = IMAGES_KEY,
    seed: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Draw a montage of image crops, one row per group of cells, with channels as colours.

    Parameters
    ----------
    data
        Cells with images, or a MuData with such a modality.
    group_key
        ``obs`` column of the group.
    groups
        Groups to draw, from top to bottom; by default the ten with the most cells.
    n_per_group
        Cells per group, drawn at random; fewer if the group has fewer.
    channels
        Up to five channels, by name or position; by default the first five. The legend names them.
    modality
        Modality of a MuData that has the images.
    images_key
        ``obsm`` slot of the crops, shape ``(n_cells, C, H, W)``, in memory or on disk. Only crops that are drawn are
        read.
    seed
        Seed of the choice of cells.
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
    The axes. Each channel is black at the 1 % and bright at the 99.7 % quantile of all crops drawn, so that groups can
    be compared.

    Raises
    ------
    KeyError
        The modality, the slot or the column is missing.
    ValueError
        There are no such groups or channels, or the slot holds no crops.
    """
    montage = choose_crops(
        data,
        group_key,
        groups=groups,
        n_per_group=n_per_group,
        channels=channels,
        modality=modality,
        images_key=images_key,
        seed=seed,
    )
    with open_axes(ax, *montage_size(len(montage.groups), n_per_group)) as ax:
        montage.draw(ax)
    return ax
