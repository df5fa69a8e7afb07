"""A training store in zarr has the same content as the file, and is never left incomplete."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

from petri_scvi import PETRI, io
from petri_scvi.dataloaders import _readers, _tensorstore_rows, open_rows
from petri_scvi.io.store import _zarr, _zarr_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

zarr = pytest.importorskip("zarr")
pytest.importorskip("tensorstore")

IMAGES = "single_cell_images"
MAX_MEMORY = 4 * 120 * 16
"""16 crops per shard."""


def write(source: Any, path: Path, **arguments: Any) -> None:
    io.write_training_store(source, path, **{"progress": False, "max_memory": MAX_MEMORY, **arguments})


def records(store: AnnData | MuData) -> dict[str, Any]:
    return store.uns["petri_scvi"]["training_store"]


def dense(array: Any) -> np.ndarray:
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array)


def assert_same(found: AnnData, expected: AnnData) -> None:
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    assert (found.X is None) == (expected.X is None)
    for slot in ("layers", "obsm"):
        arrays, others = getattr(found, slot), getattr(expected, slot)
        assert set(arrays) == set(others)
        for name in arrays:
            if name is not None:
                assert arrays[name].dtype == others[name].dtype
                np.testing.assert_array_equal(dense(arrays[name]), dense(others[name]))
    if found.X is not None:
        np.testing.assert_array_equal(dense(found.X), dense(expected.X))


# What is in the store


def test_the_store_is_an_ordinary_zarr_of_the_cells_order_and_checksums_of_the_file(
    mdata: MuData, tmp_path: Path
) -> None:
    for name in ("s.h5mu", "s.zarr"):
        write(mdata, tmp_path / name)
    found, expected = mudata.read_zarr(tmp_path / "s.zarr"), mudata.read_h5mu(tmp_path / "s.h5mu")
    for name in expected.mod:
        assert_same(found[name], expected[name])
        assert not found[name].obs["source_row"].is_monotonic_increasing
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.uns["screen"] == "tiny"
    checksums = records(expected)["checksums"]
    assert set(records(found)["checksums"]) == set(checksums) == {"image:obsm:single_cell_images"} | set(checksums)
    for name in checksums:
        np.testing.assert_array_equal(records(found)["checksums"][name], checksums[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.h5mu", "s.zarr"]
    io.verify_training_store(tmp_path / "s.zarr", progress=False)


def test_a_cell_is_a_chunk_and_a_thousand_are_a_shard_if_memory_allows(
    make: dict[str, Callable[..., Any]], tmp_path: Path
) -> None:
    for path, n_cells, max_memory, n_in_shard in [("a.zarr", 1100, 2**30, 1000), ("b.zarr", 40, MAX_MEMORY, 16)]:
        image = make["image"](n_cells)
        write(image, tmp_path / path, max_memory=max_memory)
        metadata = json.loads((tmp_path / path / "obsm" / IMAGES / "zarr.json").read_text())
        assert metadata["zarr_format"] == 3
        assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [n_in_shard, 3, 4, 5]
        (sharding,) = metadata["codecs"]
        assert sharding["configuration"]["chunk_shape"] == [1, 3, 4, 5]
        blosc = sharding["configuration"]["codecs"][-1]["configuration"]
        assert (blosc["cname"], blosc["shuffle"], blosc["typesize"]) == ("lz4", "bitshuffle", 2)
        rows = anndata.read_zarr(tmp_path / path).obs["source_row"]
        stored = io.open_screen(tmp_path / path).obsm[IMAGES]
        assert isinstance(stored, zarr.Array)
        np.testing.assert_array_equal(stored[:], image.obsm[IMAGES][rows])


def test_empty_rows_and_no_counts_at_all_are_stored(rna: AnnData, tmp_path: Path) -> None:
    some = rna.X.toarray()
    some[::2] = 0
    rna.X, rna.layers["counts"] = sparse.csr_matrix(some), sparse.csr_matrix(rna.shape, dtype="float32")
    write(rna, tmp_path / "s.zarr")
    found = anndata.read_zarr(tmp_path / "s.zarr")
    np.testing.assert_array_equal(dense(found.X), dense(rna.X)[found.obs["source_row"]])
    assert found.layers["counts"].nnz == 0
    io.verify_training_store(tmp_path / "s.zarr", progress=False)


@pytest.mark.slow
def test_training_from_zarr_is_training_from_the_file(
    make_screen: Callable[..., MuData], tiny: dict[str, Any], tmp_path: Path
) -> None:
    screen, histories = make_screen(), []
    for name in ("s.h5mu", "s.zarr"):
        write(screen, tmp_path / name, max_memory=2**22)

    def train(name: str) -> PETRI:
        opened = io.open_screen(tmp_path / name)
        scvi.settings.seed = 0
        PETRI.setup_mudata(opened)
        model = PETRI(opened, **tiny)
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        losses = {key: float(values.iloc[0, 0]) for key, values in model.history.items()}
        histories.append((losses, model.get_latent_representation()))
        return model

    train("s.h5mu")
    model = train("s.zarr")
    assert [type(reader).__name__ for reader in model._readers(model.adata_manager).values()] == [
        "TensorStoreRows",
        "TensorStoreCSR",
    ]
    assert histories[1][0] == histories[0][0]
    np.testing.assert_array_equal(histories[1][1], histories[0][1])


def test_without_tensorstore_a_store_is_read_with_one_warning_that_names_the_extra(
    make: dict[str, Callable[..., Any]], complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_readers, _tensorstore_rows):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    opened = io.open_screen(complete)
    with pytest.warns(UserWarning, match=r"zarr-python reads single cells many times slower") as caught:
        PETRI.setup_mudata(opened, rna_layer="counts")
    assert sum('pip install "petri-scvi[zarr]"' in str(warning.message) for warning in caught) == 1
    rows = opened["image"].obs["source_row"].to_numpy()
    found = open_rows(opened["image"].obsm[IMAGES]).read(np.arange(40))
    np.testing.assert_array_equal(found, make["image"]().obsm[IMAGES][rows])


def test_without_tensorstore_nothing_is_written_and_the_error_names_the_extra(
    image: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[zarr\]"'):
        write(image, tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    with pytest.raises(ValueError, match="is a folder, but not a zarr store.* petri_scvi.pp.crops_from_fields"):
        io.open_screen(tmp_path / "s.zarr")


def test_spatialdata_is_told_from_a_screen(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "slide.zarr", mode="w")
    group.attrs["spatialdata_attrs"] = {"version": "0.2"}
    group.create_group("images")
    with pytest.raises(ValueError, match=r"slide.zarr is SpatialData. .* petri_scvi.pp.crops_from_spatialdata\(path"):
        io.open_screen(tmp_path / "slide.zarr")


# Interruptions


def interrupt(source: Any, path: Path, monkeypatch: pytest.MonkeyPatch, n_shards: int) -> None:
    """Stop a call, as Ctrl-C does, when it has written some shards."""
    original, n_written = _zarr._write_shard, 0

    def stop(*args: Any) -> None:
        nonlocal n_written
        if n_written == n_shards:
            raise KeyboardInterrupt
        n_written += 1
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_zarr, "_write_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            write(source, path)


def test_an_interrupted_store_does_not_open_and_goes_on_with_the_first_missing_shard(
    mdata: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, partial = tmp_path / "s.zarr", tmp_path / "s.zarr.partial"
    interrupt(mdata, path, monkeypatch, n_shards=2)
    assert sorted(left.name for left in tmp_path.iterdir()) == ["s.zarr.partial", "s.zarr.partial.h5mu"]
    renamed = partial.rename(tmp_path / "renamed.zarr")
    for look in (io.open_screen, lambda place: io.verify_training_store(place, progress=False)):
        with pytest.raises(ValueError, match=r"2 of \d+ blocks were written. Repeat the call"):
            look(renamed)
    renamed.rename(partial)
    with pytest.raises(FileExistsError, match="seed=3 instead of 0"):
        write(mdata, path, seed=3)
    original, written = _zarr._write_shard, []

    def recorded(target: Any, place: slice, values: np.ndarray) -> None:
        written.append(place)
        original(target, place, values)

    monkeypatch.setattr(_zarr, "_write_shard", recorded)
    write(mdata, path)
    n_shards = sum(len(flags) for flags in records(mudata.read_zarr(path))["is_written"].values())
    assert len(written) == n_shards - 2
    assert [left.name for left in tmp_path.iterdir()] == ["s.zarr"]
    write(mdata, tmp_path / "s.h5mu")
    assert_same(mudata.read_zarr(path)["image"], mudata.read_h5mu(tmp_path / "s.h5mu")["image"])


def test_a_store_that_only_lacked_its_name_needs_nothing_else(
    image: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_zarr, "put_in_place", stop)
        with pytest.raises(KeyboardInterrupt):
            write(image, tmp_path / "s.zarr")
    assert [left.name for left in tmp_path.iterdir()] == ["s.zarr.partial"]
    monkeypatch.setattr(_zarr, "_copy", stop)
    monkeypatch.setattr(_zarr, "write_file", stop)
    write(image, tmp_path / "s.zarr")
    io.verify_training_store(tmp_path / "s.zarr", progress=False)


def call(screen: AnnData, path: Path, seconds: float | None = None) -> int:
    """Write in a process of its own, which is killed after a while; the exit code."""
    # A fork would lack the threads of tensorstore, if this process has any.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["petri_scvi.io.store._zarr", "zarr", "tensorstore"])
    process = context.Process(target=write, args=(screen, path))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.slow
def test_a_call_killed_20_times_goes_on_to_the_same_store(make: dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    image = make["image"](200)
    for name in ("warm.zarr", "complete.zarr"):  # the first call pays for the imports
        start = time.perf_counter()
        assert call(image, tmp_path / name) == 0
        seconds = time.perf_counter() - start
    expected = contents(tmp_path / "complete.zarr")
    rng = np.random.default_rng(0)
    n_killed = n_complete = 0
    while n_killed < 20 or not n_complete:
        path = tmp_path / f"{n_complete}.zarr"
        while not path.exists():
            n_killed += bool(call(image, path, rng.uniform(0, seconds) if n_killed < 20 else None))
            left = path.with_name(f"{path.name}.partial")
            if left.exists() and not _zarr.is_copied(left):
                with pytest.raises(ValueError, match="Repeat the call"):
                    io.open_screen(left)
        assert contents(path) == expected
        n_complete += 1
    assert not [left for left in tmp_path.iterdir() if "partial" in left.name]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Checksums


@pytest.fixture(scope="module")
def _written(make: dict[str, Callable[..., Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "s.zarr"
    write(make["mdata"](), path)
    return path


@pytest.fixture
def complete(_written: Path, tmp_path: Path) -> Path:
    """A store that may be damaged."""
    return shutil.copytree(_written, tmp_path / "s.zarr")


def shard(store: Path, name: str) -> Path:
    return sorted(path for path in (store / name / "c").rglob("*") if path.is_file())[0]


@pytest.mark.parametrize("name", [f"mod/image/obsm/{IMAGES}", "mod/rna/layers/counts/data", "mod/rna/X/indices"])
@pytest.mark.parametrize("how", ["a bit of a chunk", "cut off", "lost"])
def test_damage_is_found(complete: Path, name: str, how: str) -> None:
    path = shard(complete, name)
    content = bytearray(path.read_bytes())
    if how == "a bit of a chunk":
        content[40] ^= 4
        path.write_bytes(content)
    elif how == "cut off":
        path.write_bytes(content[:30])
    else:
        path.unlink()
    array = name.removesuffix("/data").removesuffix("/indices")
    with pytest.raises(OSError, match=rf"\d+ rows of {array} \(the first is \d+\)"):
        io.verify_training_store(complete, progress=False)


def test_a_disk_that_gives_back_something_else_fails_the_call_and_the_next_one_mends_it(
    mdata: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = _zarr._write_shard

    def bad(target: Any, place: slice, values: np.ndarray) -> None:
        is_wrong = target.kvstore.path.endswith("layers/counts/data/")
        original(target, place, values + 1 if is_wrong else values)

    with monkeypatch.context() as patch:
        patch.setattr(_zarr, "_write_shard", bad)
        with pytest.raises(OSError, match="30 rows of mod/rna/layers/counts .* Repeat the call"):
            write(mdata, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    write(mdata, tmp_path / "s.zarr")
    io.verify_training_store(tmp_path / "s.zarr", progress=False)


def test_what_cannot_be_decoded_is_told_from_its_neighbours(complete: Path) -> None:
    path = shard(complete, f"mod/image/obsm/{IMAGES}")
    index = path.read_bytes()[-(16 * 16 + 4) : -4]
    offset, length = np.frombuffer(index, dtype="<u8").reshape(-1, 2)[5].tolist()
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)
    path.write_bytes(content)
    rows = _zarr_rows.ZarrRows(complete, f"mod/image/obsm/{IMAGES}")
    expected = zarr.open_group(complete)[f"{_zarr.CHECKSUMS}/image:obsm:{IMAGES}"][:]
    assert rows.find_damaged(expected).tolist() == [5]


def test_a_store_in_zarr_is_a_source(mdata: MuData, complete: Path, tmp_path: Path) -> None:
    write(complete, tmp_path / "again.h5mu", seed=4)
    with h5py.File(tmp_path / "again.h5mu") as file:
        rows = file["mod/image/obs/source_row"][:]
        found = file[f"mod/image/obsm/{IMAGES}"][:]
    np.testing.assert_array_equal(found, mudata.read_zarr(complete)["image"].obsm[IMAGES][rows])
