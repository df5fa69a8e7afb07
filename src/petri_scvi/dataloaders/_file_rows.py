"""Rows that lie one after another in a plain file."""

from __future__ import annotations

import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi.dataloaders._row_reader import RowReader

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

N_THREADS = 8
"""Number of concurrent requests to the disk."""
MAX_RUN = 512
"""Rows per request; the system takes 1,024 buffers at most."""


def place_in_file(dataset: h5py.Dataset) -> tuple[str, int] | None:
    """File and offset of a contiguous, uncompressed dataset in a plain file; ``None`` if it is anything else."""
    offset = dataset.id.get_offset()  # that of the file, a user block included
    # A relative name becomes wrong when the working directory changes.
    if offset is None or dataset.file.driver != "sec2" or not os.path.exists(dataset.file.filename):
        return None
    if dataset.file.mode != "r":
        dataset.file.flush()
    return dataset.file.filename, offset


def map_file(dataset: h5py.Dataset, path: str, offset: int) -> np.memmap:
    """Memory map of a dataset."""
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


class FileRows(RowReader):
    """Rows of a file that is larger than memory.

    A memory map requests one page at a time and waits for it. Here several threads request whole rows, neighbouring
    rows together.

    Parameters
    ----------
    array
        The dataset, for its shape and dtype.
    path
        Its file.
    offset
        Its first byte.
    """

    is_available = hasattr(os, "preadv")

    def __init__(self, array: h5py.Dataset, path: str, offset: int) -> None:
        super().__init__(array)
        self.offset = offset
        self.row_bytes = array.dtype.itemsize * int(np.prod(self.shape[1:]))
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        if hasattr(os, "posix_fadvise"):
            # Rows are drawn at random, so reading ahead is useless.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Dense rows in the order asked for, with repeats."""
        block = np.empty((len(rows), *self.shape[1:]), dtype=self.array.dtype)
        if not block.size:
            return block.astype(self.dtype, copy=False)
        order = np.argsort(rows, kind="stable")
        ascending = np.asarray(rows)[order]
        is_first = np.append(True, np.diff(ascending) != 0)
        unique, targets = ascending[is_first], order[is_first]
        buffers = block.reshape(len(rows), -1).view(np.uint8)
        shares = np.array_split(np.arange(len(unique)), min(N_THREADS, len(unique)))
        list(_threads(os.getpid()).map(lambda share: self._read_share(buffers, unique[share], targets[share]), shares))
        repeats = np.cumsum(is_first)[~is_first] - 1
        block[order[~is_first]] = block[targets[repeats]]
        return block.astype(self.dtype, copy=False)

    def _read_share(self, buffers: NDArray[np.uint8], rows: NDArray[np.integer], targets: NDArray[np.integer]) -> None:
        """Read ascending rows without repeats, each into its buffer."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = [0, *breaks.tolist(), len(rows)]
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            for start in range(first, last, MAX_RUN):
                stop = min(start + MAX_RUN, last)
                self._read_run(int(rows[start]), [buffers[i].data for i in targets[start:stop].tolist()])

    def _read_run(self, row: int, buffers: list[memoryview]) -> None:
        """Read neighbouring rows."""
        place = self.offset + row * self.row_bytes
        while buffers:
            n_read = os.preadv(self._descriptor, buffers, place)
            if not n_read:
                where = f"{self.array.file.filename} ends before row {row} of {self.array.name}"
                raise OSError(f"{where}: it was cut off. Write it again from its source.")
            place += n_read
            while buffers and n_read >= len(buffers[0]):
                n_read -= len(buffers.pop(0))
            if buffers and n_read:
                buffers[0] = buffers[0][n_read:]


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of a process; those of its parent do not exist after a fork."""
    return ThreadPoolExecutor(N_THREADS, thread_name_prefix="petri_scvi-read")
