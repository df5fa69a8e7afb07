"""Image crops as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from petri_scvi.pl._axes import inches, outer_legend, text_inches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

CHANNEL_COLOURS = ("#3b7dd8", "#8a8a8a", "#f0a500", "#d4365c", "#3aa655")
"""Blue, grey, orange, magenta and green, which also differ in lightness for readers with red-green colour blindness."""


def intensity_range(images: NDArray[np.number]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Intensities shown as black and as brightest in each channel, for all crops; shapes ``(C, 1, 1)``."""
    low, high = (np.nanpercentile(images, q, axis=(0, 2, 3))[:, None, None] for q in (1, 99.7))
    return low, high


def colour_channels(
    images: NDArray[np.floating],
    scale: tuple[NDArray[np.floating], NDArray[np.floating]],
    colours: Sequence[str],
) -> NDArray[np.floating]:
    """Scaled crops as pictures; shapes ``(n, C, H, W)`` -> ``(n, H, W, 3)``."""
    low, high = scale
    scaled: NDArray[np.floating] = (images - low) / np.maximum(high - low, 1e-6)
    return _colour(scaled, colours)


def draw_montage(ax: Axes, rows: Sequence[NDArray[np.floating]], names: Sequence[str]) -> None:
    """Draw rows of pictures, each of shape ``(n, H, W, 3)``; short rows end in white."""
    n_columns, height = max(len(row) for row in rows), max(row.shape[1] for row in rows)
    full = [np.pad(row, ((0, n_columns - len(row)), (0, 0), (0, 0), (0, 0)), constant_values=1.0) for row in rows]
    ax.imshow(np.concatenate([join_pictures(row) for row in full]), interpolation="nearest")
    ax.set_yticks([i * (height + 1) + (height - 1) / 2 for i in range(len(rows))], names)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def channel_legend(ax: Axes, names: Sequence[str], colours: Sequence[str]) -> None:
    """Name the channels below a montage, in as many columns as fit."""
    written = [name.replace("_", " ") for name in names]
    letter = 0.55 * text_inches()
    n_columns = int(inches(ax)[0] / (letter * (max(map(len, written)) + 5)))
    outer_legend(
        ax,
        handles=[Patch(color=colour, label=name) for name, colour in zip(written, colours, strict=True)],
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=min(max(n_columns, 1), len(written)),
        handlelength=1,
        handleheight=1,
    )


def hide_patches(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """NaN where a patch was masked; shapes ``(n, H, W)`` and ``(n, N)``."""
    return np.where(pixel_mask(mask, *images.shape[1:]), np.nan, images)


def pixel_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Patch mask ``(n, N)`` -> pixel mask ``(n, H, W)``."""
    patch_size = round((height * width / mask.shape[1]) ** 0.5)
    grid = mask.reshape(len(mask), height // patch_size, width // patch_size)
    return grid.repeat(patch_size, axis=1).repeat(patch_size, axis=2)


def _colour(images: NDArray[np.floating], colours: Sequence[str]) -> NDArray[np.floating]:
    """Add up coloured channels, light grey where hidden; shapes ``(n, C, H, W)`` -> ``(n, H, W, 3)``."""
    rgb = np.einsum("nchw,cr->nhwr", np.clip(np.nan_to_num(images), 0, 1), np.array([to_rgb(c) for c in colours]))
    return np.where(np.isnan(images).any(axis=1)[..., None], 0.85, np.clip(rgb, 0, 1))


def join_pictures(pictures: NDArray[np.floating]) -> NDArray[np.floating]:
    """Side by side with a white pixel between; shapes ``(n, H, W, 3)`` -> ``(H + 1, n * (W + 1), 3)``."""
    framed = np.pad(pictures, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    return np.concatenate(list(framed), axis=1)
