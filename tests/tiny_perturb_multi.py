"""Files of the layout of Perturb-Multi, tiny."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi.datasets.cache._registry_public import (
    PERTURB_MULTI_CHANNELS,
    PERTURB_MULTI_IMAGES,
    PERTURB_MULTI_PROTEIN,
    PERTURB_MULTI_RNA,
)
from petri_scvi.datasets.public import _perturb_multi

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

N_GENES, SIZE = 6, 8
CELLS = [str(10**38 + 7 * i) for i in range(48)]  # as long as the published names
CHUNKS = {"aa": range(20, 0, -1), "ab": range(25, 46)}  # not in the order of the table
TARGETS = ["control", "Pten", "Mtor", None]
EMPTY = 4
"""A control without any expression."""


def crop(cell: int) -> np.ndarray:
    """Image of a cell."""
    return np.random.default_rng(cell).random((18, SIZE, SIZE)).astype(np.float32)


def write_tar(path: Path, crops: dict[str, np.ndarray], key: str = "x") -> None:
    """One compressed file per cell."""
    with tarfile.open(path, "w") as archive:
        for cell, values in crops.items():
            stream = io.BytesIO()
            np.savez_compressed(stream, **{key: values})  # type: ignore[arg-type]
            member = tarfile.TarInfo(f"{cell}.npz")
            member.size = stream.tell()
            archive.addfile(member, io.BytesIO(stream.getvalue()))


def write_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transcriptomes, proteins and two of the tar files, whose lengths are no longer compared."""
    for name in ("PERTURB_MULTI_RNA", "PERTURB_MULTI_PROTEIN"):
        entry = getattr(_perturb_multi, name)
        monkeypatch.setattr(_perturb_multi, name, dataclasses.replace(entry, is_size_exact=False))
    (folder / "perturb_multi").mkdir(parents=True)
    n_cells = len(CELLS)
    target = [TARGETS[i % 4] for i in range(n_cells)]
    obs = pd.DataFrame(
        {
            "fov": np.arange(n_cells),
            "x": np.linspace(-1, 1, n_cells),
            "batch": pd.Categorical([str(i // 24) for i in range(n_cells)]),
            "cell_type": pd.Categorical(["Hep"] * n_cells),
            "singlet_gene": pd.Categorical(target),
            "singlet_name": pd.Categorical([t and f"{t}_g{i // 4 % 2}" for i, t in enumerate(target)]),
        },
        index=pd.Index(CELLS, name="id"),
    )
    counts = np.random.default_rng(0).poisson(2.0, (n_cells, N_GENES)).astype(float)
    counts[EMPTY] = 0
    level = np.log1p(93 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    rna = AnnData(level - level.mean(axis=0), obs=obs, var=genes)  # X is scaled, raw.X is not
    rna.raw = AnnData(level, obs=obs, var=genes)
    rna.write_h5ad(folder / PERTURB_MULTI_RNA.file_name)
    names = pd.DataFrame({"cell_name": CELLS[:40]}, index=[str(i) for i in range(40)])
    stains = pd.DataFrame(index=list(PERTURB_MULTI_CHANNELS))
    proteins = AnnData(np.arange(40.0)[:, None] * np.ones(18), obs=names, var=stains)
    proteins.write_h5ad(folder / PERTURB_MULTI_PROTEIN.file_name)
    for chunk, cells in CHUNKS.items():
        crops = {CELLS[i]: crop(i) for i in cells} | {f"{chunk}_in_no_table": crop(99)}
        write_tar(folder / PERTURB_MULTI_IMAGES[chunk].file_name, crops)
