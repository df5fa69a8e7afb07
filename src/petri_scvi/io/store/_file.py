"""The bytes of a training store: the position and the expected checksum of each row."""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from petri_scvi._constants import STORE_KEY, UNS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

RECORDS = f"uns/{UNS_KEY}/{STORE_KEY}"
"""HDF5 group with the records of the store: checksums, and which blocks were written."""
PAGE = 4096
VERIFY_BYTES = 2**24


def create_contiguous(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """Create an uncompressed array whose place in the file is fixed before its values are known."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    array = group.create_dataset(name, shape, dtype, dcpl=plan)
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return array


def create_records(file: h5py.File, path: str, n_rows: int, n_blocks: int) -> None:
    """Create the checksums of the rows of one array, and for each block whether it was written."""
    for key, n, dtype in [("checksums", n_rows, np.uint32), ("is_written", n_blocks, np.uint8)]:
        array = create_contiguous(file.require_group(f"{RECORDS}/{key}"), record_name(path), (n,), dtype)
        array[:] = np.zeros(n, dtype=dtype)
        array.attrs["path"] = path
    for group in (RECORDS, f"{RECORDS}/checksums", f"{RECORDS}/is_written"):
        file[group].attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})


def record_name(path: str) -> str:
    """Name of an array in the records; HDF5 takes a slash for a group. Different arrays have different names."""
    return path.strip("/").removeprefix("mod/").replace("%", "%25").replace(":", "%3A").replace("/", ":")


def check_is_finished(file: Any, path: str | os.PathLike[str]) -> None:
    """Require that all blocks, or shards, of a training store were written; other files have no such blocks."""
    records = file[f"{RECORDS}/is_written"] if f"{RECORDS}/is_written" in file else {}
    flags = [records[name][:] for name in records]
    n_blocks, n_written = sum(map(len, flags)), sum(int(array.sum()) for array in flags)
    if n_written < n_blocks:
        raise ValueError(
            f"{path} is a training store of which {n_written} of {n_blocks} blocks were written. Repeat the "
            "call of petri_scvi.io.write_training_store that began it, or delete the file."
        )


@dataclass(frozen=True)
class Layout:
    """Where the rows of one array lie in a file.

    A row of a dense array is one piece, a row of a sparse matrix two: its values and their columns.
    """

    path: str
    extents: list[tuple[int, int]]
    """Offset in the file and bytes per element of each piece."""
    starts: NDArray[np.int64]
    """First element of each row and the end of the last, shape ``(n + 1,)``."""
    checksums: int
    """Offset of the checksums."""
    is_written: int
    """Offset of the flags."""
    n_blocks: int

    @property
    def row_sizes(self) -> NDArray[np.int64]:
        """Bytes of each row."""
        return np.diff(self.starts) * sum(itemsize for _, itemsize in self.extents)

    @property
    def n_bytes(self) -> int:
        return int(self.row_sizes.sum())


def read_layouts(file: h5py.File) -> dict[str, Layout]:
    """Layouts of all arrays in the records, by their paths."""
    paths = [checksums.attrs["path"] for checksums in file[f"{RECORDS}/checksums"].values()]
    return {path: _read_layout(file, path) for path in paths}


def _read_layout(file: h5py.File, path: str) -> Layout:
    element, name = file[path], record_name(path)
    if isinstance(element, h5py.Group):
        pieces, starts = [element["data"], element["indices"]], element["indptr"][:].astype(np.int64)
    else:
        pieces, starts = [element], np.arange(len(element) + 1) * int(np.prod(element.shape[1:]))
    checksums, flags = (file[f"{RECORDS}/{key}/{name}"] for key in ("checksums", "is_written"))
    return Layout(
        path,
        # An array without elements has no offset.
        [(piece.id.get_offset() or 0, piece.dtype.itemsize) for piece in pieces],
        starts,
        checksums.id.get_offset() or 0,
        flags.id.get_offset() or 0,
        len(flags),
    )


class RawFile:
    """Read and write bytes at positions in a file without HDF5, which could corrupt it when interrupted."""

    def __init__(self, path: Path, *, is_writable: bool) -> None:
        self.file = path.open("r+b" if is_writable else "rb", buffering=0)

    def write(self, offset: int, values: NDArray[Any]) -> None:
        rest = values.data.cast("B") if values.size else memoryview(b"")
        self.file.seek(offset)
        while rest:
            rest = rest[self.file.write(rest) :]

    def read(self, offset: int, dtype: Any, n: int) -> NDArray[Any]:
        """``n`` elements; fewer if the file ends before."""
        found = np.empty(n, dtype=dtype)
        rest = found.data.cast("B") if n else memoryview(b"")
        self.file.seek(offset)
        while rest:
            n_read = self.file.readinto(rest)
            if not n_read:
                return found[: (found.nbytes - len(rest)) // found.itemsize]
            rest = rest[n_read:]
        return found

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(self.file.fileno())

    def forget(self) -> None:
        """Make the next reads come from the disk instead of the page cache, if the system supports it."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def open_raw(path: Path, *, is_writable: bool = False) -> Iterator[RawFile]:
    """A :class:`RawFile` that is closed at the end."""
    raw = RawFile(path, is_writable=is_writable)
    try:
        yield raw
    finally:
        raw.file.close()


def write_rows(
    raw: RawFile, layout: Layout, targets: NDArray[np.integer], rows: Iterable[Sequence[NDArray[Any]]]
) -> None:
    """Write rows, each given by its pieces, to their places, and then their checksums."""
    checksums = np.empty(len(targets), dtype=np.uint32)
    for i, (start, pieces) in enumerate(zip(layout.starts[targets].tolist(), rows, strict=True)):
        checksum = 0
        for (offset, itemsize), piece in zip(layout.extents, pieces, strict=True):
            raw.write(offset + itemsize * start, piece)
            checksum = zlib.crc32(piece.data, checksum)
        checksums[i] = checksum
    for i, target in enumerate(targets.tolist()):
        raw.write(layout.checksums + 4 * target, checksums[i : i + 1])


def mark_block(raw: RawFile, layout: Layout, block: int, *, is_written: bool) -> None:
    """Note whether a block was written; only after its rows have reached the disk."""
    raw.write(layout.is_written + block, np.array([is_written], dtype=np.uint8))
    raw.sync()


def find_damaged_rows(
    raw: RawFile,
    layout: Layout,
    rows: NDArray[np.integer] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> NDArray[np.integer]:
    """Rows whose bytes do not have the checksum that was noted when they were written.

    Parameters
    ----------
    raw
        The file.
    layout
        The array.
    rows
        Ascending rows to look at; all if ``None``.
    on_progress
        Called with the number of bytes that were read.
    """
    n_rows = len(layout.starts) - 1
    expected = raw.read(layout.checksums, np.uint32, n_rows)
    row_bytes = max(1, int(layout.row_sizes.max(initial=1)))
    damaged = []
    for first, last in _runs(np.arange(n_rows) if rows is None else rows, max(1, VERIFY_BYTES // row_bytes)):
        starts = (layout.starts[first : last + 1] - layout.starts[first]).tolist()
        checksums = [0] * (last - first)
        for offset, itemsize in layout.extents:
            found = raw.read(offset + itemsize * int(layout.starts[first]), np.uint8, itemsize * starts[-1])
            for i in range(last - first):
                row = found[itemsize * starts[i] : itemsize * starts[i + 1]]
                checksums[i] = zlib.crc32(row.data, checksums[i])
        damaged.append(first + np.flatnonzero(np.array(checksums, dtype=np.uint32) != expected[first:last]))
        if on_progress is not None:
            on_progress(int(layout.row_sizes[first:last].sum()))
    return np.concatenate(damaged) if damaged else np.empty(0, dtype=int)


def _runs(rows: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Consecutive rows as first and one past the last, at most ``most`` at a time."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for start in range(0, len(run), most):
            yield int(run[start]), int(run[min(start + most, len(run)) - 1]) + 1
