"""Files that are larger than the free memory are read without being mapped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from anndata.io import sparse_dataset
from scipy import sparse

from petri_scvi.dataloaders import _file_rows, _memory, _readers, open_rows
from petri_scvi.dataloaders._file_rows import FileRows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not FileRows.is_available, reason="the system has no preadv")
N_ROWS = 700
IMAGES = np.random.default_rng(0).integers(0, 60_000, (N_ROWS, 2, 3, 4)).astype("uint16")
COUNTS = np.random.default_rng(1).poisson(0.5, (N_ROWS, 6)).astype("float32")


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[h5py.Dataset]:
    with h5py.File(tmp_path / "rows.h5", "w", userblock_size=512) as file:
        file["before"] = np.arange(3)
        file["rows"] = IMAGES
        file["swapped"] = IMAGES.astype(">u2")
    with h5py.File(tmp_path / "rows.h5") as file:
        yield file["rows"]


@pytest.fixture
def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "free_bytes", lambda: IMAGES.nbytes - 1)


def test_what_fits_is_mapped_and_what_does_not_is_read(dataset: h5py.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "free_bytes", lambda: IMAGES.nbytes)
    assert isinstance(open_rows(dataset).array, np.memmap)
    monkeypatch.setattr(_readers, "free_bytes", lambda: IMAGES.nbytes - 1)
    assert isinstance(open_rows(dataset), FileRows)
    monkeypatch.setattr(FileRows, "is_available", False)
    assert isinstance(open_rows(dataset).array, np.memmap)


ROWS = {
    "none": [],
    "one": [5],
    "any": [7, 0, 7, 3, N_ROWS - 1, 3],
    "all": range(N_ROWS),
    "backwards": range(N_ROWS - 1, -1, -1),
    "repeats": [4, 4, 4, 5, 6, 6],
    "many": np.random.default_rng(2).integers(0, N_ROWS, 3000),
}


@pytest.mark.usefixtures("_full")
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", ["rows", "swapped"])
def test_rows_are_those_of_numpy(dataset: h5py.Dataset, rows: str, name: str) -> None:
    wanted = np.array(ROWS[rows], dtype=int)
    found = open_rows(dataset.file[name]).read(wanted)
    assert found.dtype == np.dtype("uint16")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, IMAGES[wanted])


@pytest.mark.usefixtures("_full")
def test_neighbours_are_read_in_one_request_and_each_row_once(
    dataset: h5py.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file_rows, "N_THREADS", 1)
    preadv, requests = os.preadv, []

    def recorded(descriptor: int, buffers: list[memoryview], place: int) -> int:
        requests.append((place - dataset.id.get_offset(), len(buffers)))
        return preadv(descriptor, buffers, place)

    monkeypatch.setattr(os, "preadv", recorded)
    open_rows(dataset).read(np.array([20, 9, 8, 9, 10, 20, 500]))
    assert requests == [(8 * 48, 3), (20 * 48, 1), (500 * 48, 1)]


@pytest.mark.usefixtures("_full")
def test_a_system_that_reads_less_than_asked_is_asked_again(
    dataset: h5py.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stingy(descriptor: int, buffers: list[memoryview], place: int) -> int:
        found = os.pread(descriptor, min(31, sum(map(len, buffers))), place)
        rest = found
        for buffer in buffers:
            n = min(len(rest), len(buffer))
            buffer[:n], rest = rest[:n], rest[n:]
        return len(found)

    monkeypatch.setattr(os, "preadv", stingy)
    rows = np.array([3, 4, 5, 90, 4])
    np.testing.assert_array_equal(open_rows(dataset).read(rows), IMAGES[rows])


@pytest.mark.usefixtures("_full")
def test_a_file_that_was_cut_off_is_an_error(dataset: h5py.Dataset) -> None:
    reader = open_rows(dataset)
    os.truncate(dataset.file.filename, dataset.id.get_offset() + 10 * 48 + 5)
    np.testing.assert_array_equal(reader.read(np.array([9])), IMAGES[[9]])
    with pytest.raises(OSError, match="ends before row 10 of /rows: it was cut off"):
        reader.read(np.array([10, 12]))


@pytest.mark.usefixtures("_full")
def test_readers_give_their_files_back(dataset: h5py.Dataset) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    n_open = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_rows(dataset).read(np.array([1]))
    assert len(os.listdir("/proc/self/fd")) <= n_open


# Counts


def test_contiguous_counts_are_mapped_if_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = COUNTS.copy()
    counts[3] = 0
    matrix = sparse.csr_matrix(counts)
    rows = np.array([7, 0, 7, 3, 19, 3])
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": matrix.shape})
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        reader = open_rows(sparse_dataset(group))
        assert isinstance(reader.values, np.memmap)  # type: ignore[attr-defined]
        found = reader.read(rows)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, counts[rows])
        assert reader.read(rows[:0]).shape == (0, 6)
        monkeypatch.setattr(_readers, "free_bytes", lambda: 100)
        reader = open_rows(sparse_dataset(group))
        assert not hasattr(reader, "values")
        np.testing.assert_array_equal(reader.read(rows), counts[rows])


# How much memory is left


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of a process in ``job/step``; the job may use 1000 bytes."""
    step = tmp_path / "job" / "step"
    step.mkdir(parents=True)
    for folder, most, used in [(step, "max", 400), (step.parent, "1000", 700)]:
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 50\nactive_file 20\ninactive_file 100\n")
    (tmp_path / "self").write_text("0::/job/step\n")
    monkeypatch.setattr(_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(_memory, "OWN_CGROUP", tmp_path / "self")
    return tmp_path


def test_a_control_group_limits_memory_but_pages_of_files_are_free(groups: Path) -> None:
    assert _memory.free_bytes() == 1000 - 700 + 120
    (groups / "job" / "memory.max").write_text("max\n")
    assert _memory.free_bytes() > 10_000


def test_the_address_space_limits_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    used = _memory.psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 2**20, -1))
    assert 0 <= _memory.free_bytes() <= 2**20
