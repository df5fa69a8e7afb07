"""Original, masked and reconstructed crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi.pl._axes import open_axes, plot
from petri_scvi.pl.images._crop_pictures import (
    CHANNEL_COLOURS,
    channel_legend,
    colour_channels,
    draw_montage,
    intensity_range,
    pixel_mask,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from petri_scvi.pl._axes import Save


@plot
def reconstructed_crops(
    images: NDArray[np.number],
    prediction: NDArray[np.floating],
    mask: NDArray[np.bool_],
    *,
    channel_names: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Save = None,
) -> Axes:
    """Draw original, masked and reconstructed crops; one column per cell.

    The third row shows the prediction where patches were masked and the measurement elsewhere; channels that were not
    measured, NaN, are dark in the other rows and predicted in this one.

    Parameters
    ----------
    images
        Crops as measured, shape ``(n, C, H, W)``.
    prediction, mask
        What :meth:`petri_scvi.PETRI.get_reconstruction` returned for these cells.
    channel_names
        Names for the legend.
    colours
        One colour per channel; by default blue, grey, orange, magenta and green in turn.
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
    The axes, with one image of three rows.

    Raises
    ------
    ValueError
        Images, prediction and mask do not belong together.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 4 or images.shape != prediction.shape or len(mask) != len(images):
        raise ValueError(
            f"images {images.shape}, prediction {prediction.shape} and mask {mask.shape} do not belong together; pass "
            "the crops of the cells that were reconstructed, for example images[indices] with the same indices."
        )
    n_cells, n_channels, height, width = images.shape
    hidden = pixel_mask(mask, height, width)[:, None]  # (n, 1, H, W)
    if colours is None:
        colours = [CHANNEL_COLOURS[i % len(CHANNEL_COLOURS)] for i in range(n_channels)]
    predicted = np.where(hidden | np.isnan(images), prediction, images)
    is_missing = np.isnan(images).all(axis=(0, 2, 3), keepdims=True)  # (1, C, 1, 1)
    scale = intensity_range(np.where(is_missing, prediction, images))
    images = np.where(is_missing, scale[0], images)
    rows = [images, np.where(hidden, np.nan, images), predicted]
    pictures = [colour_channels(row, scale, colours) for row in rows]
    names = [str(i) for i in range(n_channels)] if channel_names is None else list(channel_names)
    with open_axes(ax, max(3.0, 0.7 * n_cells + 1.0), 2.8) as ax:
        draw_montage(ax, pictures, ["original", "masked", "reconstructed"])
        channel_legend(ax, names, colours)
    return ax
