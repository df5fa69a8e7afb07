"""Cut crops from the images of a SpatialData object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_flags, check_sizes, require
from petri_scvi.common._channels import find_channels
from petri_scvi.common._storable import check_table
from petri_scvi.pp.crops._crop_table import Cut, build_crops, check_new_columns, inside_image, match_cells
from petri_scvi.pp.crops._crop_windows import (
    ArrayPlanes,
    Cutter,
    block_shape,
    centre_pixels,
    check_padding,
    iterate_blocks,
    read_size,
    reading_jobs,
)
from petri_scvi.pp.crops._label_centres import check_labels, label_centres
from petri_scvi.pp.crops._spatial_elements import (
    LabelPlanes,
    affine_between,
    channel_labels,
    check_axis_aligned,
    find_element,
    matrix_to,
    raster_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from petri_scvi.pp.crops._crop_windows import Padding


def crops_from_spatialdata(
    sdata: SpatialData | str | os.PathLike[str],
    *,
    image: str,
    labels: str | None = None,
    shapes: str | None = None,
    points: str | None = None,
    table: str | None = None,
    size: int | tuple[int, int],
    scale: str = "scale0",
    labels_scale: str = "scale0",
    coordinate_system: str = "global",
    channels: Sequence[str | int] | None = None,
    padding: Padding = "zero",
    mask_by_label: bool = False,
    mask_channel: str | int | None = None,
    block_size: int = 2048,
    lazy: bool = False,
) -> AnnData:
    """Cut one crop around each cell of a SpatialData object.

    Images and labels are read block by block, so that they need not fit into memory. Pixels are copied without
    resampling: the pixel that contains the centroid of a cell becomes pixel ``(H // 2, W // 2)`` of its crop.

    Parameters
    ----------
    sdata
        SpatialData object, or the path of its zarr store.
    image
        Name of the image, with axes ``c``, ``y``, ``x``.
    labels
        Name of the labels that mark the cells; 0 is background.
    shapes
        Name of the polygons or circles that mark the cells, used instead of labels.
    points
        Name of the points at the centres of the cells, used instead of labels or shapes. The table refers to points by
        their ``instance_key`` if they were parsed with one, and by their index otherwise.
    table
        Name of the table with the ``obs`` of the cells. Cells without a row and rows without a cell are left out, with
        a warning that counts them. If ``None``, all cells are cut, and ``obs`` has only the columns listed below.
    size
        Height and width of a crop in pixels at ``scale``, as one number or two.
    scale
        Resolution of the image that is cut. An image with a single resolution has ``"scale0"``.
    labels_scale
        Resolution of the labels from which centroids and masks are taken.
    coordinate_system
        Coordinate system in which image and cells are aligned. They may differ in scale, offset and mirroring.
    channels
        Names or positions of the channels to cut, in this order; all if ``None``.
    padding
        Values beyond the image: ``"zero"``, or ``"reflect"`` to reflect the image without repeating its edge.
    mask_by_label
        Set pixels that do not have the label of the cell to 0. Needs ``labels``.
    mask_channel
        Set pixels to 0 where this channel is 0. The channel is part of the crops only if ``channels`` names it.
    block_size
        Height and width of a block in pixels, rounded up to whole chunks of the stored image.
    lazy
        Return a dask array that cuts crops when they are read, so that :func:`petri_scvi.io.write_training_store`
        never holds all of them. Otherwise, return a numpy array.

    Returns
    -------
    AnnData without ``X``. Cells are sorted by block and, within a block, by row:

    - ``obsm["single_cell_images"]``: crops, shape ``(n, C, H, W)``, in the dtype of the image
    - ``obsm["spatial"]``: centroids (x, y) in ``coordinate_system``
    - ``obs``: the columns of ``table``; ``label``; ``is_border``, whether the crop extends beyond the image;
      ``crop_top`` and ``crop_left``, the first pixel of the crop in the image
    - ``uns["channel_names"]``

    Raises
    ------
    ImportError
        spatialdata is missing.
    KeyError
        An element, scale or coordinate system is missing.
    TypeError
        ``sdata`` is not a SpatialData object.
    ValueError
        An element cannot be used, image and cells are rotated or sheared relative to each other, a label marks many
        cells, or no cell is found.

    Notes
    -----
    Memory holds a block of all channels and labels, 64 MB of crops, and all crops unless ``lazy`` is set.

    Examples
    --------
    >>> crops = petri_scvi.pp.crops_from_spatialdata(
    ...     "screen.zarr", image="stains", labels="cells", table="guides", size=64, lazy=True
    ... )
    >>> petri_scvi.io.write_training_store({"image": crops}, "screen.h5mu")
    """
    kind, name = _choose_cells({"labels": labels, "shapes": shapes, "points": points}, labels_scale, mask_by_label)
    check_padding(padding)
    check_sizes(block_size=block_size)
    check_flags(mask_by_label=mask_by_label, lazy=lazy)
    sides = read_size(size)
    spatialdata = require("spatialdata", "spatial")
    if isinstance(sdata, str | os.PathLike):
        sdata = spatialdata.read_zarr(os.path.expanduser(sdata))
    if not isinstance(sdata, spatialdata.SpatialData):
        raise TypeError(
            f"sdata is a {type(sdata).__name__}; expected a SpatialData object or the path of its zarr store. To cut "
            "crops from TIFF files or arrays, use petri_scvi.pp.crops_from_fields."
        )
    raster = raster_at(find_element(sdata, "images", image), scale, f"images[{image!r}]", ("c", "y", "x"))
    where = f"{kind}[{name!r}]"
    cells = find_element(sdata, kind, name)
    if kind == "labels":
        cells = raster_at(cells, labels_scale, where, ("y", "x"))
        check_labels(cells.data, where, "labels")
    to_image = affine_between(cells, raster, coordinate_system, where, f"images[{image!r}]")
    check_axis_aligned(to_image, where, image, coordinate_system)
    if kind == "labels":
        ids, centres = label_centres(iterate_blocks(cells.data, block_size), where, "labels")
    else:
        ids, centres = _point_centres(cells, where) if kind == "points" else _shape_centres(cells, where)
    ids, centres, obs = _join(sdata, ids, centres, table, name, where)
    centres = centres * np.diag(to_image)[:2] + to_image[:2, 2]  # rows and columns of the image
    is_inside = inside_image(centre_pixels(centres), raster.shape[1:], where)
    ids, centres, obs = ids[is_inside], centres[is_inside], obs[is_inside]

    names = channel_labels(raster)
    positions = find_channels(channels, names, "channels", f"images[{image!r}]")
    masks = [] if mask_channel is None else find_channels([mask_channel], names, "mask_channel", f"images[{image!r}]")
    cutter = Cutter(
        ArrayPlanes(raster.data, [*positions, *masks], f"images[{image!r}]"),
        centre_pixels(centres),
        sides,
        padding,
        has_mask_channel=bool(masks),
        labels=LabelPlanes(cells.data, to_image, raster.shape[1:]) if mask_by_label else None,
        own_labels=ids if mask_by_label else None,
    )
    crop_bytes = int(np.prod(cutter.crop_shape)) * raster.dtype.itemsize
    cut = Cut(cutter, reading_jobs(cutter.centres, block_shape(raster.data, block_size), crop_bytes))
    from_image = matrix_to(raster, coordinate_system, f"images[{image!r}]")
    spatial = (np.column_stack([centres, np.ones(len(centres))]) @ from_image.T)[:, 1::-1]  # x, y
    order = cut.order
    chosen = [names[i] for i in positions]
    return build_crops([cut], obs.iloc[order], ids[order], spatial[order], chosen, lazy=lazy)


def _choose_cells(elements: dict[str, str | None], labels_scale: str, mask_by_label: bool) -> tuple[str, str]:
    """Kind and name of the element that marks the cells."""
    named = [(kind, name) for kind, name in elements.items() if name is not None]
    if len(named) != 1:
        raise ValueError(
            f"{', '.join(f'{kind}={name!r}' for kind, name in elements.items())}; name one of them: the labels, the "
            "shapes or the points that mark the cells."
        )
    kind, name = named[0]
    if kind != "labels" and labels_scale != "scale0":
        raise ValueError(
            f"labels_scale={labels_scale!r} applies to labels, but {kind}={name!r} are used. Leave it out."
        )
    if kind != "labels" and mask_by_label:
        raise ValueError(
            f"mask_by_label=True needs labels: {kind} have no pixels. Convert them with spatialdata.rasterize("
            "..., return_regions_as_labels=True), add the labels to sdata and pass labels=..."
        )
    return kind, name


def _point_centres(points: Any, where: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Names of points and their positions, as row and column of their own coordinates."""
    key = points.attrs.get("spatialdata_attrs", {}).get("instance_key")
    columns = ["y", "x"] if key is None else [key, "y", "x"]
    table = points[columns].compute()
    ids = pd.Index(table.index if key is None else table[key])
    if not ids.is_unique:
        place = "index" if key is None else f"column {key!r}"
        raise ValueError(
            f"the {place} of {where} names {int(ids.duplicated().sum())} points like another one. Number the points "
            "and parse them again, for example with "
            "spatialdata.models.PointsModel.parse(points.compute().reset_index(drop=True))."
        )
    centres = table[["y", "x"]].to_numpy(dtype=np.float64)
    if not np.isfinite(centres).all():
        raise ValueError(f"{where} has points without a position. Drop them with points.dropna(subset=['x', 'y']).")
    return ids.to_numpy(), centres


def _shape_centres(shapes: Any, where: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Names of shapes and their centroids, as row and column of their own coordinates."""
    if not shapes.index.is_unique:
        raise ValueError(f"the index of {where} is not unique. Number the shapes first with reset_index(drop=True).")
    centroids = shapes.geometry.centroid
    return shapes.index.to_numpy(), np.column_stack([centroids.y, centroids.x]).astype(np.float64)


def _join(
    sdata: Any, ids: NDArray[Any], centres: NDArray[np.float64], table: str | None, element: str, where: str
) -> tuple[NDArray[Any], NDArray[np.float64], pd.DataFrame]:
    """Cells that are in the table, and their ``obs``."""
    if not len(ids):
        raise ValueError(f"{where} has no cell: all its pixels are 0, or it is empty. Pass an element with cells.")
    if table is None:
        return ids, centres, pd.DataFrame(index=[f"{element}:{label}" for label in ids])
    adata = find_element(sdata, "tables", table)
    where_table = f"tables[{table!r}]"
    attributes = adata.uns.get("spatialdata_attrs")
    if not attributes:
        raise ValueError(
            f"{where_table} annotates no element. Parse it first with spatialdata.models.TableModel.parse(adata, "
            f"region={element!r}, region_key='region', instance_key='instance_id')."
        )
    region_key, instance_key = attributes["region_key"], attributes["instance_key"]
    regions = adata.obs[region_key].astype(str)
    obs = adata.obs[(regions == element).to_numpy()]
    if not len(obs):
        raise ValueError(
            f"{where_table} has no rows for {element!r}; obs[{region_key!r}] has {sorted(set(regions))}. Pass a table "
            "that annotates this element, or an element that this table annotates."
        )
    check_new_columns(list(obs.columns), where_table, instance_key)
    check_table(obs, f"{where_table}.obs")
    found, rows = match_cells(pd.Index(ids), pd.Index(obs[instance_key]), where, where_table)
    return ids[found], centres[found], obs.iloc[rows]
