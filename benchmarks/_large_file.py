"""Embed the cells of an ``.h5mu`` file that stays on disk."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from anndata.io import read_elem
from scipy import sparse

import petri_scvi
from benchmarks._timing import status_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import mudata

SHAPE = (5, 64, 64)
N_GENES = 1000
IMAGES = "mod/image/obsm/single_cell_images"
N_CONTEXTS = 100
SMALL_MODEL: dict[str, Any] = {"embed_dim": 32, "image_encoder_depth": 1, "expression_encoder_depth": 1}


def write_screen(path: Path, n_cells: int) -> None:
    """As many cells of each modality: sparse counts, and uint8 crops written piece by piece."""
    rng = np.random.default_rng(0)
    counts = sparse.random_array((n_cells, N_GENES), density=0.1, format="csr", rng=rng, dtype=np.float32)
    counts.data = 1 + rng.poisson(0.5, size=counts.nnz).astype(np.float32)
    mods = {}
    contexts = [f"p{i}" for i in range(N_CONTEXTS)]
    for name, matrix in [("image", None), ("rna", counts)]:
        names = pd.Index([f"{name}{i}" for i in range(n_cells)])
        context = pd.Categorical.from_codes(rng.integers(N_CONTEXTS, size=n_cells), contexts)
        mods[name] = AnnData(matrix, obs=pd.DataFrame({"perturbation": context}, index=names))
    petri_scvi.pp.build_mudata(**mods).write_h5mu(path)
    with h5py.File(path, "r+") as file:
        images = file.create_dataset(IMAGES, (n_cells, *SHAPE), dtype=np.uint8)  # contiguous, so that it can be mapped
        images.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, n_cells, 2000):
            n = min(2000, n_cells - start)
            images[start : start + n] = rng.integers(256, size=(n, *SHAPE), dtype=np.uint8)


def open_screen(file: h5py.File) -> mudata.MuData:
    """The MuData in a file, with the crops left on disk."""
    image = AnnData(obs=read_elem(file["mod/image/obs"]), obsm={"single_cell_images": file[IMAGES]})
    return petri_scvi.pp.build_mudata(image=image, rna=read_elem(file["mod/rna"]))


class AnonymousPeak(threading.Thread):
    """Largest memory of this process that is not part of a mapped file."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_bytes = self.peak = status_bytes("RssAnon")
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, status_bytes("RssAnon"))


def embed_screen(path: str, n_threads: int, device: str) -> dict[str, float]:
    """Seconds and peak memory; to be run in a fresh process."""
    torch.set_num_threads(n_threads)
    results: dict[str, float] = {}
    watcher = AnonymousPeak()
    watcher.start()
    with h5py.File(path, "r") as file:
        start = time.perf_counter()
        mdata = open_screen(file)
        petri_scvi.PETRI.setup_mudata(mdata)
        model = petri_scvi.PETRI(mdata, **SMALL_MODEL)
        results["setup"] = time.perf_counter() - start
        model.is_trained_ = True
        model.module.eval().to(device)
        for modality in mdata.mod:
            start = time.perf_counter()
            embedding = model.get_latent_representation(modality=modality, batch_size=512)
            results[modality] = time.perf_counter() - start
            assert np.isfinite(embedding).all()
    watcher.stopped.set()
    results["anonymous"] = watcher.peak - watcher.start_bytes
    results["resident"] = status_bytes("VmHWM")
    return results
