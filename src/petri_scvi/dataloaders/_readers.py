"""Read rows of an array from memory or disk, in any order and with repeats."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK_BYTES = 2**25


class RowReader(ABC):
    """Rows of one array.

    Parameters
    ----------
    array
        Something with ``shape`` and ``dtype`` whose first axis is cells.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")  # torch reads the machine's byte order only

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Dense rows in the order asked for, with repeats; shape ``(len(rows), ...)``, the array's dtype."""

    def chunks(self, rows: NDArray[np.integer], chunk_size: int | None = None) -> Iterator[NDArray[Any]]:
        """The same rows in pieces of at most ``chunk_size``; by default of at most 32 MB."""
        if chunk_size is None:
            # In bytes, not in rows: a thousand large crops, cast to float64 for a sum, are gigabytes.
            n_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
            chunk_size = max(1, CHUNK_BYTES // max(1, n_bytes))
        for start in range(0, len(rows), chunk_size):
            yield self.read(rows[start : start + chunk_size])


class _InMemory(RowReader):
    """numpy arrays and memory maps: only the rows asked for are touched."""

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return np.asarray(self.array[rows], dtype=self.dtype)


class _InMemorySparse(RowReader):
    """scipy sparse matrices, as CSR: other layouts would be scanned for every minibatch."""

    def __init__(self, array: Any) -> None:
        super().__init__(sparse.csr_array(array))

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return self.array[rows].toarray()


class _OnDisk(RowReader):
    """Stores that want ascending rows without repeats."""

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        unique, inverse = np.unique(rows, return_inverse=True)
        return self._read_ascending(unique)[inverse]

    @abstractmethod
    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Rows in ascending order, without repeats."""


class _HDF5(_OnDisk):
    """Chunked or compressed HDF5: one direct read per row.

    h5py's fancy indexing is an order of magnitude slower, since it builds one selection of all rows.
    """

    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        block = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for i, row in enumerate(rows):
            self.array.read_direct(block, source_sel=np.s_[int(row)], dest_sel=np.s_[i])
        return block


class _Zarr(_OnDisk):
    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return np.asarray(self.array.oindex[rows], dtype=self.dtype)


class _Dask(_OnDisk):
    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        # One thread: decoding a few rows is too little work to share, and the training step wants the other cores.
        block = self.array[rows].compute(scheduler="synchronous")
        return np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=self.dtype)


class _BackedSparse(_OnDisk):
    """Sparse matrices in a backed ``.h5ad`` or zarr store."""

    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return self.array[rows].toarray()


class ChannelReader(RowReader):
    """Some channels of image crops, in an order of their own.

    Parameters
    ----------
    images
        Reader of crops, shape ``(n, C, H, W)``.
    positions
        Channels to keep.
    """

    def __init__(self, images: RowReader, positions: Sequence[int]) -> None:
        self.images = images
        self.positions = list(positions)
        self.shape = (images.shape[0], len(self.positions), *images.shape[2:])
        self.dtype = images.dtype

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Rows with the chosen channels only."""
        return self.images.read(rows)[:, self.positions]


def open_rows(array: Any) -> RowReader:
    """Choose how to read rows of an array without loading it whole.

    Parameters
    ----------
    array
        ``numpy.ndarray``, ``numpy.memmap``, ``h5py.Dataset``, ``zarr.Array``, ``dask.array.Array``, a scipy sparse
        matrix or anndata's backed sparse dataset.

    Returns
    -------
    The reader.

    Raises
    ------
    TypeError
        The array is of another kind.
    """
    if isinstance(array, RowReader):
        return array
    if isinstance(array, np.ndarray):
        return _InMemory(array)
    if sparse.issparse(array):
        return _InMemorySparse(array)
    if isinstance(array, h5py.Dataset):
        return _InMemory(mapped) if (mapped := _map_contiguous(array)) is not None else _HDF5(array)
    if isinstance(array, CSRDataset | CSCDataset):
        return _BackedSparse(array)
    # zarr and dask are optional: whoever holds such an array has imported them already.
    library = type(array).__module__.partition(".")[0]
    if library == "zarr":
        return _Zarr(array)
    if library == "dask":
        return _Dask(array)
    raise TypeError(
        f"cannot read rows of a {type(array).__module__}.{type(array).__qualname__}; "
        "store a numpy array, numpy.memmap, h5py.Dataset, zarr.Array, dask array or sparse matrix."
    )


def _map_contiguous(dataset: h5py.Dataset) -> np.memmap | None:
    """Memory map of a contiguous, uncompressed dataset in a plain file; ``None`` if it is anything else."""
    offset = dataset.id.get_offset()
    # A relative name no longer leads to the file once the working directory has changed.
    is_plain = dataset.file.driver == "sec2" and os.path.exists(dataset.file.filename)
    if offset is None or not is_plain:
        return None
    dataset.file.flush()
    return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)
