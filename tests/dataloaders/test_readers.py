"""Every store gives the rows that numpy gives, and none is read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from petri_scvi._compat import tables_in_zarr_v3
from petri_scvi.dataloaders import (
    ChannelReader,
    ColumnReader,
    RowReader,
    _readers,
    _row_reader,
    _tensorstore_rows,
    open_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = np.array([7, 0, 7, 3, 19, 3])
"""Neither ascending nor unique."""
IMAGES = np.random.default_rng(0).integers(0, 60_000, (20, 2, 3, 4)).astype("uint16")
COUNTS = np.random.default_rng(1).poisson(0.5, (20, 6)).astype("float32")


class Stores:
    """Writes an array to a store of each kind and opens it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[Any] = []

    def numpy(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()

    def memmap(self, array: NDArray[Any]) -> np.memmap:
        path = self.folder / "rows.bin"
        array.tofile(path)
        return np.memmap(path, dtype=array.dtype, mode="r", shape=array.shape)

    def h5py_contiguous(self, array: NDArray[Any], **settings: Any) -> h5py.Dataset:
        path = self.folder / "rows.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("before", data=np.arange(3))
            file.create_dataset("rows", data=array, **settings)
        self.opened.append(h5py.File(path, "r"))
        return self.opened[-1]["rows"]

    def h5py_chunked(self, array: NDArray[Any]) -> h5py.Dataset:
        return self.h5py_contiguous(array, chunks=(1, *array.shape[1:]), compression="gzip")

    def h5py_in_large_chunks(self, array: NDArray[Any]) -> h5py.Dataset:
        return self.h5py_contiguous(array, chunks=(8, *array.shape[1:]))

    def h5py_memory(self, array: NDArray[Any]) -> h5py.Dataset:
        self.opened.append(h5py.File("nowhere.h5", "w", driver="core", backing_store=False))
        return self.opened[-1].create_dataset("rows", data=array)

    def h5py_after_userblock(self, array: NDArray[Any]) -> h5py.Dataset:
        self.opened.append(h5py.File(self.folder / "block.h5", "w", userblock_size=512))
        return self.opened[-1].create_dataset("rows", data=array)

    def zarr(self, array: NDArray[Any]) -> Any:
        zarr = pytest.importorskip("zarr")
        return zarr.create_array(self.folder / "rows.zarr", data=array, chunks=(1, *array.shape[1:]))

    def zarr_sharded(self, array: NDArray[Any]) -> Any:
        zarr = pytest.importorskip("zarr")
        shape = array.shape[1:]
        return zarr.create_array(self.folder / "rows.zarr", data=array, chunks=(1, *shape), shards=(5, *shape))

    def zarr_in_memory(self, array: NDArray[Any]) -> Any:
        zarr = pytest.importorskip("zarr")
        return zarr.create_array(zarr.storage.MemoryStore(), data=array, chunks=(3, *array.shape[1:]))

    def zarr_v2(self, array: NDArray[Any]) -> Any:
        zarr = pytest.importorskip("zarr")
        return zarr.create_array(self.folder / "v2.zarr", data=array, chunks=(3, *array.shape[1:]), zarr_format=2)

    def zarr_csr(self, array: NDArray[Any]) -> Any:
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(self.folder / "csr.zarr", mode="w", zarr_format=3)
        with tables_in_zarr_v3():
            anndata.io.write_elem(group, "X", sparse.csr_matrix(array))
        return anndata.io.sparse_dataset(zarr.open_group(self.folder / "csr.zarr", mode="r")["X"])

    def dask(self, array: NDArray[Any]) -> Any:
        return pytest.importorskip("dask.array").from_array(array, chunks=(4, *array.shape[1:]))

    def dask_sparse(self, array: NDArray[Any]) -> Any:
        return self.dask(array).map_blocks(sparse.csr_matrix)

    def csr(self, array: NDArray[Any]) -> Any:
        return sparse.csr_matrix(array)

    def csr_array(self, array: NDArray[Any]) -> Any:
        return sparse.csr_array(array)

    def csc(self, array: NDArray[Any]) -> Any:
        return sparse.csc_matrix(array)

    def backed_csr(self, array: NDArray[Any]) -> Any:
        return self._backed(sparse.csr_matrix(array))

    def backed_csc(self, array: NDArray[Any]) -> Any:
        return self._backed(sparse.csc_matrix(array))

    def _backed(self, matrix: Any) -> Any:
        path = self.folder / "rows.h5ad"
        anndata.AnnData(matrix).write_h5ad(path)
        adata = anndata.read_h5ad(path, backed="r")
        self.opened.append(adata.file)
        return adata.X


DENSE = [
    *(
        "numpy",
        "memmap",
        "h5py_contiguous",
        "h5py_chunked",
        "h5py_in_large_chunks",
        "h5py_memory",
        "h5py_after_userblock",
    ),
    *("zarr", "zarr_sharded", "zarr_in_memory", "zarr_v2", "dask"),
]
SPARSE = ["csr", "csr_array", "csc", "backed_csr", "backed_csc", "zarr_csr", "dask_sparse"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[[str, NDArray[Any]], Any]]:
    stores = Stores(tmp_path)
    yield lambda kind, array: getattr(stores, kind)(array)
    for file in stores.opened:
        file.close()


@pytest.mark.parametrize(
    ("kind", "array"), [*((kind, IMAGES) for kind in DENSE), *((kind, COUNTS) for kind in DENSE + SPARSE)]
)
def test_rows_come_in_the_order_asked_for_with_repeats_and_their_own_dtype(
    store: Callable[..., Any], kind: str, array: NDArray[Any]
) -> None:
    reader = open_rows(store(kind, array))
    rows = reader.read(ROWS)
    assert type(rows) is np.ndarray
    assert rows.dtype == array.dtype == reader.dtype
    np.testing.assert_array_equal(rows, array[ROWS])
    assert reader.shape == array.shape
    assert len(reader) == 20


@pytest.mark.parametrize("kind", DENSE + SPARSE)
def test_no_rows_are_an_empty_block(store: Callable[..., Any], kind: str) -> None:
    assert open_rows(store(kind, COUNTS)).read(np.array([], dtype=int)).shape == (0, 6)


@pytest.mark.parametrize("kind", DENSE + SPARSE)
def test_what_was_read_may_be_changed_without_changing_the_store(store: Callable[..., Any], kind: str) -> None:
    reader = open_rows(store(kind, COUNTS))
    reader.read(np.array([2, 3]))[:] = 99
    np.testing.assert_array_equal(reader.read(np.array([2, 3])), COUNTS[2:4])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["numpy", "memmap", "h5py_contiguous", "h5py_chunked", "zarr", "dask"])
def test_integers_and_half_precision_stay_as_they_were_captured(
    store: Callable[..., Any], kind: str, dtype: str
) -> None:
    assert open_rows(store(kind, COUNTS.astype(dtype))).read(ROWS).dtype == dtype


def test_chunks_are_the_same_rows_in_pieces() -> None:
    pieces = list(open_rows(COUNTS).chunks(ROWS, chunk_size=4))
    assert [len(piece) for piece in pieces] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(pieces), COUNTS[ROWS])
    assert list(open_rows(COUNTS).chunks(ROWS[:0])) == []


def test_chunks_of_large_crops_hold_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_row_reader, "CHUNK_BYTES", 3 * COUNTS[0].nbytes)
    assert [len(piece) for piece in open_rows(COUNTS).chunks(ROWS)] == [3, 3]
    monkeypatch.setattr(_row_reader, "CHUNK_BYTES", 1)
    assert [len(piece) for piece in open_rows(COUNTS).chunks(ROWS)] == [1] * 6


# Nothing is read whole


@pytest.mark.parametrize("kind", ["h5py_contiguous", "h5py_after_userblock", "memmap"])
def test_a_contiguous_hdf5_dataset_is_mapped_into_memory(store: Callable[..., Any], kind: str) -> None:
    """Behind a user block, too: mudata writes one."""
    assert isinstance(open_rows(store(kind, IMAGES)).array, np.memmap)


@pytest.mark.parametrize("kind", ["h5py_chunked", "h5py_in_large_chunks", "h5py_memory"])
def test_any_other_hdf5_dataset_is_not_mapped(store: Callable[..., Any], kind: str) -> None:
    assert isinstance(open_rows(store(kind, IMAGES)).array, h5py.Dataset)


def test_chunked_hdf5_is_read_row_by_row_each_row_once(
    store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_rows(store("h5py_chunked", IMAGES))
    read = []
    direct = h5py.Dataset.read_direct

    def recorded(self: h5py.Dataset, block: Any, source_sel: Any, dest_sel: Any) -> None:
        read.append(source_sel)
        direct(self, block, source_sel, dest_sel)

    monkeypatch.setattr(h5py.Dataset, "read_direct", recorded)
    monkeypatch.delattr(h5py.Dataset, "__getitem__")
    np.testing.assert_array_equal(reader.read(ROWS), IMAGES[ROWS])
    assert read == [0, 3, 7, 19]


def test_of_a_zarr_array_only_the_chunks_of_the_rows_are_fetched() -> None:
    zarr = pytest.importorskip("zarr")
    fetched = []

    class Recording(zarr.storage.MemoryStore):  # type: ignore[name-defined]
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            fetched.append(key)
            return await super().get(key, *args, **kwargs)

    array = zarr.create_array(Recording(), shape=IMAGES.shape, dtype=IMAGES.dtype, chunks=(1, *IMAGES.shape[1:]))
    array[:] = IMAGES
    reader = open_rows(array)
    fetched.clear()
    np.testing.assert_array_equal(reader.read(ROWS), IMAGES[ROWS])
    assert sorted(int(key.split("/")[1]) for key in fetched) == [0, 3, 7, 19]


@pytest.mark.parametrize("kind", ["zarr", "zarr_sharded", "zarr_csr"])
def test_zarr_is_read_in_one_batch_of_tensorstore_each_row_once(
    store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip("tensorstore")
    reader, batches = open_rows(store(kind, COUNTS)), []
    read = _tensorstore_rows.read_batch

    def recorded(requests: list[Any]) -> Any:
        batches.append([request.domain.size for request in requests])
        return read(requests)

    monkeypatch.setattr(_tensorstore_rows, "read_batch", recorded)
    np.testing.assert_array_equal(reader.read(ROWS), COUNTS[ROWS])
    n_values = [np.count_nonzero(COUNTS[row]) for row in (0, 3, 7, 19)]
    assert batches == ([n_values * 2] if kind == "zarr_csr" else [[4 * 6]])


@pytest.mark.parametrize("kind", ["zarr_sharded", "zarr_csr"])
def test_without_tensorstore_zarr_is_read_all_the_same(
    store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for module in (_readers, _tensorstore_rows):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    reader = open_rows(store(kind, COUNTS))
    assert not type(reader).__module__.endswith("_tensorstore_rows")
    np.testing.assert_array_equal(reader.read(ROWS), COUNTS[ROWS])


def test_zarr_of_a_codec_that_tensorstore_does_not_know_is_read_by_zarr(tmp_path: Path) -> None:
    zarr, numcodecs = pytest.importorskip("zarr"), pytest.importorskip("numcodecs")
    filters = [numcodecs.Delta(dtype="u2")]
    array = zarr.create_array(tmp_path / "z", data=IMAGES, chunks=(3, 2, 3, 4), zarr_format=2, filters=filters)
    reader = open_rows(array)
    assert isinstance(reader, _readers._Zarr)
    assert reader.advice is None or not _tensorstore_rows.is_installed()
    np.testing.assert_array_equal(reader.read(ROWS), IMAGES[ROWS])


def test_empty_rows_of_counts_in_zarr_are_empty(store: Callable[..., Any]) -> None:
    counts = COUNTS.copy()
    counts[[0, 3, 4]] = 0
    for values in (counts, np.zeros_like(counts)):
        reader = open_rows(store("zarr_csr", values))
        np.testing.assert_array_equal(reader.read(np.arange(20)), values)
        np.testing.assert_array_equal(reader.read(np.array([4, 0])), values[[4, 0]])


def test_of_a_dask_array_only_the_chunks_of_the_rows_are_computed() -> None:
    dask_array = pytest.importorskip("dask.array")
    computed = []

    def block_of(block_info: Any = None) -> NDArray[Any]:
        (start, stop), *_ = block_info[None]["array-location"]
        computed.append(start)
        return IMAGES[start:stop]

    array = dask_array.map_blocks(
        block_of, chunks=((4,) * 5, *((size,) for size in IMAGES.shape[1:])), dtype=IMAGES.dtype, meta=IMAGES[:0]
    )
    reader = open_rows(array)
    computed.clear()
    np.testing.assert_array_equal(reader.read(ROWS), IMAGES[ROWS])
    assert sorted(computed) == [0, 4, 16]


def test_a_backed_csr_matrix_is_not_loaded(store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = store("backed_csr", COUNTS)
    reader = open_rows(matrix)
    assert reader.array is matrix
    n_read = 0
    getitem = h5py.Dataset.__getitem__

    def recorded(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_read
        values = getitem(self, *args, **kwargs)
        n_read += np.size(values) if self.name == "/X/data" else 0
        return values

    def refused(*_: Any) -> None:
        raise AssertionError("loaded whole")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
    monkeypatch.setattr(type(matrix), "to_memory", refused)
    np.testing.assert_array_equal(reader.read(ROWS), COUNTS[ROWS])
    assert n_read == np.count_nonzero(COUNTS[np.unique(ROWS)])


def test_scipy_matrices_are_converted_to_csr_once(store: Callable[..., Any]) -> None:
    assert open_rows(store("csc", COUNTS)).array.format == "csr"
    matrix = store("csr", COUNTS)
    assert np.shares_memory(open_rows(matrix).array.data, matrix.data)


# The rest


def test_a_reader_is_taken_as_it_is() -> None:
    reader = open_rows(COUNTS)
    assert open_rows(reader) is reader


@pytest.mark.parametrize(("array", "name"), [([[1, 2]], "builtins.list"), (anndata.AnnData(COUNTS), "AnnData")])
def test_an_unknown_kind_is_refused_by_name(array: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"cannot read rows of a .*{name}; store a numpy array"):
        open_rows(array)


def test_a_pandas_table_is_read_as_floats_with_nan_for_missing_values() -> None:
    table = pd.DataFrame({"area": pd.array([3, None], dtype="Int64"), "round": [1, 2]})
    reader = open_rows(table)
    np.testing.assert_array_equal(reader.read(np.array([1, 0])), [[np.nan, 2], [3, 1]])
    assert reader.dtype == np.float64


def test_columns_are_read_by_position_and_missing_ones_are_nan() -> None:
    reader = ColumnReader(open_rows(COUNTS), [2, -1])
    found = reader.read(np.array([1, 0, 1]))
    np.testing.assert_array_equal(found[:, 0], COUNTS[[1, 0, 1], 2])
    assert np.isnan(found[:, 1]).all()
    assert found.dtype == reader.dtype


def test_channels_are_chosen_in_the_order_given() -> None:
    images = np.arange(20 * 3 * 2 * 2, dtype="uint16").reshape(20, 3, 2, 2)
    reader = ChannelReader(open_rows(images), [2, 0])
    assert reader.shape == (20, 2, 2, 2)
    assert reader.dtype == np.uint16
    assert len(reader) == 20
    np.testing.assert_array_equal(reader.read(ROWS), images[ROWS][:, [2, 0]])
    assert isinstance(reader, RowReader)
    assert open_rows(reader) is reader


def test_rows_of_big_endian_arrays_come_in_the_order_torch_reads() -> None:
    images = np.arange(24, dtype=">u2").reshape(6, 4)
    rows = open_rows(images).read(np.array([5, 0]))
    assert rows.dtype == np.dtype("uint16")
    assert rows.dtype.isnative
    np.testing.assert_array_equal(rows, images[[5, 0]])
