"""Read rows of an array from memory or disk, in any order and with repeats."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from petri_scvi.common._numbers import number_dtype
from petri_scvi.dataloaders._file_rows import FileRows, map_file, place_in_file
from petri_scvi.dataloaders._memory import free_bytes
from petri_scvi.dataloaders._row_reader import RowReader
from petri_scvi.dataloaders._tensorstore_rows import TensorStoreCSR, TensorStoreRows, can_read, is_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
    """Stores that require ascending rows without repeats."""

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

    def __init__(self, array: h5py.Dataset) -> None:
        super().__init__(array)
        if array.chunks is not None:
            self.advice = (
                "is stored in chunks, which HDF5 reads many times slower than a contiguous array. Convert it once: "
                "petri_scvi.io.write_training_store(mdata, 'screen.h5mu'); then "
                "mdata = petri_scvi.io.open_screen('screen.h5mu')."
            )

    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        block = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for i, row in enumerate(rows):
            self.array.read_direct(block, source_sel=np.s_[int(row)], dest_sel=np.s_[i])
        return block


class _Zarr(_OnDisk):
    """Arrays read by zarr-python: those of stores that are not folders, or all without tensorstore."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        if not is_installed():
            self.advice = (
                "lies in zarr, from which zarr-python reads single cells many times slower than tensorstore, which is "
                'not installed. Install it: pip install "petri-scvi[zarr]".'
            )

    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return np.asarray(self.array.oindex[rows], dtype=self.dtype)


class _Dask(_OnDisk):
    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        # One thread: decoding a few rows is too little work to share, and the training step needs the other cores.
        block = self.array[rows].compute(scheduler="synchronous")
        return np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=self.dtype)


class _BackedSparse(_OnDisk):
    """Sparse matrices in a backed ``.h5ad`` or zarr store."""

    def _read_ascending(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        return self.array[rows].toarray()


class _MappedCSR(RowReader):
    """CSR matrices whose values and columns are mapped into memory."""

    def __init__(self, array: Any, values: np.memmap, columns: np.memmap) -> None:
        super().__init__(array)
        self.values, self.columns = values, columns
        self.starts = array.group["indptr"][:].astype(np.int64)

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        starts = self.starts[rows]
        lengths = self.starts[np.asarray(rows) + 1] - starts
        ends = np.append(0, np.cumsum(lengths))
        # Places of all values of all rows: those of a row follow its start.
        places = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], lengths)
        values = self.values[places].astype(self.dtype, copy=False)
        shape = (len(rows), self.shape[1])
        return sparse.csr_array((values, self.columns[places], ends), shape=shape).toarray()


class ChannelReader(RowReader):
    """Some channels of image crops, in a given order, as floats with NaN if one of them is missing.

    Parameters
    ----------
    images
        Reader of crops, shape ``(n, C, H, W)``.
    positions
        Channels to keep, -1 for those that the crops do not have.
    """

    def __init__(self, images: RowReader, positions: Sequence[int]) -> None:
        self.images = images
        self.positions = list(positions)
        self.shape = (images.shape[0], len(self.positions), *images.shape[2:])
        self.is_missing = np.asarray(self.positions) < 0
        is_as_stored = images.dtype.kind == "f" or not self.is_missing.any()
        self.dtype = images.dtype if is_as_stored else np.dtype(np.float32)
        self.advice = images.advice

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Rows with the chosen channels only."""
        found = self.images.read(rows)[:, self.positions].astype(self.dtype, copy=False)
        if self.is_missing.any():
            found[:, self.is_missing] = np.nan
        return found


class ColumnReader(RowReader):
    """Some columns of a matrix as floats, in a given order, NaN where a column is missing.

    Parameters
    ----------
    matrix
        Reader of the matrix, shape ``(n, n_columns)``.
    positions
        Columns to read, -1 for those that the matrix does not have.
    """

    def __init__(self, matrix: RowReader, positions: Sequence[int]) -> None:
        self.matrix = matrix
        self.positions = np.asarray(positions, dtype=np.int64)
        self.shape = (matrix.shape[0], len(self.positions))
        self.dtype = matrix.dtype if matrix.dtype.kind == "f" else np.dtype(np.float32)
        self.advice = matrix.advice

    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Rows with the chosen columns only."""
        found = self.matrix.read(rows).astype(self.dtype, copy=False)
        if not found.shape[1]:
            return np.full((len(found), len(self.positions)), np.nan, dtype=self.dtype)
        return np.where(self.positions >= 0, found[:, self.positions], np.nan).astype(self.dtype, copy=False)


def open_rows(array: Any) -> RowReader:
    """Choose how to read rows of an array without loading it whole.

    Parameters
    ----------
    array
        ``numpy.ndarray``, ``numpy.memmap``, ``h5py.Dataset``, ``zarr.Array``, ``dask.array.Array``, a scipy sparse
        matrix, anndata's backed sparse dataset, or a table of numbers, ``pandas.DataFrame``.

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
    if isinstance(array, pd.DataFrame):
        # Integers do not have NaN, which stands for missing values of any type.
        dtype = np.result_type(number_dtype(array), np.float32)
        return _InMemory(array.to_numpy(dtype=dtype, na_value=np.nan))
    if sparse.issparse(array):
        return _InMemorySparse(array)
    if isinstance(array, h5py.Dataset):
        return _open_dataset(array)
    if isinstance(array, CSRDataset | CSCDataset):
        return _open_sparse(array)
    # zarr and dask are optional; if the array is of one of them, it has been imported already.
    library = type(array).__module__.partition(".")[0]
    if library == "zarr":
        return _open_zarr(array)
    if library == "dask":
        return _Dask(array)
    raise TypeError(
        f"cannot read rows of a {type(array).__module__}.{type(array).__qualname__}; "
        "store a numpy array, numpy.memmap, h5py.Dataset, zarr.Array, dask array or sparse matrix."
    )


def _open_dataset(dataset: h5py.Dataset) -> RowReader:
    place = place_in_file(dataset)
    if place is None:
        return _HDF5(dataset)
    # A memory map larger than memory is slow: pages of a row were dropped and are read again one by one.
    if dataset.nbytes > free_bytes() and FileRows.is_available:
        return FileRows(dataset, *place)
    return _InMemory(map_file(dataset, *place))


def _open_zarr(array: Any) -> RowReader:
    if can_read(array):
        try:
            return TensorStoreRows(array)
        except ValueError:  # a codec that tensorstore does not know
            pass
    return _Zarr(array)


def _open_sparse(matrix: Any) -> RowReader:
    parts = [matrix.group[name] for name in ("data", "indices")]
    is_csr = isinstance(matrix, CSRDataset) and all(isinstance(part, h5py.Dataset) for part in parts)
    if isinstance(matrix, CSRDataset) and not is_csr and all(map(can_read, parts)):
        return TensorStoreCSR(matrix)
    places = [place_in_file(part) for part in parts] if is_csr else []
    if not places or None in places or sum(part.nbytes for part in parts) > free_bytes():
        return _BackedSparse(matrix)
    values, columns = (map_file(part, *place) for part, place in zip(parts, places, strict=True) if place)
    return _MappedCSR(matrix, values, columns)
