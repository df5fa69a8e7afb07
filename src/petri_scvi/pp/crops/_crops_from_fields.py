"""Cut crops out of a folder of fields: one image and one label mask each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_flags, find_channels
from petri_scvi.pp.crops._crop_table import Cut, build_crops, check_new_columns, match_cells
from petri_scvi.pp.crops._crop_windows import Cutter, centre_pixels, check_padding, read_size, reading_jobs
from petri_scvi.pp.crops._field_planes import ChosenPlanes, MaskPlanes, open_image, read_mask
from petri_scvi.pp.crops._label_centres import label_centres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.pp.crops._crop_windows import Padding, Planes
    from petri_scvi.pp.crops._field_planes import Pixels

WHOLE = (2**40, 2**40)
"""Block that no field exceeds: a field is read in one piece."""


def crops_from_fields(
    fields: Mapping[str, tuple[Pixels, Pixels]] | pd.DataFrame,
    *,
    size: int | tuple[int, int],
    table: pd.DataFrame | None = None,
    field_key: str = "field",
    label_key: str = "label",
    channels: Sequence[str | int] | None = None,
    channel_names: Sequence[str] | None = None,
    padding: Padding = "zero",
    mask_by_label: bool = False,
    mask_channel: str | int | None = None,
    lazy: bool = False,
) -> AnnData:
    """Cut one crop around each cell of many fields, each an image and a label mask.

    Pixels are copied as they are: the pixel that the centroid of a cell lies in is pixel ``(H // 2, W // 2)`` of its
    crop.

    Parameters
    ----------
    fields
        Name of each field to its image and its mask, or a table with columns ``image`` and ``mask`` whose index names
        the fields. An image is a TIFF file of shape ``(C, height, width)``, ``(height, width)`` or
        ``(height, width, C)``, a list of files with one channel each, or an array. A mask has the label of a cell in
        each pixel, 0 for background.
    size
        Pixels of a crop: one number, or height and width.
    table
        ``obs`` of the cells, found by their field and label. Cells without a row and rows without a cell are left out,
        with a warning that counts them. If ``None``, all cells are cut.
    field_key, label_key
        Columns of ``table`` with the field and the label of a cell.
    channels
        Names or positions of the channels to cut, in this order; all if ``None``.
    channel_names
        Names of all channels of the images; their positions if ``None``.
    padding
        What lies beyond the image: zeros, or the image reflected, the pixel at its border not repeated.
    mask_by_label
        Set pixels that do not have the label of the cell to 0.
    mask_channel
        Set pixels where this channel is 0 to 0; it is in the crops only if ``channels`` names it.
    lazy
        Return crops as a dask array that cuts them when they are read: for :func:`write_training_store`, which then
        holds one field at a time. Otherwise a numpy array.

    Returns
    -------
    AnnData without ``X``, with cells in the order of the fields, in rows from the top of each:

    - ``obsm["single_cell_images"]``: crops, shape ``(n, C, H, W)``, in the dtype of the images
    - ``obsm["spatial"]``: centroids as x, y in pixels of the field
    - ``obs``: that of ``table``; ``field_key``; ``label``; ``is_border``, whether the crop reaches beyond the field;
      ``crop_top``, ``crop_left``, the first pixel of the crop in the field
    - ``uns["channel_names"]``

    Raises
    ------
    ImportError
        tifffile, or with ``lazy`` dask, is missing.
    KeyError
        A column is missing.
    TypeError
        An image or a mask is neither files nor an array.
    ValueError
        Fields do not fit together, or no cell is found.

    Notes
    -----
    Memory: one field, its mask and its crops, and, unless ``lazy``, all crops. Masks are read once before.

    Examples
    --------
    >>> fields = {"A1-0": ("A1-0.tif", "A1-0_cells.tif"), "A1-1": ("A1-1.tif", "A1-1_cells.tif")}
    >>> crops = petri_scvi.pp.crops_from_fields(fields, table=calls, size=64, lazy=True)
    >>> petri_scvi.io.write_training_store({"image": crops}, "screen.h5mu")
    """
    check_padding(padding)
    check_flags(mask_by_label=mask_by_label, lazy=lazy)
    sides = read_size(size)
    pairs = _read_pairs(fields)
    images = {name: open_image(image, name) for name, (image, _) in pairs.items()}
    names = _channel_names(images, channel_names)
    positions = find_channels(channels, names, "channels", "fields")
    masks = [] if mask_channel is None else find_channels([mask_channel], names, "mask_channel", "fields")

    found = {name: _field_centres(mask, name, images[name].shape) for name, (_, mask) in pairs.items()}
    cells = pd.MultiIndex.from_arrays(
        [
            np.repeat(list(found), [len(labels) for labels, _ in found.values()]),
            np.concatenate([labels for labels, _ in found.values()]),
        ],
        names=[field_key, label_key],
    )
    kept, obs = _join(cells, table, field_key, label_key)
    cuts, orders, starts = [], [], np.cumsum([0, *(len(labels) for labels, _ in found.values())])
    centres = np.concatenate([centres for _, centres in found.values()])
    labels = cells.get_level_values(1).to_numpy()
    for i, (name, (_, mask)) in enumerate(pairs.items()):
        first, last = np.searchsorted(kept, starts[i : i + 2])
        here = kept[first:last]
        if not len(here):
            continue
        pixels = centre_pixels(centres[here])
        planes = ChosenPlanes(images[name], [*positions, *masks])
        own = MaskPlanes(mask, name, images[name].shape) if mask_by_label else None
        cutter = Cutter(planes, pixels, sides, padding, bool(masks), own, labels[here] if mask_by_label else None)
        jobs = reading_jobs(pixels, WHOLE, 1, max_bytes=len(pixels))
        cuts.append(Cut(cutter, jobs))
        orders.append(first + cuts[-1].order)
    order = np.concatenate(orders)
    chosen = [names[i] for i in positions]
    spatial = centres[kept][order][:, ::-1]
    return build_crops(cuts, obs.iloc[order], labels[kept][order], spatial, chosen, lazy=lazy)


def _read_pairs(fields: Any) -> dict[str, tuple[Any, Any]]:
    if isinstance(fields, pd.DataFrame):
        missing = [key for key in ("image", "mask") if key not in fields]
        if missing:
            raise KeyError(f"fields lacks columns {missing}; it has {list(fields.columns)}. Name the files in them.")
        if not fields.index.is_unique:
            raise ValueError("the index of fields is not unique. Give each field a name of its own.")
        rows = zip(fields.index, fields["image"], fields["mask"], strict=True)
        pairs = {str(name): (image, mask) for name, image, mask in rows}
    elif isinstance(fields, Mapping):
        # An array would be taken apart, and its first two channels for an image and a mask.
        pairs = {str(name): tuple(pair) if isinstance(pair, list | tuple) else (pair,) for name, pair in fields.items()}
    else:
        raise TypeError(
            f"fields is a {type(fields).__name__}; expected a mapping such as {{'A1-0': ('A1-0.tif', 'cells.tif')}} "
            "or a DataFrame with columns image and mask."
        )
    wrong = [name for name, pair in pairs.items() if len(pair) != 2]
    if wrong or not pairs:
        raise ValueError(f"fields={wrong or 'empty'}; each field needs an image and a mask: {{name: (image, mask)}}.")
    return pairs


def _field_centres(mask: Any, name: str, shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return label_centres([(0, 0, read_mask(mask, name, shape))])


def _channel_names(images: Mapping[str, Planes], channel_names: Sequence[str] | None) -> list[str]:
    found = {(planes.shape[0], str(planes.dtype)) for planes in images.values()}
    if len(found) > 1:
        raise ValueError(
            f"the images of fields differ in channels or dtype: {sorted(found)}. Cut fields that are alike in one call."
        )
    n_channels = found.pop()[0]
    if channel_names is None:
        return [str(i) for i in range(n_channels)]
    if isinstance(channel_names, str) or len(channel_names) != n_channels:
        raise ValueError(f"channel_names={channel_names!r}; the images have {n_channels} channels. Name each of them.")
    return [str(name) for name in channel_names]


def _join(
    cells: pd.MultiIndex, table: pd.DataFrame | None, field_key: str, label_key: str
) -> tuple[NDArray[np.integer], pd.DataFrame]:
    """Positions of the cells to cut, ascending, and their ``obs``."""
    if not len(cells):
        raise ValueError("fields have no cell: all pixels of all masks are 0.")
    if table is None:
        obs = pd.DataFrame({field_key: cells.get_level_values(0)}, index=[f"{field}:{label}" for field, label in cells])
        return np.arange(len(cells)), obs
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table is a {type(table).__name__}; expected a DataFrame with a row per cell: pandas.DataFrame(...)."
        )
    for key in (field_key, label_key):
        if key not in table:
            raise KeyError(
                f"table has no column {key!r}; it has {list(table.columns)}. Name it with field_key or label_key."
            )
    check_new_columns(list(table.columns), "table", label_key)
    rows = pd.MultiIndex.from_arrays([table[field_key].astype(str), table[label_key]])
    kept, found = match_cells(cells, rows, "fields", "table", stacklevel=4)
    return kept, table.iloc[found]
