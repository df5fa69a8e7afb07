"""Which channels of image crops a training store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from petri_scvi._checks import check_images
from petri_scvi.common._channels import channel_names, find_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

MASK = "mask"


def choose_channels(
    tables: Sequence[AnnData],
    places: Sequence[str],
    images_key: str,
    image_channels: Sequence[str | int] | None,
) -> list[list[int]]:
    """Positions of the channels to keep in each table.

    Parameters
    ----------
    tables
        Tables of one modality, which may hold their channels in different orders.
    places
        How a user would write each.
    images_key
        Slot of the crops.
    image_channels
        Names or positions; all channels but masks if ``None``.

    Raises
    ------
    ValueError
        A channel is missing, or the images differ in anything but the order of their channels.
    """
    shapes = set()
    for table, place in zip(tables, places, strict=True):
        images = table.obsm[images_key]
        check_images(images, f"{place}.obsm[{images_key!r}]", table)
        shapes.add((*map(int, images.shape[2:]), str(np.dtype(images.dtype))))
    if len(shapes) > 1:
        raise ValueError(
            f"obsm[{images_key!r}] of {', '.join(places)} differs in height, width or dtype: {sorted(shapes)}. Cut the "
            "crops of all files at one size and keep them in one dtype."
        )
    known = [
        channel_names(table, table.obsm[images_key].shape[1], place)
        for table, place in zip(tables, places, strict=True)
    ]
    wanted = _without_masks(tables[0], known[0], places[0]) if image_channels is None else image_channels
    positions = [
        find_channels(wanted, names, "image_channels", place) for names, place in zip(known, places, strict=True)
    ]
    kept = {tuple(names[i] for i in found) for names, found in zip(known, positions, strict=True)}
    if len(kept) > 1:
        raise ValueError(f"image_channels={wanted} are other channels in each file: {sorted(kept)}. Pass their names.")
    return positions


def _without_masks(table: AnnData, names: list[str], place: str) -> list[str | int]:
    if "channel_mapping" not in table.var or len(table.var) != len(names):
        return list(names)
    is_mask = (table.var["channel_mapping"].astype(str) == MASK).to_numpy()
    if is_mask.all():
        raise ValueError(
            f"all channels of {place} are masks: {names}. Name those to keep with image_channels, for example "
            f"image_channels={names[:1]}."
        )
    return [name for name, is_left_out in zip(names, is_mask, strict=True) if not is_left_out]
