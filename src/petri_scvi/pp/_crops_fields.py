"""Cut crops out of a folder of fields: one image and one label mask each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from petri_scvi._checks import require
from petri_scvi.pp._crop_table import Cut, build_crops, check_new_columns, match_cells
from petri_scvi.pp._crop_windows import (
    ArrayPlanes,
    Cutter,
    Planes,
    centre_pixels,
    check_padding,
    find_channels,
    read_size,
    reading_jobs,
)
from petri_scvi.pp._label_centres import check_labels, label_centres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.pp._crop_windows import Padding, Span

Pixels: TypeAlias = "str | os.PathLike[str] | NDArray[Any] | Sequence[str | os.PathLike[str]]"
"""A TIFF file, an array, or one TIFF file per channel."""
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
    >>> petri_scvi.pp.write_training_store({"image": crops}, "screen.h5mu")
    """
    check_padding(padding)
    sides = read_size(size)
    pairs = _read_pairs(fields)
    images = {name: _open_image(image, name) for name, (image, _) in pairs.items()}
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


class TiffPlanes(Planes):
    """All channels of one field in TIFF files, of which a read takes the whole."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.paths = list(paths)
        heads = [_read_head(path) for path in self.paths]
        if len(set(heads)) > 1 or (len(heads) > 1 and len(heads[0][0]) > 2):
            raise ValueError(
                f"fields[{name!r}]: one file per channel must hold one plane each, all alike; found {heads}. Pass "
                "files of one channel, or one file with all."
            )
        shape, dtype = heads[0]
        self.axis = _channel_axis(shape, name)
        if self.axis is None:
            shape = (len(self.paths), *shape)
        elif self.axis == 2:
            shape = (shape[2], *shape[:2])
        super().__init__((int(shape[0]), int(shape[1]), int(shape[2])), np.dtype(dtype))

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        tifffile = require("tifffile", "fields")
        read = [np.asarray(tifffile.imread(path)).squeeze() for path in self.paths]
        pixels = np.stack(read) if self.axis is None else np.moveaxis(read[0], self.axis, 0)
        return pixels[:, slice(*rows), slice(*columns)].astype(self.dtype, copy=False)


class ChosenPlanes(Planes):
    """Some channels of a field."""

    def __init__(self, planes: Planes, positions: Sequence[int]) -> None:
        super().__init__((len(positions), *planes.shape[1:]), planes.dtype)
        self.planes, self.positions = planes, list(positions)

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        return self.planes.read(rows, columns)[self.positions]


class MaskPlanes(Planes):
    """Labels of one field."""

    def __init__(self, mask: Any, name: str, shape: tuple[int, int, int]) -> None:
        super().__init__((1, *shape[1:]), np.int64)
        self.mask, self.name = mask, name

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        return _read_mask(self.mask, self.name, self.shape)[None, slice(*rows), slice(*columns)]


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


def _open_image(image: Any, name: str) -> Planes:
    paths = image if isinstance(image, list | tuple) else [image]
    if paths and all(isinstance(path, str | os.PathLike) for path in paths):
        return TiffPlanes([Path(path) for path in paths], name)
    if not hasattr(image, "dtype"):
        raise TypeError(
            f"fields[{name!r}]: the image is a {type(image).__name__}; expected a TIFF file, a list of TIFF files with "
            "one channel each, or an array: numpy.asarray(image)."
        )
    array = image
    axis = _channel_axis(array.shape, name)
    array = array[None] if axis is None else np.moveaxis(array, axis, 0)
    return ArrayPlanes(array, range(array.shape[0]))


def _read_head(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape without axes of length 1, and dtype, without reading pixels."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    with require("tifffile", "fields").TiffFile(path) as file:
        series = file.series[0]
        return tuple(n for n in series.shape if n > 1), str(series.dtype)


def _channel_axis(shape: Sequence[int], name: str) -> int | None:
    """Axis of the channels: the first, or the last if that is the shortest and the first is not."""
    if len(shape) == 2:
        return None
    if len(shape) != 3:
        raise ValueError(
            f"fields[{name!r}]: the image has shape {tuple(shape)}; expected (C, height, width), (height, width, C) or "
            "(height, width). Choose one plane of a stack first, or project it."
        )
    return 2 if shape[2] < min(shape[:2]) else 0


def _read_mask(mask: Any, name: str, shape: tuple[int, int, int]) -> NDArray[Any]:
    is_file = isinstance(mask, str | os.PathLike)
    if not is_file and not hasattr(mask, "dtype"):
        raise TypeError(
            f"fields[{name!r}]: the mask is a {type(mask).__name__}; expected a TIFF file or an array: "
            "numpy.asarray(mask)."
        )
    if is_file and not Path(mask).exists():
        raise FileNotFoundError(f"{mask} does not exist.")
    labels = np.asarray(require("tifffile", "fields").imread(mask)) if is_file else np.asarray(mask)
    if labels.shape != shape[1:]:
        raise ValueError(
            f"fields[{name!r}]: the mask has shape {labels.shape}, the image {shape} as (C, height, width). Both need "
            "the same height and width."
        )
    check_labels(labels.dtype, f"the mask of fields[{name!r}]")
    return labels.astype(np.int64, copy=False)


def _field_centres(mask: Any, name: str, shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return label_centres([(0, 0, _read_mask(mask, name, shape))])


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
    for key in (field_key, label_key):
        if key not in table:
            raise KeyError(
                f"table has no column {key!r}; it has {list(table.columns)}. Name it with field_key or label_key."
            )
    check_new_columns(list(table.columns), "table", label_key)
    rows = pd.MultiIndex.from_arrays([table[field_key].astype(str), table[label_key]])
    kept, found = match_cells(cells, rows, "fields", "table", stacklevel=4)
    return kept, table.iloc[found]
