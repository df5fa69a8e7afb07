"""Create a training store, copy the missing blocks, verify the checksums and rename it to its final name."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata import AnnData
from mudata import MuData
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi._constants import STORE_KEY, UNS_KEY
from petri_scvi.common import put_in_place, written_whole
from petri_scvi.common._files import check_space, sync_folder
from petri_scvi.io.store._file import (
    PAGE,
    RECORDS,
    create_records,
    find_damaged_rows,
    mark_block,
    open_raw,
    read_layouts,
    write_rows,
)
from petri_scvi.pp._mudata import build_mudata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from petri_scvi.io.store._arrays import Block, StoredArray
    from petri_scvi.io.store._file import Layout, RawFile
    from petri_scvi.io.store._source import Tables
    from petri_scvi.io.store._tables import Modality

VERSION = 1
N_COPIES = 4
"""Copies of a block that are in memory at once: it is read, decoded, cast and written."""


def write_file(
    path: Path,
    tables: Tables,
    modalities: list[Modality],
    arguments: dict[str, Any],
    *,
    max_memory: int,
    progress: bool,
) -> None:
    """Write a training store, or resume writing one.

    Parameters
    ----------
    path
        Its name once it is complete.
    tables
        What it is made from.
    modalities
        The same, joined and put in order.
    arguments
        Arguments of the user's call; a file that was begun with others is refused.
    max_memory
        Bytes for the cells that are being copied.
    progress
        Show progress bars.
    """
    blocks = {
        array.path: (modality, array, _blocks(array, max_memory))
        for modality in modalities
        for array in modality.arrays
    }
    plan = make_plan(modalities, arguments)
    unfinished = path.with_name(f"{path.name}.partial")
    if unfinished.exists():
        check_same(unfinished, read_plan(unfinished), plan)
    else:
        check_room(path, modalities)
        _begin(unfinished, tables, modalities, blocks, plan)
    with h5py.File(unfinished, "r") as file:
        layouts = read_layouts(file)
    with open_raw(unfinished, is_writable=True) as raw, show_bytes(progress) as bar:
        try:
            for layout in layouts.values():
                _copy(raw, layout, *blocks[layout.path], bar)
        except ValueError:
            unfinished.unlink()  # the source is invalid, so that resuming with this file would not help
            raise
        damaged = verify(raw, layouts, bar)
        for name, rows in damaged.items():
            _unmark(raw, layouts[name], *blocks[name], rows)
    if damaged:
        raise OSError(
            f"the disk returns other bytes than were written to {unfinished}: {describe_damage(damaged)}. Repeat "
            "the call to write these rows again."
        )
    put_in_place(unfinished, path)


def make_plan(modalities: list[Modality], arguments: dict[str, Any]) -> str:
    """Everything that must be equal for an interrupted call to be resumed."""
    contents = [modality.describe() for modality in modalities]
    return json.dumps({"version": VERSION, **arguments, "contents": contents}, sort_keys=True)


def read_plan(path: Path) -> str:
    """The plan that an HDF5 store was begun with."""
    if not h5py.is_hdf5(path):
        raise foreign(path)
    with h5py.File(path, "r") as file:
        if f"{RECORDS}/plan" not in file:
            raise foreign(path)
        return str(file[f"{RECORDS}/plan"].asstr()[()])


def foreign(path: Path) -> FileExistsError:
    """The error for a file or folder that has the name of an unfinished store but is not one."""
    return FileExistsError(
        f"{path} exists and is not an unfinished training store, whose name it has. Move it away, or pass another path."
    )


@contextmanager
def show_bytes(progress: bool) -> Iterator[Progress]:
    """A bar of bytes for each step."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        yield bar


def verify(raw: RawFile, layouts: dict[str, Layout], bar: Progress) -> dict[str, NDArray[np.integer]]:
    """Rows of each array that do not have their checksum; arrays without such rows are left out."""
    raw.forget()
    damaged = {}
    for name, layout in layouts.items():
        task = bar.add_task(f"verify {name}", total=layout.n_bytes)
        found = find_damaged_rows(raw, layout, on_progress=partial(bar.advance, task))
        if len(found):
            damaged[name] = found
    return damaged


def describe_damage(damaged: dict[str, NDArray[np.integer]]) -> str:
    """Describe damaged rows, as part of a sentence."""
    return ", ".join(
        f"{len(rows)} rows of {name} (the first is {rows[0]}) have another checksum" for name, rows in damaged.items()
    )


def _blocks(array: StoredArray, max_memory: int) -> list[Block]:
    row = max((int(sizes.max(initial=0)) for sizes in array.row_bytes()), default=0)
    if max_memory < N_COPIES * row:
        raise ValueError(
            f"max_memory={max_memory} bytes is less than {N_COPIES} times a row of {array.path}, which has {row} "
            f"bytes. Pass max_memory={N_COPIES * row} or more."
        )
    return array.blocks(max_memory // N_COPIES)


def check_same(unfinished: Path, begun_plan: str, plan: str) -> None:
    """Require that a store was begun by the same call."""
    begun, now = json.loads(begun_plan), json.loads(plan)
    different = [key for key in sorted({*begun, *now}) if begun.get(key) != now.get(key)]
    if different:
        found = "; ".join(
            f"{key}={now.get(key)} instead of {begun.get(key)}" if key != "contents" else "other cells or arrays"
            for key in different
        )
        raise FileExistsError(
            f"{unfinished} was begun by another call: this one has {found}. Repeat the original call, or delete the "
            "file to start again."
        )


def check_room(path: Path, modalities: list[Modality], n_stores: int = 1) -> None:
    """Require room on the disk for a store, or for several beside each other."""
    n_bytes = n_stores * sum(array.n_bytes for modality in modalities for array in modality.arrays)
    check_space(path.parent, n_bytes, path.name)


def _begin(
    unfinished: Path,
    tables: Tables,
    modalities: list[Modality],
    blocks: dict[str, tuple[Modality, StoredArray, list[Block]]],
    plan: str,
) -> None:
    """Write all but the large arrays, and reserve places for these.

    From then on only bytes in these places change: a file that is interrupted at any time is still valid HDF5.
    """
    screen = join_modalities(tables, modalities, plan)
    with written_whole(unfinished) as new:
        with columns_stay_in_modalities():
            screen.write_h5ad(new) if isinstance(screen, AnnData) else screen.write_h5mu(new)
        # When the file is mapped, its pages become pages of memory.
        with h5py.File(new, "r+", alignment_threshold=PAGE, alignment_interval=PAGE) as file:
            for path, (modality, array, parts) in blocks.items():
                if path in file:
                    del file[path]
                array.create(file, modality.order)
                create_records(file, path, array.n_rows, len(parts))
            file.flush()
    sync_folder(unfinished.parent)


def join_modalities(tables: Tables, modalities: list[Modality], plan: str) -> AnnData | MuData:
    """All but the large arrays, with the plan in the records."""
    records = {STORE_KEY: {"plan": plan}}
    if set(tables.modalities) == {None}:
        frame = modalities[0].frame
        frame.uns[UNS_KEY] = {**frame.uns.get(UNS_KEY, {}), **records}
        return frame
    frames = {str(modality.name): modality.frame for modality in modalities}
    with columns_stay_in_modalities():
        mdata = MuData(frames) if tables.is_named else build_mudata(**frames)
        mdata.uns = dict(tables.uns)
        others = {key: value for key, value in mdata.uns.get(UNS_KEY, {}).items() if key != STORE_KEY}
        mdata.uns[UNS_KEY] = {**others, **records}
    return mdata


def _copy(
    raw: RawFile, layout: Layout, modality: Modality, array: StoredArray, blocks: list[Block], bar: Progress
) -> None:
    """Copy the blocks that are not noted as written."""
    is_written = raw.read(layout.is_written, np.uint8, layout.n_blocks)
    targets = np.argsort(modality.order)  # the inverse: row of the store of each row of the sources
    task = bar.add_task(f"write {layout.path}", total=layout.n_bytes)
    for i, block in enumerate(blocks):
        source, start, stop = block
        first = modality.source_starts[source]
        rows = targets[first + start : first + stop]
        if not is_written[i]:
            write_rows(raw, layout, rows, array.read(block))
            raw.sync()
            mark_block(raw, layout, i, is_written=True)
        bar.advance(task, int(layout.row_sizes[rows].sum()))


def _unmark(
    raw: RawFile,
    layout: Layout,
    modality: Modality,
    array: StoredArray,
    blocks: list[Block],
    damaged: NDArray[np.integer],
) -> None:
    """Note the blocks of damaged rows as not written."""
    first_rows = np.array([modality.source_starts[source] + start for source, start, _ in blocks])
    found = np.searchsorted(first_rows, modality.order[damaged], side="right") - 1
    for block in np.unique(found).tolist():
        mark_block(raw, layout, block, is_written=False)
