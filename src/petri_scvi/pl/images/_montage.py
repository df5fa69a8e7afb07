"""Choose the crops to draw, and read only these."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from petri_scvi._checks import check_sizes, crops_of
from petri_scvi._constants import IMAGE, IMAGES_KEY
from petri_scvi.common._channels import channel_names, find_channels
from petri_scvi.common._labels import as_text, label_list

from ._crop_pictures import CHANNEL_COLOURS, channel_legend, colour_channels, draw_montage, intensity_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MAX_GROUPS = 10
"""Number of groups that are drawn by default."""


@dataclass(frozen=True)
class Montage:
    """Example cells of each group, ``rows`` in the imaging modality, and how to draw them."""

    adata: AnnData
    images: Any
    rows: dict[str, NDArray[np.intp]]
    n_groups: int
    is_chosen: bool
    channels: list[int]
    channel_names: list[str]

    @property
    def groups(self) -> list[str]:
        """Names of the groups, from top to bottom."""
        return list(self.rows)

    def pictures(self, scale: tuple[NDArray[np.floating], NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
        """Crops of each group in colours, shape ``(n, H, W, 3)``."""
        colours = self.colours()
        return {
            group: colour_channels(read_rows(self.images, rows)[:, self.channels], scale, colours)
            for group, rows in self.rows.items()
        }

    def draw(self, ax: Axes) -> None:
        """Read the chosen crops and draw them, one row per group."""
        crops = {group: read_rows(self.images, rows)[:, self.channels] for group, rows in self.rows.items()}
        scale = intensity_range(np.concatenate(list(crops.values())))
        colours = self.colours()
        draw_montage(ax, [colour_channels(images, scale, colours) for images in crops.values()], self.groups)
        channel_legend(ax, self.channel_names, colours)
        if not self.is_chosen and len(self.rows) < self.n_groups:
            ax.set_title(f"the largest {len(self.rows)} of {self.n_groups} groups", fontsize="small")

    def colours(self) -> list[str]:
        """Colour of each channel, which does not depend on the other channels as long as there are enough colours."""
        if self.images.shape[1] <= len(CHANNEL_COLOURS):
            return [CHANNEL_COLOURS[channel] for channel in self.channels]
        return list(CHANNEL_COLOURS[: len(self.channels)])


def choose_crops(
    data: AnnData | MuData,
    group_key: str,
    *,
    groups: Sequence[str] | None,
    n_per_group: int,
    channels: Sequence[str | int] | None,
    modality: str,
    images_key: str,
    seed: int,
) -> Montage:
    """Check the arguments of :func:`petri_scvi.pl.crops` and choose cells; no image is read."""
    check_sizes(n_per_group=n_per_group)
    adata, images = crops_of(data, modality, images_key)
    if group_key not in adata.obs:
        raise KeyError(f"group_key={group_key!r} is not a column of obs; it has {list(adata.obs.columns)}")
    labels = as_text(adata.obs[group_key])
    rows_of = {str(group): np.asarray(rows, dtype=np.intp) for group, rows in labels.groupby(labels).indices.items()}
    names = _groups_to_draw(adata.obs[group_key], rows_of, groups, group_key)
    # A seed per group: which cells are drawn does not depend on the other groups.
    rngs = {name: np.random.default_rng([seed, *name.encode()]) for name in names}
    rows = {
        name: np.sort(rngs[name].choice(rows_of[name], size=min(n_per_group, len(rows_of[name])), replace=False))
        for name in names
    }
    positions, channel_names = _channels_to_draw(adata, int(images.shape[1]), channels)
    return Montage(adata, images, rows, len(rows_of), groups is not None, positions, channel_names)


def find_crops(
    data: AnnData | MuData, *, channels: Sequence[str | int] | None, modality: str, images_key: str
) -> tuple[AnnData, Any, list[int], list[str]] | None:
    """Imaging modality, crops, and positions and names of the channels; ``None`` if there are no images at all."""
    adata = data.mod.get(modality) if isinstance(data, MuData) else data
    is_default = (modality, images_key) == (IMAGE, IMAGES_KEY)
    if is_default and (adata is None or images_key not in adata.obsm):
        return None
    adata, images = crops_of(data, modality, images_key)
    return adata, images, *_channels_to_draw(adata, int(images.shape[1]), channels)


def montage_size(n_groups: int, n_per_group: int) -> tuple[float, float]:
    """Width and height of a figure, in inches."""
    return max(3.0, 0.7 * n_per_group + 1.3), 0.7 * n_groups + 0.6


def _groups_to_draw(
    column: pd.Series, rows_of: dict[str, NDArray[np.intp]], groups: Sequence[str] | None, group_key: str
) -> list[str]:
    """The chosen groups, or the largest ones in the order of the column."""
    if not rows_of:
        raise ValueError(f"obs[{group_key!r}] is missing for all {len(column)} cells; name a column with groups")
    if groups is not None:
        chosen = label_list(groups, "groups") if len(groups) else []
        unknown = [group for group in chosen if group not in rows_of]
        if unknown or not chosen:
            raise ValueError(
                f"groups={unknown or chosen} have no cell in obs[{group_key!r}]; pass some of {list(rows_of)[:20]}"
            )
        return list(dict.fromkeys(chosen))
    is_category = isinstance(column.dtype, pd.CategoricalDtype)
    every = as_text(pd.Series(column.cat.categories)) if is_category else sorted(rows_of, key=natural)
    order = [group for group in every if group in rows_of]
    largest = sorted(order, key=lambda group: -len(rows_of[group]))[:MAX_GROUPS]
    return [group for group in order if group in largest]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts G2 before G10, as anndata orders the categories of a column that it writes."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _channels_to_draw(
    adata: AnnData, n_channels: int, channels: Sequence[str | int] | None
) -> tuple[list[int], list[str]]:
    """Positions and names of the channels; by default as many as there are colours."""
    names = channel_names(adata, n_channels, "the imaging modality")
    wanted = range(min(n_channels, len(CHANNEL_COLOURS))) if channels is None else channels
    positions = find_channels(wanted, names, "channels", "the imaging modality")
    if len(positions) > len(CHANNEL_COLOURS):
        raise ValueError(f"channels={list(wanted)} are {len(positions)}; pass 1 to {len(CHANNEL_COLOURS)} of {names}")
    return positions, [names[position] for position in positions]


def read_rows(images: Any, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Some crops of an array in memory or on disk, shape ``(len(rows), C, H, W)``."""
    if hasattr(images, "compute"):  # dask: all rows at once and in order, so that no block is read twice
        unique, place = np.unique(rows, return_inverse=True)
        return np.asarray(images[unique].compute(), dtype=np.float32)[place]
    return np.stack([np.asarray(images[int(row)], dtype=np.float32) for row in rows])
