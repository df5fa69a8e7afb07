"""Cut crops from fields of view, around the cells of masks or of a table with their centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._checks import check_flags
from petri_scvi.common._channels import find_channels
from petri_scvi.pp.crops._crop_table import Cut, build_crops
from petri_scvi.pp.crops._crop_windows import Cutter, centre_pixels, check_padding, read_size, reading_jobs
from petri_scvi.pp.crops._field_cells import cells_of_masks, cells_of_table, check_table
from petri_scvi.pp.crops._field_planes import ChosenPlanes, MaskPlanes, open_image
from petri_scvi.pp.crops._read_fields import name_channels, read_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from petri_scvi.pp.crops._crop_windows import Padding, Planes
    from petri_scvi.pp.crops._field_planes import Pixels

WHOLE = (2**40, 2**40)
"""Block larger than any field: each field is read whole."""


def crops_from_fields(
    fields: Mapping[str, Pixels | tuple[Pixels, Pixels]] | pd.DataFrame,
    *,
    size: int | tuple[int, int],
    table: pd.DataFrame | None = None,
    field_key: str = "field",
    label_key: str = "label",
    x_key: str | None = None,
    y_key: str | None = None,
    file_keys: Sequence[str] | None = None,
    channels: Sequence[str | int] | None = None,
    channel_names: Sequence[str] | None = None,
    padding: Padding = "zero",
    mask_by_label: bool = False,
    mask_channel: str | int | None = None,
    lazy: bool = False,
) -> AnnData:
    """Cut one crop around each cell of many fields of view.

    Cells are the labels in the mask of each field, or, with ``x_key`` and ``y_key``, the rows of a table with their
    centres. Pixels are copied without resampling: the pixel that contains the centre of a cell becomes pixel
    ``(H // 2, W // 2)`` of its crop.

    Parameters
    ----------
    fields
        Maps the name of each field to its image and mask, ``{"A1": (image, mask)}``, or to its image alone if ``table``
        has the centres, ``{"A1": image}``. An image is a TIFF file of shape ``(C, height, width)``,
        ``(height, width)`` or ``(height, width, C)``, a list of TIFF files with one channel each, or an array. A mask
        is a TIFF file or an array with the label of a cell in each pixel and 0 for background. Instead of a mapping,
        pass a DataFrame with the columns ``image`` and ``mask`` whose index names the fields, or one whose columns
        ``file_keys`` name the files.
    size
        Height and width of a crop in pixels, as one number or two.
    table
        ``obs`` of the cells, which are found by field and label. Cells without a row and rows without a cell are left
        out, with a warning that counts them. If ``None``, all cells of the masks are cut.
    field_key, label_key
        Columns of ``table`` with the field and the label of a cell.
    x_key, y_key
        Columns of ``table`` with the centre of a cell in pixels of its field, used instead of masks. As in
        CellProfiler, scikit-image and SciPy, the middle of the first pixel is at 0. Subtract 0.5 from coordinates
        that start at the corner of the first pixel, such as those of ImageJ and QuPath.
    file_keys
        Columns of ``fields`` that name one file per channel, such as CellProfiler's
        ``["FileName_DNA", "FileName_ER"]``. Their folders are taken from ``PathName_DNA`` and ``PathName_ER`` if these
        columns exist. The fields are then named by the column ``field_key`` of ``fields`` if it exists, and by the
        index otherwise. ``fields`` may be the same DataFrame as ``table``.
    channels
        Names or positions of the channels to cut, in this order; all if ``None``.
    channel_names
        Names of all channels of the images. If ``None``, the ``file_keys`` without ``FileName_``, or else positions.
    padding
        Values beyond the image: ``"zero"``, or ``"reflect"`` to reflect the image without repeating its edge.
    mask_by_label
        Set pixels that do not have the label of the cell to 0. Needs masks.
    mask_channel
        Set pixels to 0 where this channel is 0. The channel is part of the crops only if ``channels`` names it.
    lazy
        Return a dask array that cuts crops when they are read, so that :func:`petri_scvi.io.write_training_store`
        holds one field at a time. Otherwise, return a numpy array.

    Returns
    -------
    AnnData without ``X``. Cells are in the order of the fields and, within a field, sorted by row:

    - ``obsm["single_cell_images"]``: crops, shape ``(n, C, H, W)``, in the dtype of the images
    - ``obsm["spatial"]``: centres (x, y) in pixels of the field; here the first pixel spans 0 to 1
    - ``obs``: the columns of ``table``; ``field_key``; ``label`` if there are masks; ``is_border``, whether the crop
      extends beyond the field; ``crop_top`` and ``crop_left``, the first pixel of the crop in the field
    - ``uns["channel_names"]``

    Raises
    ------
    ImportError
        tifffile, or with ``lazy`` dask, is missing.
    KeyError
        A column is missing.
    TypeError
        An image or a mask is neither a file nor an array.
    ValueError
        Fields differ in channels or dtype, an image and its mask differ in size, a mask does not number its cells, the
        table has columns that files cannot hold, or no cell is found.

    Notes
    -----
    Memory holds one field, its mask and its crops, and all crops unless ``lazy`` is set. Masks are read once more
    beforehand to find the cells.

    Examples
    --------
    >>> fields = {"A1-0": ("A1-0.tif", "A1-0_cells.tif"), "A1-1": ("A1-1.tif", "A1-1_cells.tif")}
    >>> crops = petri_scvi.pp.crops_from_fields(fields, table=calls, size=64, lazy=True)
    >>> petri_scvi.io.write_training_store({"image": crops}, "screen.h5mu")

    With the centres and file names in the tables of CellProfiler:

    >>> nuclei = pandas.read_csv("Nuclei.csv").merge(pandas.read_csv("Image.csv"), on="ImageNumber")
    >>> crops = petri_scvi.pp.crops_from_fields(
    ...     nuclei,
    ...     table=nuclei,
    ...     field_key="ImageNumber",
    ...     x_key="Location_Center_X",
    ...     y_key="Location_Center_Y",
    ...     file_keys=["FileName_DNA", "FileName_ER"],
    ...     size=64,
    ... )
    """
    check_padding(padding)
    check_flags(mask_by_label=mask_by_label, lazy=lazy)
    sides = read_size(size)
    has_masks = _has_masks(x_key, y_key, table, mask_by_label)
    if table is not None:
        check_table(table, label_key if has_masks else "label")
    pairs = read_fields(fields, file_keys, field_key, has_masks=has_masks)
    images = {name: open_image(image, name) for name, (image, _) in pairs.items()}
    names = name_channels(file_keys, _count_channels(images), channel_names)
    positions = find_channels(channels, names, "channels", "fields")
    masks = [] if mask_channel is None else find_channels([mask_channel], names, "mask_channel", "fields")
    if x_key is None or y_key is None or table is None:
        labelled = {name: mask for name, (_, mask) in pairs.items()}
        cells = cells_of_masks(labelled, images, table, field_key, label_key)
    else:
        cells = cells_of_table(images, table, field_key, x_key, y_key)

    cuts, orders = [], []
    for i, (name, (_, mask)) in enumerate(pairs.items()):
        first, last = np.searchsorted(cells.fields, [i, i + 1])
        if first == last:
            continue
        pixels = centre_pixels(cells.centres[first:last])
        planes = ChosenPlanes(images[name], [*positions, *masks])
        own: tuple[Any, Any] = (None, None)
        if mask_by_label and cells.labels is not None:
            own = MaskPlanes(mask, name, images[name].shape), cells.labels[first:last]
        cutter = Cutter(planes, pixels, sides, padding, bool(masks), *own)
        cuts.append(Cut(cutter, reading_jobs(pixels, WHOLE, 1, max_bytes=len(pixels))))
        orders.append(first + cuts[-1].order)
    order = np.concatenate(orders)
    labels = None if cells.labels is None else cells.labels[order]
    spatial = cells.centres[order][:, ::-1]
    return build_crops(cuts, cells.obs.iloc[order], labels, spatial, [names[i] for i in positions], lazy=lazy)


def _has_masks(x_key: str | None, y_key: str | None, table: Any, mask_by_label: bool) -> bool:
    """Whether cells are found in masks rather than listed with their centres."""
    if x_key is None and y_key is None:
        return True
    if x_key is None or y_key is None:
        raise ValueError(f"x_key={x_key!r} and y_key={y_key!r}; pass both columns, or neither to use masks.")
    if table is None:
        raise ValueError(f"x_key={x_key!r} and y_key={y_key!r} are columns of table, which is None. Pass table=...")
    if mask_by_label:
        raise ValueError(
            "mask_by_label=True needs masks, but x_key and y_key replace them. Leave mask_by_label out, or pass masks "
            "instead of x_key and y_key."
        )
    return False


def _count_channels(images: Mapping[str, Planes]) -> int:
    found = {(planes.shape[0], str(planes.dtype)) for planes in images.values()}
    if len(found) > 1:
        raise ValueError(
            f"the images of fields differ in channels or dtype: {sorted(found)}. Cut each kind in a call of its own."
        )
    return found.pop()[0]
