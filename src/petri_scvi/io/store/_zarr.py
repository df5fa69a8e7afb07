"""Write a training store in zarr: copy a finished HDF5 store shard by shard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.io import write_elem

from petri_scvi._checks import require
from petri_scvi._compat import columns_stay_in_modalities, tables_in_zarr_v3
from petri_scvi.common import put_in_place, written_whole
from petri_scvi.common._files import sync_folder
from petri_scvi.io.store._file import RECORDS, read_layouts, record_name
from petri_scvi.io.store._write import (
    N_COPIES,
    check_room,
    check_same,
    describe_damage,
    foreign,
    join_modalities,
    make_plan,
    read_plan,
    show_bytes,
    write_file,
)
from petri_scvi.io.store._zarr_rows import (
    CHUNK_VALUES,
    EXTRA,
    ZarrRows,
    create_array,
    forget_tree,
    open_array,
    rows_per_chunk,
    sync_tree,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

    from petri_scvi.io.store._source import Tables
    from petri_scvi.io.store._tables import Modality

CHECKSUMS, FLAGS = f"{RECORDS}/checksums", f"{RECORDS}/is_written"


def write_zarr(
    path: Path,
    tables: Tables,
    modalities: list[Modality],
    arguments: dict[str, Any],
    *,
    max_memory: int,
    progress: bool,
) -> None:
    """Write a training store in zarr, or resume writing one.

    A shard is one compressed file and cannot be written in parts, but cells are read in the order of the source, and a
    shard holds cells from all parts of it. An HDF5 store is therefore written first, and copied shard by shard.

    Parameters
    ----------
    path, tables, modalities, arguments, max_memory, progress
        As for :func:`petri_scvi.io.store._write.write_file`.
    """
    require("zarr", EXTRA), require("tensorstore", EXTRA)
    plan = make_plan(modalities, arguments)
    unfinished = path.with_name(f"{path.name}.partial")
    between = path.with_name(f"{unfinished.name}.{'h5ad' if set(tables.modalities) == {None} else 'h5mu'}")
    if unfinished.exists():
        check_same(unfinished, _read_plan(unfinished), plan)
    if not (unfinished.exists() and is_copied(unfinished)):
        if between.exists():
            check_same(between, read_plan(between), plan)
        else:
            if not between.with_name(f"{between.name}.partial").exists():
                check_room(path, modalities, n_stores=2)
            write_file(between, tables, modalities, arguments, max_memory=max_memory, progress=progress)
        if not unfinished.exists():
            _begin(unfinished, between, tables, modalities, plan, max_memory // N_COPIES)
    with show_bytes(progress) as bar:
        if not is_copied(unfinished):
            _copy(unfinished, between, bar)
        damaged = verify_zarr(unfinished, bar)
    if damaged:
        _unmark(unfinished, damaged)
        raise OSError(
            f"the disk returns other bytes than were written to {unfinished}: {describe_damage(damaged)}. Repeat "
            "the call to write these rows again."
        )
    # Before the store gets its final name, because a completed call is not repeated to clean up.
    between.unlink(missing_ok=True)
    put_in_place(unfinished, path)


def verify_zarr(folder: Path, bar: Progress) -> dict[str, NDArray[np.integer]]:
    """Rows of each array that do not have their checksum; arrays without such rows are left out."""
    forget_tree(folder)
    damaged = {}
    for rows, expected in _arrays(folder):
        task = bar.add_task(f"verify {rows.path}", total=rows.n_bytes)
        found = rows.find_damaged(expected, partial(bar.advance, task))
        if len(found):
            damaged[rows.path] = found
    return damaged


def is_copied(folder: Path) -> bool:
    """Whether all shards are noted as written."""
    return all(bool(np.all(flags[:])) for flags in _group(folder)[FLAGS].array_values())


def _group(folder: Path, mode: str = "r") -> Any:
    return require("zarr", EXTRA).open_group(folder, mode=mode)


def _read_plan(folder: Path) -> str:
    if not (folder / f"{RECORDS}/plan/zarr.json").exists():
        raise foreign(folder)
    return str(_group(folder)[f"{RECORDS}/plan"][()])


def _arrays(folder: Path, *, is_writable: bool = False) -> list[tuple[ZarrRows, NDArray[np.uint32]]]:
    """Rows of all arrays in the records, and their checksums."""
    return [
        (ZarrRows(folder, checksums.attrs["path"], is_writable=is_writable), checksums[:])
        for checksums in _group(folder)[CHECKSUMS].array_values()
    ]


def _begin(
    unfinished: Path, between: Path, tables: Tables, modalities: list[Modality], plan: str, max_bytes: int
) -> None:
    """Write all but the rows of the large arrays, and note that none of their shards is written."""
    screen = join_modalities(tables, modalities, plan)
    with written_whole(unfinished) as new:
        with columns_stay_in_modalities(), tables_in_zarr_v3():
            if isinstance(screen, AnnData):
                screen.strings_to_categoricals()
                write_elem(require("zarr", EXTRA).open_group(new, mode="w", zarr_format=3), "/", screen)
            else:
                screen.write_zarr(new)
        group = _group(new, "r+")
        with h5py.File(between, "r") as file:
            for path in read_layouts(file):
                if path in group:
                    del group[path]
                names = _create(group, path, file[path], max_bytes)
                checksums = file[f"{CHECKSUMS}/{record_name(path)}"][:]
                _note(group, f"{CHECKSUMS}/{record_name(path)}", path, checksums)
                for part, name in enumerate(names):
                    n_shards = ZarrRows(new, path).n_shards(part)
                    _note(group, f"{FLAGS}/{record_name(name)}", name, np.zeros(n_shards, dtype=np.uint8))
        for name in (RECORDS, CHECKSUMS, FLAGS):
            group[name].attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        sync_tree(new)
    sync_folder(unfinished.parent)


def _create(group: Any, path: str, source: h5py.Dataset | h5py.Group, max_bytes: int) -> list[str]:
    """Create an array without its rows; returns the paths of its parts."""
    if isinstance(source, h5py.Dataset):
        n_in_chunk = rows_per_chunk(source.shape, source.dtype)
        create_array(group, path, source.shape, source.dtype, n_in_chunk=n_in_chunk, max_bytes=max_bytes)
        return [path]
    matrix = group.create_group(path)
    shape = [int(n) for n in source.attrs["shape"]]
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    indptr = matrix.create_array("indptr", data=source["indptr"][:])
    indptr.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    parts = [source["data"], source["indices"]]
    for name, part in zip(("data", "indices"), parts, strict=True):
        create_array(matrix, name, part.shape, part.dtype, n_in_chunk=CHUNK_VALUES, max_bytes=max_bytes)
    return [f"{path}/data", f"{path}/indices"]


def _note(group: Any, name: str, path: str, values: NDArray[Any]) -> None:
    # In one chunk without compression, so that a flag is one short write.
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=(max(1, len(values)),), compressors=None
    )
    if len(values):
        array[:] = values
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0", "path": path})


def _copy(unfinished: Path, between: Path, bar: Progress) -> None:
    """Copy the shards that are not noted as written."""
    with h5py.File(between, "r") as file:
        for rows, _ in _arrays(unfinished, is_writable=True):
            task = bar.add_task(f"compress {rows.path}", total=rows.n_bytes)
            for part, name in enumerate(rows.names):
                target, source = rows.parts[part], file[name]
                flags = open_array(unfinished, f"{FLAGS}/{record_name(name)}", is_writable=True)
                is_written = flags.read().result()
                length = rows.shard_length(part)
                for shard in range(rows.n_shards(part)):
                    place = slice(shard * length, min((shard + 1) * length, len(source)))
                    if not is_written[shard]:
                        _write_shard(target, place, source[place])
                        flags[shard].write(1).result()  # only after the shard has reached the disk
                    row_bytes = source.dtype.itemsize * int(np.prod(source.shape[1:]))
                    bar.advance(task, (place.stop - place.start) * row_bytes)


def _write_shard(target: Any, place: slice, values: NDArray[Any]) -> None:
    target[place].write(values, can_reference_source_data_indefinitely=True).result()


def _unmark(folder: Path, damaged: dict[str, NDArray[np.integer]]) -> None:
    """Note the shards of damaged rows as not written."""
    for path, found in damaged.items():
        rows = ZarrRows(folder, path)
        for part, name in enumerate(rows.names):
            flags = open_array(folder, f"{FLAGS}/{record_name(name)}", is_writable=True)
            for row in found.tolist():
                first, last = rows.starts[[row, row + 1]]
                for shard in np.unique(rows.shard_of(part, np.arange(first, last))).tolist():
                    flags[shard].write(0).result()
