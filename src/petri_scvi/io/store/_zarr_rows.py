"""The arrays of a training store in zarr: how they are cut, and their rows for the comparison with checksums."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._checks import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

EXTRA = "zarr"
CHUNKS_PER_SHARD = 1000
CHUNK_BYTES = 2**16
DECODED_BYTES = 2**22
"""Rows that are compared at once; tensorstore needs many times as much to decode them."""
CHUNK_VALUES = 2**13
"""Values of a sparse matrix that are decoded together: those of a few cells."""
WAITS_FOR_DISK = True
COMPRESSION = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}


def create_array(
    group: Any, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, n_in_chunk: int, max_bytes: int
) -> None:
    """Create an array whose shards, files of many chunks, take at most ``max_bytes`` in memory, or one chunk."""
    codecs = require("zarr.codecs", EXTRA)
    chunk_bytes = n_in_chunk * dtype.itemsize * int(np.prod(shape[1:]))
    n_in_shard = n_in_chunk * max(1, min(CHUNKS_PER_SHARD, max_bytes // max(1, chunk_bytes)))
    array = group.create_array(
        path,
        shape=shape,
        dtype=dtype,
        chunks=(n_in_chunk, *shape[1:]),
        shards=(n_in_shard, *shape[1:]),
        compressors=codecs.BloscCodec(typesize=dtype.itemsize, **COMPRESSION),
    )
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def rows_per_chunk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """One crop, or some 64 KB of shorter rows."""
    row_bytes = max(1, dtype.itemsize * int(np.prod(shape[1:])))
    return 1 if len(shape) > 2 else max(1, CHUNK_BYTES // row_bytes)


def open_array(folder: Path, path: str, *, is_writable: bool = False) -> Any:
    """Open one array with tensorstore, which writes a shard at once and waits until it is on the disk."""
    tensorstore = require("tensorstore", EXTRA)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{(folder / path).as_posix()}/"}}
    context = tensorstore.Context({"file_io_sync": WAITS_FOR_DISK})
    return tensorstore.open(spec, open=True, read=True, write=is_writable, context=context).result()


class ZarrRows:
    """Rows of one array of a store, with the bytes that they have in an ``.h5mu`` store.

    Parameters
    ----------
    folder
        The store.
    path
        The array, or the group of a sparse matrix.
    """

    def __init__(self, folder: Path, path: str, *, is_writable: bool = False) -> None:
        self.path = path
        is_sparse = (folder / path / "indptr").exists()
        self.names = [f"{path}/data", f"{path}/indices"] if is_sparse else [path]
        self.parts = [open_array(folder, name, is_writable=is_writable) for name in self.names]
        if is_sparse:
            self.starts = np.asarray(open_array(folder, f"{path}/indptr").read().result(), dtype=np.int64)
        else:
            self.starts = np.arange(self.parts[0].shape[0] + 1)
        sizes = [part.dtype.numpy_dtype.itemsize * int(np.prod(part.shape[1:])) for part in self.parts]
        self.element_bytes = sum(sizes)

    @property
    def n_rows(self) -> int:
        """Cells."""
        return len(self.starts) - 1

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows, not compressed."""
        return int(self.starts[-1]) * self.element_bytes

    def shard_of(self, part: int, elements: NDArray[np.integer]) -> NDArray[np.integer]:
        """Shard that each element of a part lies in."""
        return elements // self.shard_length(part)

    def shard_length(self, part: int) -> int:
        """Elements per shard of a part."""
        return int(self.parts[part].chunk_layout.write_chunk.shape[0])

    def n_shards(self, part: int) -> int:
        """Shards of a part."""
        return -(-int(self.parts[part].shape[0]) // self.shard_length(part))

    def find_damaged(
        self, expected: NDArray[np.uint32], on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.integer]:
        """Rows that cannot be decoded, or do not have the checksum that is expected."""
        largest = max(1, int(np.diff(self.starts).max(initial=1)) * self.element_bytes)
        step = max(1, DECODED_BYTES // largest)
        damaged = []
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            found = self._checksums(first, last)
            damaged.append(first + np.flatnonzero(found != expected[first:last]))
            if on_progress is not None:
                on_progress(int(self.starts[last] - self.starts[first]) * self.element_bytes)
        return np.concatenate(damaged) if damaged else np.empty(0, dtype=int)

    def _checksums(self, first: int, last: int) -> NDArray[np.int64]:
        """Checksum of each row; -1, which is none, where a row cannot be decoded."""
        start, stop = int(self.starts[first]), int(self.starts[last])
        try:
            pieces = [part[start:stop].read().result() for part in self.parts]
        except ValueError:  # raised by tensorstore for bytes that are not a valid chunk or shard
            if last - first == 1:
                return np.array([-1])
            middle = (first + last) // 2
            return np.concatenate([self._checksums(first, middle), self._checksums(middle, last)])
        checksums = np.zeros(last - first, dtype=np.int64)
        ends = (self.starts[first : last + 1] - start).tolist()
        for i in range(last - first):
            for piece in pieces:
                row = np.ascontiguousarray(piece[ends[i] : ends[i + 1]])
                checksums[i] = zlib.crc32(row.data.cast("B") if row.size else b"", int(checksums[i]))
        return checksums


def sync_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk."""
    for place, _, names in os.walk(folder):
        for name in [*names, "."] if os.name == "posix" else names:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY if os.name == "posix" else os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def forget_tree(folder: Path) -> None:
    """Make the next reads come from the disk instead of the page cache, if the system supports it."""
    if not hasattr(os, "posix_fadvise"):
        return
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
