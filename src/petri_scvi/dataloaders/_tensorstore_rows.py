"""Rows of arrays in zarr, read through tensorstore."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from petri_scvi.dataloaders._row_reader import RowReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_REQUESTS = 32
"""Number of concurrent requests to the disk."""


@cache
def is_installed() -> bool:
    """Whether tensorstore can be imported; it is not imported before an array is opened."""
    return importlib.util.find_spec("tensorstore") is not None


def can_read(array: Any) -> bool:
    """Whether a ``zarr.Array`` lies in a folder, and can be opened by tensorstore."""
    return (
        is_installed() and isinstance(getattr(array.store, "root", None), Path) and np.dtype(array.dtype).kind in "buif"
    )


def open_store(array: Any) -> Any:
    """The same array, opened by tensorstore."""
    import tensorstore

    return tensorstore.open(
        {
            "driver": "zarr3" if array.metadata.zarr_format == 3 else "zarr",
            "kvstore": {"driver": "file", "path": f"{(array.store.root / array.path).as_posix()}/"},
        },
        read=True,
        context=tensorstore.Context({"file_io_concurrency": {"limit": N_REQUESTS}}),
    ).result()


def read_batch(requests: list[Any]) -> list[NDArray[Any]]:
    """Read parts of stores together: parts of a shard share its index, and neighbouring parts one request."""
    import tensorstore

    with tensorstore.Batch() as batch:
        futures = [request.read(batch=batch) for request in requests]
    return [future.result() for future in futures]


class TensorStoreRows(RowReader):
    """Rows of a dense zarr array; a minibatch is one batch of concurrent reads.

    Its threads do not survive a fork: start processes with "spawn" or "forkserver".

    Parameters
    ----------
    array
        A ``zarr.Array`` in a folder.
    """

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.store = open_store(array)

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Dense rows in the order asked for, with repeats."""
        if not len(rows):
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        unique, inverse = np.unique(rows, return_inverse=True)
        (block,) = read_batch([self.store[unique]])
        if len(unique) < len(rows) or np.any(np.diff(rows) < 0):
            block = block[inverse]
        return np.asarray(block, dtype=self.dtype)


class TensorStoreCSR(RowReader):
    """Rows of a CSR matrix in zarr.

    Parameters
    ----------
    matrix
        anndata's sparse dataset, whose parts are arrays in a folder.
    """

    def __init__(self, matrix: Any) -> None:
        super().__init__(matrix)
        self.values, self.columns = (open_store(matrix.group[name]) for name in ("data", "indices"))
        self.starts = np.asarray(matrix.group["indptr"][:], dtype=np.int64)

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Dense rows in the order asked for, with repeats."""
        unique, inverse = np.unique(rows, return_inverse=True)
        runs = np.split(unique, np.flatnonzero(np.diff(unique) != 1) + 1) if len(unique) else []
        # Neighbouring rows are requested together, so that reading a matrix in order needs few requests.
        places = [slice(int(self.starts[run[0]]), int(self.starts[run[-1] + 1])) for run in runs]
        places = [place for place in places if place.start < place.stop]
        found = read_batch([part[place] for part in (self.values, self.columns) for place in places])
        lengths = self.starts[unique + 1] - self.starts[unique]
        values = np.concatenate([np.empty(0, self.dtype), *found[: len(places)]]).astype(self.dtype, copy=False)
        columns = np.concatenate([np.empty(0, np.int32), *found[len(places) :]])
        shape = (len(unique), self.shape[1])
        return sparse.csr_array((values, columns, np.append(0, np.cumsum(lengths))), shape=shape).toarray()[inverse]
