"""A file of cells and one array that describes them, such as their embedding, written without holding it in memory."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.io import write_elem
from mudata import MuData

from petri_scvi._checks import require
from petri_scvi._compat import columns_stay_in_modalities, tables_in_zarr_v3
from petri_scvi.common import written_whole
from petri_scvi.common._files import check_parent, check_space
from petri_scvi.common._storable import check_names, check_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK_ROWS = 8192
"""Rows that are copied into the file at once, and a chunk of a zarr store; what ``tl`` reads at once."""
SUFFIXES = {AnnData: (".h5ad", ".zarr"), MuData: (".h5mu", ".zarr")}


def tables_of(mdata: MuData, modality: str | None, modalities: list[str]) -> AnnData | MuData:
    """Cells without their measurements, of one modality or of several."""
    if modality is not None:
        return AnnData(obs=mdata.mod[modality].obs.copy())
    with columns_stay_in_modalities():
        return MuData({name: AnnData(obs=mdata.mod[name].obs.copy()) for name in modalities})


def check_target(path: Path, tables: AnnData | MuData) -> None:
    """Require a new file, of a kind that can hold the cells."""
    suffixes = SUFFIXES[type(tables)]
    if path.suffix not in suffixes:
        found = "all modalities" if isinstance(tables, MuData) else "one modality"
        raise ValueError(f"path={path.name!r}; the embedding of {found} is written as {' or '.join(suffixes)}.")
    if path.exists():
        raise FileExistsError(f"{path} exists. Delete it, or pass another path.")
    check_parent(path)
    if path.suffix == ".zarr":
        require("zarr", "zarr")


def check_storable(tables: AnnData | MuData, key: str) -> None:
    """Require columns, and a name of the slot, that files can hold."""
    check_names([key], "key_added")
    if isinstance(tables, AnnData):
        check_table(tables.obs, "obs")
        return
    check_names(tables.mod, "a modality")
    for name, adata in tables.mod.items():
        check_table(adata.obs, f"mdata[{name!r}].obs")


@contextmanager
def array_in_file(path: Path, tables: AnnData | MuData, key: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """An array to be filled, in any order; at the end it is ``obsm[key]`` of a new file.

    The file has a temporary name until it is complete. The array is in an unnamed file, which the system always
    removes.

    Parameters
    ----------
    path
        File to write, ``.h5ad``, ``.h5mu`` or ``.zarr``.
    tables
        The cells.
    key
        Slot in ``obsm`` of the tables.
    shape
        Shape of the array, which is float32.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    check_space(path.parent, 2 * n_bytes, path.name, note=" (half of it only until it is complete)")
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        # An empty file cannot be mapped.
        filled = np.memmap(scratch, np.float32, "w+", shape=shape) if np.prod(shape) else np.empty(shape, np.float32)
        yield filled
        with written_whole(path) as unfinished, columns_stay_in_modalities():
            write = _write_zarr if path.suffix == ".zarr" else _write_hdf5
            write(unfinished, tables, key, filled)


def _write_hdf5(path: Path, tables: AnnData | MuData, key: str, filled: NDArray[Any]) -> None:
    tables.write_h5ad(path) if isinstance(tables, AnnData) else tables.write_h5mu(path)
    with h5py.File(path, "r+") as file:
        _copy(file.require_group("obsm").create_dataset(key, filled.shape, filled.dtype), filled)
        file.flush()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_zarr(path: Path, tables: AnnData | MuData, key: str, filled: NDArray[Any]) -> None:
    zarr = require("zarr", "zarr")
    with tables_in_zarr_v3():
        if isinstance(tables, AnnData):
            write_elem(zarr.open_group(path, mode="w", zarr_format=3), "/", tables)
        else:
            tables.write_zarr(path)
    chunks = (min(CHUNK_ROWS, max(1, len(filled))), *filled.shape[1:])
    group = zarr.open_group(path, mode="r+")
    _copy(group.create_array(f"obsm/{key}", shape=filled.shape, dtype=filled.dtype, chunks=chunks), filled)


def _copy(target: Any, filled: NDArray[Any]) -> None:
    for start in range(0, len(filled), CHUNK_ROWS):
        target[start : start + CHUNK_ROWS] = filled[start : start + CHUNK_ROWS]
    target.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
