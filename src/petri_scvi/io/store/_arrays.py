"""The arrays of a training store: what they are made of, and their rows as they will be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from petri_scvi.common._numbers import check_float32
from petri_scvi.io.store._file import create_contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import h5py
    from numpy.typing import NDArray

    Block = tuple[int, int, int]
    """Source, first row and one past the last row."""


class StoredArray(ABC):
    """One array of the store, put together from one array per source.

    Parameters
    ----------
    path
        Its place in the file.
    sources
        Arrays with cells along the first axis.
    """

    dtype: np.dtype[Any]

    def __init__(self, path: str, sources: Sequence[Any]) -> None:
        self.path = path
        self.sources = list(sources)
        self.n_rows = sum(source.shape[0] for source in self.sources)

    def check_range(self, max_bytes: int) -> None:
        """Require values that float32 can hold; only arrays of float64 are read for that."""
        if self.dtype.kind == "f" and self.dtype.itemsize > 4:
            for block in self.blocks(max_bytes):
                check_float32(self.values(block), self.path)

    @abstractmethod
    def values(self, block: Block) -> NDArray[Any]:
        """Stored values of a block."""

    @abstractmethod
    def describe(self) -> list[Any]:
        """What must be equal for an interrupted call to be resumed."""

    @abstractmethod
    def create(self, file: h5py.File, order: NDArray[np.integer]) -> None:
        """Create the array in the file, its rows in the order given."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """Bytes in the file."""

    @abstractmethod
    def row_bytes(self) -> list[NDArray[np.integer]]:
        """Bytes that each row takes in memory when it is read, per source."""

    @abstractmethod
    def read(self, block: Block) -> Iterator[list[NDArray[Any]]]:
        """Pieces of each row of a block, as they are stored."""

    def blocks(self, max_bytes: int) -> list[Block]:
        """Consecutive rows that take at most ``max_bytes`` in memory; chunks of the source are split only if needed."""
        blocks = []
        for i, (source, row_bytes) in enumerate(zip(self.sources, self.row_bytes(), strict=True)):
            ends = np.append(0, np.cumsum(row_bytes))
            # Last rows of chunks; dask's may differ in length, those of h5py and zarr do not.
            chunks = (getattr(source, "chunks", None) or (1,))[0]
            chunk_ends = np.cumsum(chunks) if not isinstance(chunks, int) else None
            start = 0
            while start < len(row_bytes):
                stop = int(np.searchsorted(ends, ends[start] + max_bytes, side="right")) - 1
                if stop < len(row_bytes):
                    whole = stop - stop % chunks if chunk_ends is None else _last_end(chunk_ends, stop)
                    stop = whole if whole > start else stop
                stop = max(stop, start + 1)
                blocks.append((i, start, stop))
                start = stop
        return blocks


class DenseArray(StoredArray):
    """Rows as they are."""

    def __init__(self, path: str, sources: Sequence[Any]) -> None:
        super().__init__(path, sources)
        self.dtype = np.result_type(*(np.dtype(source.dtype) for source in self.sources)).newbyteorder("=")
        self.row_shape = tuple(self.sources[0].shape[1:])

    def values(self, block: Block) -> NDArray[Any]:
        source, start, stop = block
        return _dense(self.sources[source], start, stop)

    def describe(self) -> list[Any]:
        return [self.path, self.n_rows, list(self.row_shape), str(self.dtype)]

    def create(self, file: h5py.File, order: NDArray[np.integer]) -> None:
        group, _, name = self.path.rpartition("/")
        create_contiguous(file.require_group(group or "/"), name, (self.n_rows, *self.row_shape), self.dtype)

    @property
    def n_bytes(self) -> int:
        return self.n_rows * int(np.prod(self.row_shape)) * self.dtype.itemsize

    def row_bytes(self) -> list[NDArray[np.integer]]:
        return [
            np.full(source.shape[0], np.dtype(source.dtype).itemsize * int(np.prod(source.shape[1:])))
            for source in self.sources
        ]

    def read(self, block: Block) -> Iterator[list[NDArray[Any]]]:
        source, start, stop = block
        for row in _dense(self.sources[source], start, stop):
            yield [np.ascontiguousarray(self.stored(row))]

    def stored(self, row: NDArray[Any]) -> NDArray[Any]:
        """One row as it is stored."""
        return row.astype(self.dtype, copy=False)


class Images(DenseArray):
    """Integer crops of chosen channels.

    Parameters
    ----------
    path, sources
        As for every array.
    channels
        Positions of the channels to keep, per source.
    """

    def __init__(self, path: str, sources: Sequence[Any], channels: Sequence[Sequence[int]]) -> None:
        super().__init__(path, sources)
        self.channels = [list(positions) for positions in channels]
        self.row_shape = (len(self.channels[0]), *self.row_shape[1:])
        self.is_scaled = self.dtype.kind == "f"
        if self.is_scaled:
            self.dtype = np.dtype(np.uint16)
        self.largest = np.iinfo(self.dtype).max

    def describe(self) -> list[Any]:
        return [*super().describe(), self.channels]

    def read(self, block: Block) -> Iterator[list[NDArray[Any]]]:
        source, start, stop = block
        positions = self.channels[source]
        is_all = positions == list(range(self.sources[source].shape[1]))
        for row in _dense(self.sources[source], start, stop):
            yield [np.ascontiguousarray(self.stored(row if is_all else row[positions]))]

    def stored(self, row: NDArray[Any]) -> NDArray[Any]:
        if not self.is_scaled:
            return super().stored(row)
        pixels = row.astype(np.float32)
        # Not "or": NaN fails every comparison.
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"the images for {self.path} are floats from {pixels.min():.4g} to {pixels.max():.4g}; expected floats "
                "in [0, 1], as scPortrait writes them, or integers as captured. Rescale them, or keep the integers."
            )
        return np.rint(pixels * np.float32(self.largest)).astype(self.dtype)


class SparseMatrix(StoredArray):
    """Rows in CSR."""

    def __init__(self, path: str, sources: Sequence[Any]) -> None:
        super().__init__(path, [source.tocsr() if sparse.issparse(source) else source for source in sources])
        self.n_columns = int(self.sources[0].shape[1])
        self.dtype = np.result_type(*(np.dtype(source.dtype) for source in self.sources)).newbyteorder("=")
        self.n_values: list[NDArray[np.int64]] = []

    def values(self, block: Block) -> NDArray[Any]:
        source, start, stop = block
        return np.asarray(_csr(self.sources[source], start, stop).data)

    def describe(self) -> list[Any]:
        n_values = [int(n.sum()) for n in self._count()]
        return [self.path, self.n_rows, self.n_columns, str(self.dtype), n_values]

    def _count(self) -> list[NDArray[np.int64]]:
        if not self.n_values:
            self.n_values = [_n_values(source) for source in self.sources]
        return self.n_values

    def create(self, file: h5py.File, order: NDArray[np.integer]) -> None:
        group = file.require_group(self.path)
        shape = np.array([self.n_rows, self.n_columns])
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        indptr = np.append(0, np.cumsum(np.concatenate(self._count())[order]))
        create_contiguous(group, "indptr", indptr.shape, np.int64)[:] = indptr
        create_contiguous(group, "indices", (indptr[-1],), np.int32)
        create_contiguous(group, "data", (indptr[-1],), self.dtype)

    @property
    def n_bytes(self) -> int:
        return sum(int(n.sum()) for n in self._count()) * (self.dtype.itemsize + 4)

    def row_bytes(self) -> list[NDArray[np.integer]]:
        # Columns may come as int64; a dense source takes whole rows.
        return [
            counts * (source.dtype.itemsize + 8)
            if sparse.issparse(source) or isinstance(source, CSRDataset)
            else np.full(len(counts), self.n_columns * source.dtype.itemsize) + counts * (source.dtype.itemsize + 8)
            for source, counts in zip(self.sources, self._count(), strict=True)
        ]

    def read(self, block: Block) -> Iterator[list[NDArray[Any]]]:
        source, start, stop = block
        rows = _csr(self.sources[source], start, stop)
        values, columns = rows.data.astype(self.dtype, copy=False), rows.indices.astype(np.int32, copy=False)
        for first, last in zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True):
            yield [values[first:last], columns[first:last]]


COUNT_BYTES = 2**25


def _last_end(ends: NDArray[np.integer], row: int) -> int:
    """Largest end of a chunk that is not beyond a row."""
    return int(np.append(0, ends)[np.searchsorted(ends, row, side="right")])


def _dense(source: Any, start: int, stop: int) -> NDArray[Any]:
    rows = source[start:stop]
    rows = rows.compute(scheduler="synchronous") if hasattr(rows, "compute") else rows  # dask
    return np.asarray(rows)


def _csr(source: Any, start: int, stop: int) -> Any:
    if sparse.issparse(source) or isinstance(source, CSRDataset):
        return source[start:stop]
    rows = source[start:stop]
    rows = rows.compute(scheduler="synchronous") if hasattr(rows, "compute") else rows
    return sparse.csr_array(rows)


def _n_values(source: Any) -> NDArray[np.int64]:
    """Stored values of each row."""
    if isinstance(source, CSRDataset):
        return np.diff(source.group["indptr"][:]).astype(np.int64)
    if sparse.issparse(source):
        return np.diff(source.indptr).astype(np.int64)
    if isinstance(source, CSCDataset):
        raise ValueError(
            "a matrix on disk is in CSC, whose rows cannot be read one by one. Read it and convert it first: "
            "adata.X = adata.X.to_memory().tocsr()."
        )
    step = max(1, COUNT_BYTES // max(1, source.shape[1] * source.dtype.itemsize))
    counts = [np.diff(_csr(source, i, i + step).indptr) for i in range(0, source.shape[0], step)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *counts]).astype(np.int64)
