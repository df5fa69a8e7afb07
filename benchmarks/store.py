"""Read image crops out of a training store, beside other ways to read them; ``python -m benchmarks.store``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import psutil
import torch
from anndata import AnnData
from scipy import sparse
from scvi.data import AnnDataManager
from scvi.data.fields import ObsmField

from benchmarks._timing import GIB, MIB, in_fresh_process, interleave, status_bytes
from petri_scvi import PETRI, io, pp
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.dataloaders import DocumentSampler, open_rows, rows_by_context
from petri_scvi.dataloaders._file_rows import FileRows, place_in_file
from petri_scvi.dataloaders._readers import _Zarr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHAPE = (5, 64, 64)
IMAGES = "single_cell_images"
N_CONTEXTS, N_DOCUMENTS, N_PER_DOCUMENT = 100, 8, 32
N_MINIBATCHES, N_ROUNDS = 8, 7
N_CLOSE_ROUNDS = 31
"""Rounds of the two that are nearly as fast."""
N_COLD_ROWS = 512
N_PER_CONTEXT = 1000
"""Cells of a context where runs are compared with cells drawn one by one: two million cells of 2,000 perturbations."""
HAS_ZARR = all(importlib.util.find_spec(name) for name in ("zarr", "tensorstore"))
SMALL_MODEL: dict[str, Any] = {"embed_dim": 16, "n_heads": 2, "image_encoder_depth": 1, "expression_encoder_depth": 1}


def write_stores(folder: Path, n_cells: int) -> dict[str, float]:
    """The same crops in training stores of both kinds and in chunked HDF5; MiB per second of writing the former."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**16, (n_cells, *SHAPE), dtype=np.uint16)
    context = pd.Categorical.from_codes(rng.integers(N_CONTEXTS, size=n_cells), [f"p{i}" for i in range(N_CONTEXTS)])
    obs = pd.DataFrame({"perturbation": context}, index=[f"c{i}" for i in range(n_cells)])
    source = AnnData(obs=obs, obsm={IMAGES: images})
    rates = {}
    for name in ["store.h5ad", *(["store.zarr"] if HAS_ZARR else [])]:
        start = time.perf_counter()
        io.write_training_store(source, folder / name, progress=False)
        rates[name] = round(images.nbytes / MIB / (time.perf_counter() - start))
    with h5py.File(folder / "store.h5ad") as file:
        stored = file[f"obsm/{IMAGES}"][:]
    with h5py.File(folder / "chunked.h5", "w") as file:
        file.create_dataset("images", data=stored, chunks=(1, *SHAPE))
    if not why_no_annbatch():
        write_for_annbatch(folder / "rows.zarr", stored)
    return rates


def why_no_annbatch() -> str:
    """The reason to leave it out; empty if there is none."""
    if sys.version_info < (3, 12):
        return "it needs Python 3.12"
    return "" if importlib.util.find_spec("annbatch") else "it is not installed"


def write_for_annbatch(path: Path, images: NDArray[Any]) -> None:
    """Crops as long rows of an X, the only array that it yields."""
    import zarr

    rows = images.reshape(len(images), -1)
    lz4 = zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=rows.itemsize)
    shape = (min(1000, len(rows)), rows.shape[1])
    array = zarr.create_array(
        path, shape=rows.shape, dtype=rows.dtype, chunks=(1, rows.shape[1]), shards=shape, compressors=lz4
    )
    for start in range(0, len(rows), shape[0]):
        array[start : start + shape[0]] = rows[start : start + shape[0]]


def annbatch(path: Path) -> Callable[[], Any]:
    """Minibatches of annbatch, as many cells as of the others; it draws runs of neighbours, not documents.

    With zarrs, the codecs in Rust that its authors advise, if that is installed.
    """
    import annbatch
    import zarr

    if importlib.util.find_spec("zarrs"):
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    n_cells = N_DOCUMENTS * N_PER_DOCUMENT
    loader = annbatch.Loader(
        batch_size=n_cells, chunk_size=N_PER_DOCUMENT, preload_nchunks=N_MINIBATCHES * N_DOCUMENTS, shuffle=True
    )
    loader.add_dataset(zarr.open_array(path, mode="r"))

    def call() -> None:
        minibatches = iter(loader)
        for _ in range(N_MINIBATCHES):
            next(minibatches)
        minibatches.close()  # type: ignore[attr-defined]

    return call


def draw(contexts: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """Rows of one minibatch: cells of some contexts, with replacement."""
    chosen = rng.choice(np.unique(contexts), size=N_DOCUMENTS, replace=False)
    return np.concatenate([rng.choice(np.flatnonzero(contexts == one), size=N_PER_DOCUMENT) for one in chosen])


def fancy(dataset: h5py.Dataset, rows: NDArray[np.integer]) -> NDArray[Any]:
    """What one would write without a reader."""
    unique, inverse = np.unique(rows, return_inverse=True)
    return dataset[unique][inverse]


def anntorch(images: np.memmap) -> Callable[[NDArray[np.integer]], Any]:
    """The dataset of scvi-tools on mapped crops; it makes float32 of them."""
    adata = AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(images))]), obsm={"crops": images})
    manager = AnnDataManager(fields=[ObsmField("crops", "crops")], setup_method_args={})
    manager.register_fields(adata)
    dataset = manager.create_torch_dataset()
    return lambda rows: dataset[rows]["crops"]


def warm(folder: Path) -> dict[str, list[float]]:
    """Cells per second of each way, in turns, when the files are in memory."""
    store = io.open_screen(folder / "store.h5ad")
    dataset, contexts = store.obsm[IMAGES], store.obs["perturbation"].cat.codes.to_numpy()
    in_memory, ours = open_rows(dataset[:]), open_rows(dataset)
    assert isinstance(ours.array, np.memmap)
    chunked = h5py.File(folder / "chunked.h5")["images"]
    threads = FileRows(dataset, *place_in_file(dataset))  # type: ignore[misc]
    ways: dict[str, Callable[[NDArray[np.integer]], Any]] = {
        "numpy in memory": in_memory.read,
        "ours, mapped": ours.read,
        "ours, threads": threads.read,
        "h5py contiguous, fancy index": lambda rows: fancy(dataset, rows),
        "ours, chunked HDF5": open_rows(chunked).read,
        "h5py chunked, fancy index": lambda rows: fancy(chunked, rows),
        "AnnTorchDataset, mapped": anntorch(ours.array),
    }
    if HAS_ZARR:
        array = io.open_screen(folder / "store.zarr").obsm[IMAGES]
        ways["ours, zarr through tensorstore"] = open_rows(array).read
        ways["zarr-python, the same store"] = _Zarr(array).read
    rng = np.random.default_rng(1)
    minibatches = [draw(contexts, rng) for _ in range(N_MINIBATCHES)]
    expected = in_memory.read(minibatches[0])
    for name, read in ways.items():
        np.testing.assert_array_equal(np.asarray(read(minibatches[0])), expected, name)
    n_cells = sum(map(len, minibatches))
    calls = {name: lambda read=read: [read(rows) for rows in minibatches] for name, read in ways.items()}
    if not why_no_annbatch():
        calls["annbatch, runs of 32 of its own draw"] = annbatch(folder / "rows.zarr")  # last: it changes zarr's codecs
    return {
        name: [n_cells / seconds for seconds in times] for name, times in interleave(calls, "cpu", N_ROUNDS).items()
    }


def mapped_and_memory(folder: Path) -> dict[str, list[float]]:
    """Cells per second of the two fastest, in many short turns: they are so close that one round says little."""
    store = io.open_screen(folder / "store.h5ad")
    dataset, contexts = store.obsm[IMAGES], store.obs["perturbation"].cat.codes.to_numpy()
    rng = np.random.default_rng(3)
    minibatches = [draw(contexts, rng) for _ in range(N_MINIBATCHES)]
    readers = {"numpy in memory": open_rows(dataset[:]), "ours, mapped": open_rows(dataset)}
    calls = {name: lambda read=one.read: [read(rows) for rows in minibatches] for name, one in readers.items()}
    n_cells = sum(map(len, minibatches))
    seconds = interleave(calls, "cpu", N_CLOSE_ROUNDS)
    return {name: [n_cells / one for one in times] for name, times in seconds.items()}


def cold(folder: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Cells per second when the file is on the disk only, and the bytes read from there by bytes asked for."""
    path = folder / "store.h5ad"
    with h5py.File(path) as file:
        dataset = file[f"obsm/{IMAGES}"]
        place = place_in_file(dataset)
        ways = {"mapped": path, "threads": path} | ({"tensorstore": folder / "store.zarr"} if HAS_ZARR else {})
        rng, found = np.random.default_rng(2), {name: [] for name in ways}  # type: ignore[var-annotated]
        read: dict[str, list[float]] = {name: [] for name in found}
        for i in range(N_ROUNDS):
            # Each first in turn and with rows of its own: a disk may have a cache that cannot be emptied from here.
            for name in list(found)[:: 1 if i % 2 else -1]:
                rows = rng.choice(len(dataset), size=N_COLD_ROWS, replace=False)
                forget(ways[name])
                if name == "tensorstore":
                    reader = open_rows(io.open_screen(ways[name]).obsm[IMAGES])
                else:
                    reader = open_rows(dataset) if name == "mapped" else FileRows(dataset, *place)  # type: ignore[misc]
                before, start = psutil.Process().io_counters().read_bytes, time.perf_counter()
                for minibatch in np.array_split(rows, N_COLD_ROWS // 256):
                    reader.read(minibatch)
                found[name].append(N_COLD_ROWS / (time.perf_counter() - start))
                n_bytes = N_COLD_ROWS * dataset.nbytes // len(dataset)
                read[name].append((psutil.Process().io_counters().read_bytes - before) / n_bytes)
                del reader  # pages that are mapped would not be forgotten
    return found, {name: median(shares) for name, shares in read.items()}


def draws(folder: Path, *, is_cold: bool) -> dict[str, list[float]]:
    """Cells per second of training documents, cells drawn one by one and runs of neighbours, by both readers."""
    path = folder / "store.h5ad"
    dataset = io.open_screen(path).obsm[IMAGES]
    place = place_in_file(dataset)
    # Contexts of a large screen: where one has fewer cells than a document, both ways read all of it.
    codes = np.arange(len(dataset)) // N_PER_CONTEXT
    open_reader: dict[str, Callable[[], Any]] = {
        "mapped": lambda: open_rows(dataset),
        "threads": lambda: FileRows(dataset, *place),  # type: ignore[misc]
    }
    ways = [(reader, draw_runs) for reader in open_reader for draw_runs in (False, True)]
    names = {way: f"{way[0]}, {'runs' if way[1] else 'cell by cell'}" for way in ways}
    n_minibatches = N_COLD_ROWS // (N_DOCUMENTS * N_PER_DOCUMENT) if is_cold else N_MINIBATCHES
    found: dict[str, list[float]] = {name: [] for name in names.values()}
    for i in range(N_CLOSE_ROUNDS):
        for j, (name, draw_runs) in enumerate(ways[:: 1 if i % 2 else -1]):
            sampler = DocumentSampler(
                {"image": rows_by_context(codes)},
                N_DOCUMENTS,
                N_PER_DOCUMENT,
                seed=len(ways) * i + j,
                n_minibatches=n_minibatches,
                draw_runs=draw_runs,
            )
            minibatches = [documents.rows["image"].ravel() for documents in sampler]
            if is_cold:
                forget(path)
            reader = open_reader[name]()
            start = time.perf_counter()
            for rows in minibatches:
                reader.read(rows)
            found[names[name, draw_runs]].append(sum(map(len, minibatches)) / (time.perf_counter() - start))
            del reader  # pages that are mapped would not be forgotten
    return found


def forget(path: Path) -> None:
    """Drop a file, or all files of a folder, from the page cache."""
    for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def write_sparse_store(path: Path, n_cells: int) -> None:
    """A screen whose crops take no room on the disk: all but some are holes in the file."""
    rng = np.random.default_rng(0)
    mods = {}
    counts = sparse.csr_matrix(rng.poisson(1.0, (5000, 50)).astype(np.float32) + 1)
    for name, n, matrix in [("image", n_cells, None), ("rna", 5000, counts)]:
        context = pd.Categorical.from_codes(np.sort(rng.integers(N_CONTEXTS, size=n)), range(N_CONTEXTS))
        context = context.rename_categories([f"p{i}" for i in range(N_CONTEXTS)])
        obs = pd.DataFrame({"perturbation": context}, index=[f"{name}{i}" for i in range(n)])
        mods[name] = AnnData(matrix, obs=obs)
    pp.build_mudata(**mods).write_h5mu(path)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "r+") as file:
        images = file.create_dataset(f"mod/image/obsm/{IMAGES}", (n_cells, *SHAPE), np.uint16, dcpl=plan)
        images.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for row in range(0, n_cells, max(1, n_cells // 2000)):
            images[row] = rng.integers(0, 2**16, SHAPE, dtype=np.uint16)


def train_limited(path: str, limit: int, n_steps: int) -> dict[str, Any]:
    """Train with a limit on the address space; to be run in a fresh process."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    mdata = io.open_screen(path)
    before = status_bytes("RssAnon")
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **SMALL_MODEL, patch_size=16)
    reader = model._readers(model.adata_manager)["image"]
    model.train(max_epochs=1, max_steps=n_steps, validation_size=0.0, accelerator="cpu", enable_progress_bar=False)
    try:
        np.memmap(path, mode="r")
        is_mappable = True
    except OSError:
        is_mappable = False
    return {
        "reader": type(reader).__name__,
        "steps": model.trainer.global_step,
        "crops": int(np.prod(reader.shape)) * reader.dtype.itemsize,
        "resident": status_bytes("VmHWM"),
        "address space": status_bytes("VmPeak"),
        "anonymous before setup": before,
        "anonymous": status_bytes("RssAnon"),
        "mappable": is_mappable,
    }


def report(found: dict[str, list[float]], base: str, ours: str, required: float | None = None) -> None:
    for name, rates in found.items():
        # Ways take turns, so a round is compared with the same round of the other.
        ratios = [mine / theirs for mine, theirs in zip(found[ours], rates, strict=True)]
        spread = f"[{min(rates):,.0f} to {max(rates):,.0f}]"
        print(f"| {name} | {median(rates):,.0f} {spread} | {median(ratios):.2f} |", flush=True)
    by_round = [mine / theirs for mine, theirs in zip(found[ours], found[base], strict=True)]
    verdict = (
        "" if required is None else f", required {required}: {'met' if median(by_round) >= required else 'missed'}"
    )
    print(f"{ours} / {base}: {median(by_round):.2f}{verdict}")
    print(f"(by round: {', '.join(f'{ratio:.2f}' for ratio in by_round)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=16_000)
    parser.add_argument("--n-sparse-cells", type=int, default=400_000)
    parser.add_argument("--limit-gib", type=float, default=8.0, help="address space for training")
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    args = parser.parse_args()
    if args.n_cells < 2 * N_PER_CONTEXT:
        parser.error(f"--n-cells {args.n_cells} is too few for contexts of {N_PER_CONTEXT}; pass 16000 or more")
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()}")
    print("Rates depend on what else runs; read the ratios, which were measured in turns in one run.")
    with columns_stay_in_modalities(), tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        print(write_stores(folder, args.n_cells), "MiB/s of crops, with checksums and reading them back")
        print(f"\nwarm, {N_DOCUMENTS} documents of {N_PER_DOCUMENT} cells, cells/s and how many times ours is faster")
        report(warm(folder), "numpy in memory", "ours, mapped", 0.85)
        print(f"\nthe first two again, {N_CLOSE_ROUNDS} rounds")
        report(mapped_and_memory(folder), "numpy in memory", "ours, mapped", 0.85)
        if why_no_annbatch():
            print("annbatch: not run,", why_no_annbatch())
        rates, shares = cold(folder)
        print(f"\ncold, {N_COLD_ROWS} of {args.n_cells} rows; bytes read from the disk by bytes asked for: {shares}")
        report(rates, "mapped", "threads", 2)
        for is_cold in (False, True):
            print(f"\n{'cold' if is_cold else 'warm'}, training documents drawn cell by cell and as runs of neighbours")
            rates = draws(folder, is_cold=is_cold)
            for reader in ("mapped", "threads"):
                chosen = {name: rate for name, rate in rates.items() if name.startswith(reader)}
                report(chosen, f"{reader}, cell by cell", f"{reader}, runs")
        write_sparse_store(folder / "sparse.h5mu", args.n_sparse_cells)
        result = in_fresh_process(train_limited, str(folder / "sparse.h5mu"), int(args.limit_gib * GIB), 20)
        print(f"\ntraining with an address space of {args.limit_gib} GiB")
        for key, value in result.items():
            print(f"| {key} | {f'{value / GIB:.2f} GiB' if type(value) is int and value > MIB else value} |")


if __name__ == "__main__":
    main()
