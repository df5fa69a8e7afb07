"""Join cells with a table, and build the AnnData of crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._checks import require
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGES_KEY
from petri_scvi.common._warn import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from petri_scvi.pp.crops._crop_windows import Cutter

LABEL_KEY, BORDER_KEY, TOP_KEY, LEFT_KEY = "label", "is_border", "crop_top", "crop_left"
SPATIAL_KEY = "spatial"


@dataclass
class Cut:
    """Cells of one image and the order in which they are cut."""

    cutter: Cutter
    jobs: list[NDArray[np.integer]]
    """Cells that are cut together; joined, the jobs give the order of the result."""

    @property
    def order(self) -> NDArray[np.integer]:
        return np.concatenate([np.zeros(0, dtype=np.intp), *self.jobs])


def match_cells(
    cells: pd.Index, rows: pd.Index, where: str, table: str
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Positions of the cells that are in a table, and of their rows there; warns about cells and rows without a match.

    Parameters
    ----------
    cells
        Cells found in the image.
    rows
        Cell of each row of the table.
    where, table
        What error messages call the cells and the table.

    Raises
    ------
    ValueError
        A cell has two rows, or no cell has one.
    """
    # Rows of other cells, such as those of fields that are not cut, are not checked.
    seen = np.flatnonzero(rows.isin(cells))
    again = rows[seen][rows[seen].duplicated()].unique()
    if len(again):
        raise ValueError(
            f"{table} has several rows for {len(again)} cells of {where}, for example for {_plain(again[0])!r}. "
            "Keep one row per cell."
        )
    places = rows[seen].get_indexer(cells)
    is_found = places >= 0
    if not is_found.any():
        raise ValueError(
            f"none of the {len(cells)} cells of {where} is in {table}: the cells are for example {_first(cells)}, the "
            f"rows of the table {_first(rows)}. Pass the table of these cells, with their names written the same way."
        )
    n_unlisted, n_unseen = int((~is_found).sum()), len(rows) - int(is_found.sum())
    if n_unlisted or n_unseen:
        told = [f"{n_unlisted} of {len(cells)} cells of {where} have no row in {table}"] if n_unlisted else []
        told += [f"{n_unseen} of {len(rows)} rows of {table} have no cell in {where}"] if n_unseen else []
        warn(f"{' and '.join(told)}; they are left out.")
    return np.flatnonzero(is_found), seen[places[is_found]]


def _plain(cell: Any) -> Any:
    """Name of a cell with Python types in place of numpy's."""
    return tuple(map(_plain, cell)) if isinstance(cell, tuple) else getattr(cell, "item", lambda: cell)()


def _first(cells: pd.Index) -> list[Any]:
    return [_plain(cell) for cell in cells[:3]]


def inside_image(pixels: NDArray[np.int64], shape: Sequence[int], where: str) -> NDArray[np.bool_]:
    """Whether the centre of each cell is inside the image; warns about the others."""
    is_inside = np.asarray(((pixels >= 0) & (pixels < np.array(shape))).all(axis=1))
    if not is_inside.any():
        raise ValueError(
            f"no cell of {where} has its centre inside the image, which has {shape[0]} x {shape[1]} pixels. Pass the "
            "image in which the cells were found, and a coordinate system that both share."
        )
    if not is_inside.all():
        n_outside = int((~is_inside).sum())
        warn(f"{n_outside} of {len(pixels)} cells of {where} have their centre outside the image; they are left out.")
    return is_inside


def require_columns(table: pd.DataFrame, keys: Sequence[str], where: str, advice: str) -> None:
    """Require that each column exists exactly once."""
    missing = [key for key in keys if key not in table]
    if missing:
        raise KeyError(f"{where} has no columns {missing}; it has {list(table.columns)}. {advice}")
    twice = [key for key in keys if isinstance(table[key], pd.DataFrame)]
    if twice:
        raise ValueError(f"{where} has several columns {twice}. Rename or drop all but one of each.")


def check_new_columns(columns: Sequence[str], table: str, label_key: str) -> None:
    """Require that a table has none of the columns that crops add, except for the label."""
    taken = [key for key in (LABEL_KEY, BORDER_KEY, TOP_KEY, LEFT_KEY) if key in columns and key != label_key]
    if taken:
        raise ValueError(
            f"{table} has the columns {taken}, which are added to the obs of crops. Rename them first with "
            "rename(columns=...)."
        )


def build_crops(
    cuts: Sequence[Cut],
    obs: pd.DataFrame,
    labels: Any | None,
    spatial: NDArray[np.floating],
    names: list[str],
    *,
    lazy: bool,
) -> AnnData:
    """AnnData of crops.

    Parameters
    ----------
    cuts
        Cells to cut.
    obs, labels, spatial
        Table, labels and centres (x, y) of the cells, in the order of the cuts; ``labels`` is ``None`` without masks.
    names
        Channel names.
    lazy
        Whether crops are cut when they are read.
    """
    starts = np.concatenate([cut.cutter.starts[cut.order] for cut in cuts])
    is_border = np.concatenate([cut.cutter.is_border[cut.order] for cut in cuts])
    obs = obs.assign(**{BORDER_KEY: is_border, TOP_KEY: starts[:, 0], LEFT_KEY: starts[:, 1]})
    if labels is not None:
        obs[LABEL_KEY] = labels
    obs.index = obs.index.astype(str)
    crops = _cut_lazily(cuts) if lazy else _cut_now(cuts)
    return AnnData(obs=obs, obsm={IMAGES_KEY: crops, SPATIAL_KEY: spatial}, uns={CHANNEL_NAMES_KEY: names})


def _cut_now(cuts: Sequence[Cut]) -> NDArray[Any]:
    cutter = cuts[0].cutter
    n_cells = sum(len(job) for cut in cuts for job in cut.jobs)
    crops = np.empty((n_cells, *cutter.crop_shape), dtype=cutter.planes.dtype)
    start = 0
    for cut in cuts:
        for job in cut.jobs:
            cut.cutter.cut(job, crops[start : start + len(job)])
            start += len(job)
    return crops


def _cut_lazily(cuts: Sequence[Cut]) -> Any:
    """A dask array with one chunk per job: reading it in order reads each part of the images once."""
    dask, array = require("dask", "fields"), require("dask.array", "fields")
    chunks = []
    for cut in cuts:
        shape, dtype = cut.cutter.crop_shape, cut.cutter.planes.dtype
        for job in cut.jobs:
            # Without traverse=False, dask would search the arguments for dask arrays and read these whole.
            crops = dask.delayed(cut.cutter.cut, pure=False, traverse=False)(job)
            chunks.append(array.from_delayed(crops, (len(job), *shape), dtype=dtype))
    return array.concatenate(chunks)
