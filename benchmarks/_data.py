"""Embedding from memory and from disk, and how long training waits for data."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from benchmarks import _cases as cases
from benchmarks._large_file import SHAPE, embed_screen, write_screen
from benchmarks._timing import MIB, forward_backward, in_fresh_process, interleave
from petri_scvi.dataloaders import DocumentDataModule, open_rows
from petri_scvi.model._documents import encode_cells

if TYPE_CHECKING:
    from benchmarks._timing import Table
    from petri_scvi._module import PETRIModule


def embedding(table: Table, run: cases.Run) -> None:
    """Cells per second of the path of ``get_latent_representation``, from memory."""
    setting = replace(run.settings[1], n_cells=64)  # 512 cells
    section = "embedding, cells in memory"
    module = cases.make_module(setting, run.device).eval()
    cells = cases.make_cells(setting, "cpu")
    stored = {
        "image": (cells["image"] * 20 + 128).clamp(0, 255).to(torch.uint8).numpy(),
        "rna": sparse.csr_array(cells["rna"].numpy()),
    }
    calls = {}
    for name, array in stored.items():
        for batch_size in (128, 512):
            reader, rows = open_rows(array), np.arange(setting.batch)
            calls[f"{name}, {batch_size} per pass"] = lambda n=name, r=reader, b=batch_size, rows=rows: [
                latents.mean(dim=1).cpu() for latents in encode_cells(module, n, r, rows, batch_size=b)
            ]
    for name, times in interleave(calls, run.device, run.n_repeats).items():
        rates = [setting.batch / elapsed for elapsed in times]
        table.add(section, setting.name, name, rates, "cells/s", threads=run.threads[0])


def large_file(table: Table, run: cases.Run) -> None:
    """Embed the cells of a file, whose crops are mapped and not loaded."""
    n_cells = 5000 if run.is_quick else 100_000
    section = f"embedding, {n_cells:,} cells of each modality from an .h5mu file (one block, D = 32)"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "screen.h5mu"
        write_screen(path, n_cells)
        n_bytes = path.stat().st_size
        found = in_fresh_process(embed_screen, str(path), run.threads[0], run.device)
    table.add(section, "file", "size", n_bytes / MIB, "MiB")
    table.add(section, "file", "open, check and register", found["setup"], "s", threads=run.threads[0])
    for name, shape in [("image", " x ".join(map(str, SHAPE))), ("rna", "1,000 genes")]:
        table.add(section, shape, name, n_cells / found[name], "cells/s", threads=run.threads[0])
    table.add(section, "memory", "peak without mapped pages, beyond the imports", found["anonymous"] / MIB, "MiB")
    table.add(section, "memory", "the same by size of the file", 100 * found["anonymous"] / n_bytes, "%")
    table.add(section, "memory", "peak with mapped pages, which can be dropped", found["resident"] / MIB, "MiB")


def waiting(table: Table, run: cases.Run) -> None:
    """Share of an epoch that is spent waiting for the next minibatch."""
    for setting in run.settings:
        n_cells = 512
        rng = np.random.default_rng(0)
        shape = (n_cells, setting.n_channels, setting.side, setting.side)
        codes = {name: np.arange(n_cells) % 16 for name in ("image", "rna")}
        counts = sparse.csr_array(cases.make_counts(n_cells, setting.n_genes).numpy())
        with tempfile.TemporaryDirectory() as folder:
            images = np.memmap(Path(folder) / "images", dtype=np.uint8, mode="w+", shape=shape)
            images[:] = rng.integers(256, size=shape, dtype=np.uint8)
            readers = {"image": open_rows(images), "rna": open_rows(counts)}
            wait, total = epoch(cases.make_module(setting, run.device), DocumentDataModule(readers, codes), run.device)
        section = "waiting for data (crops mapped from disk, counts sparse in memory)"
        table.add(section, setting.name, "share of an epoch", 100 * wait / total, "%", threads=run.threads[0])


def epoch(module: PETRIModule, data: DocumentDataModule, device: str) -> tuple[float, float]:
    """Seconds in ``next``, and of the whole epoch."""
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    waited, start = 0.0, time.perf_counter()
    minibatches = iter(data.train_dataloader())
    while True:
        asked = time.perf_counter()
        minibatch = next(minibatches, None)
        waited += time.perf_counter() - asked
        if minibatch is None:
            break
        minibatch["cells"] = {name: cells.to(device) for name, cells in minibatch["cells"].items()}
        forward_backward(lambda found=minibatch: module(found)[2].loss, module, device)()
        optimizer.step()
    return waited, time.perf_counter() - start
