"""Join cut cells with a table, and put crops and table into one AnnData."""

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
    """Cells of one image, and how they are cut."""

    cutter: Cutter
    jobs: list[NDArray[np.integer]]
    """Cells of the cutter that are cut together; all of them, in the order of the result."""

    @property
    def order(self) -> NDArray[np.integer]:
        return np.concatenate([np.zeros(0, dtype=np.intp), *self.jobs])


def match_cells(
    cells: pd.Index, rows: pd.Index, where: str, table: str
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Positions of the cells that are in the table, and of their rows there; tells of the others.

    Parameters
    ----------
    cells
        Cells that were found.
    rows
        Cells that the rows of the table are about.
    where, table
        How a user would write each.

    Raises
    ------
    ValueError
        A cell has two rows, or no cell has one.
    """
    # What the table says of other cells, those of fields that are not cut, is no concern here.
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
            f"none of the {len(cells)} cells of {where} is in {table}: cells are for example {_first(cells)}, rows of "
            f"the table {_first(rows)}. Pass the table made from these cells, with cells written alike."
        )
    n_unlisted, n_unseen = int((~is_found).sum()), len(rows) - int(is_found.sum())
    if n_unlisted or n_unseen:
        told = [f"{n_unlisted} of {len(cells)} cells of {where} have no row in {table}"] if n_unlisted else []
        told += [f"{n_unseen} of {len(rows)} rows of {table} have no cell in {where}"] if n_unseen else []
        warn(f"{' and '.join(told)}; they are left out.")
    return np.flatnonzero(is_found), seen[places[is_found]]


def _plain(cell: Any) -> Any:
    """Name of a cell as a user would write it, without the types of numpy."""
    return tuple(map(_plain, cell)) if isinstance(cell, tuple) else getattr(cell, "item", lambda: cell)()


def _first(cells: pd.Index) -> list[Any]:
    return [_plain(cell) for cell in cells[:3]]


def inside_image(pixels: NDArray[np.int64], shape: Sequence[int], where: str) -> NDArray[np.bool_]:
    """Which cells have their centre in the image; tells of the others."""
    is_inside = np.asarray(((pixels >= 0) & (pixels < np.array(shape))).all(axis=1))
    if not is_inside.any():
        raise ValueError(
            f"no cell of {where} has its centre in the image, which has {shape[0]} x {shape[1]} pixels. Pass the image "
            "that the cells were found in, and the coordinate system that both share."
        )
    if not is_inside.all():
        n_outside = int((~is_inside).sum())
        warn(f"{n_outside} of {len(pixels)} cells of {where} have their centre outside the image; they are left out.")
    return is_inside


def require_columns(table: pd.DataFrame, keys: Sequence[str], where: str, advice: str) -> None:
    """Require columns, each of them once."""
    missing = [key for key in keys if key not in table]
    if missing:
        raise KeyError(f"{where} has no columns {missing}; it has {list(table.columns)}. {advice}")
    twice = [key for key in keys if isinstance(table[key], pd.DataFrame)]
    if twice:
        raise ValueError(f"{where} has several columns {twice}. Rename or drop all but one of each.")


def check_new_columns(columns: Sequence[str], table: str, label_key: str) -> None:
    """Require that a table has no column of a name that crops bring along, but that of its cells."""
    taken = [key for key in (LABEL_KEY, BORDER_KEY, TOP_KEY, LEFT_KEY) if key in columns and key != label_key]
    if taken:
        raise ValueError(f"{table} has columns {taken}, which crops write. Rename them first: obs.rename(columns=...).")


def build_crops(
    cuts: Sequence[Cut],
    obs: pd.DataFrame,
    labels: Any | None,
    spatial: NDArray[np.floating],
    names: list[str],
    *,
    lazy: bool,
) -> AnnData:
    """Crops and table.

    Parameters
    ----------
    cuts
        What to cut.
    obs, labels, spatial
        Table, label and centre (x, y) of each cell, in the order of the cuts; ``None`` if cells have no labels.
    names
        Of the channels.
    lazy
        Whether crops are cut when they are asked for.
    """
    starts = np.concatenate([cut.cutter.starts[cut.order] for cut in cuts])
    is_border = np.concatenate([cut.cutter.is_border[cut.order] for cut in cuts])
    obs = obs.assign(**{BORDER_KEY: is_border, TOP_KEY: starts[:, 0], LEFT_KEY: starts[:, 1]})
    if labels is not None:
        obs[LABEL_KEY] = labels
    obs.index = obs.index.astype(str)
    crops = _cut_when_asked(cuts) if lazy else _cut_now(cuts)
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


def _cut_when_asked(cuts: Sequence[Cut]) -> Any:
    """A dask array with one chunk per job, so that a reader in its order reads each part of the images once."""
    dask, array = require("dask", "fields"), require("dask.array", "fields")
    chunks = []
    for cut in cuts:
        shape, dtype = cut.cutter.crop_shape, cut.cutter.planes.dtype
        for job in cut.jobs:
            # Not traversed: dask would look for arrays of its own among the arguments and read them whole.
            crops = dask.delayed(cut.cutter.cut, pure=False, traverse=False)(job)
            chunks.append(array.from_delayed(crops, (len(job), *shape), dtype=dtype))
    return array.concatenate(chunks)
