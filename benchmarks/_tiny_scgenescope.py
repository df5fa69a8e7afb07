"""Tiny files with the layout of scGeneScope, in which each treatment shifts both modalities."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image

from petri_scvi.datasets.cache._registry_public import (
    SCGENESCOPE,
    SCGENESCOPE_CHANNELS,
    SCGENESCOPE_PLATES,
    SCGENESCOPE_ROUNDS,
    SCGENESCOPE_ZIPS,
)

if TYPE_CHECKING:
    from pathlib import Path

N_TREATMENTS, N_GENES, SIZE = 28, 12, 16
TREATMENTS = [f"compound {i:02d}" for i in range(N_TREATMENTS)]


def write_files(folder: Path, *, n_cells: int = 4, n_features: int = 20, n_latents: int = 10, seed: int = 0) -> None:
    """Features, latent variables and expression, where a cache folder has them.

    There are ``n_cells`` cells of each treatment and replicate, and twice as many of DMSO.
    """
    rng = np.random.default_rng(seed)
    effects = {"image": rng.normal(size=(N_TREATMENTS, n_features)), "rna": rng.normal(size=(N_TREATMENTS, n_latents))}
    for number, replicates in SCGENESCOPE_ROUNDS.items():
        obs = cells(number, replicates, n_cells)
        treated = obs["Treatment"].cat.codes.to_numpy() - 1  # DMSO comes first
        values = {}
        for name, effect in effects.items():
            mean = np.where(treated[:, None] < 0, 0, effect[treated])
            round_effect = number * rng.normal(0, 0.3, mean.shape[1])
            values[name] = (mean + round_effect + rng.normal(size=mean.shape)).astype(np.float32)
        image = AnnData(values["image"], obs=obs)
        latent = AnnData(obs=obs, obsm={"scvi_n200": values["rna"]})
        genes = pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)])
        measured = AnnData(np.log1p(rng.poisson(1.0, (len(obs), N_GENES))).astype(np.float32), obs=obs, var=genes)
        for what, part in (("vit-l", image), ("scvi", latent), ("log", measured)):
            path = folder / SCGENESCOPE[what][number].file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_h5ad(path)


def cells(number: int, replicates: tuple[int, ...], n_cells: int) -> pd.DataFrame:
    """Columns of the cells of a round, in an order without meaning."""
    rows: list[dict[str, Any]] = []
    for replicate in replicates:
        for treatment in ("DMSO", "DMSO", *TREATMENTS):
            group = "control" if treatment == "DMSO" else "treatment"
            row = {"Treatment": treatment, "Replicate": str(replicate), "batch": f"batch{replicate}", "Group": group}
            rows += [row] * n_cells
    table = pd.DataFrame(rows).sample(frac=1, random_state=number)
    kinds = pd.CategoricalDtype(["DMSO", *TREATMENTS])
    return table.assign(Treatment=table["Treatment"].astype(kinds)).set_axis([f"cell{i}" for i in range(len(table))])


def write_plate(folder: Path, plate: str, replicate: int, n_cells: int = 2) -> pd.DataFrame:
    """A zip file of crops; returns the rows of the manifest."""
    number, address = SCGENESCOPE_PLATES[plate]
    table = cells(number, (replicate,), n_cells)
    for channel in SCGENESCOPE_CHANNELS:
        table[f"path-{channel}"] = [f"{address}/B03/{cell}_{channel}.tiff" for cell in table.index]
    path = folder / SCGENESCOPE_ZIPS[plate].file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for row, cell in enumerate(table.index):
            for i, channel in enumerate(SCGENESCOPE_CHANNELS):
                stream = io.BytesIO()
                Image.fromarray(np.full((SIZE, SIZE), row + 10 * i, np.uint8)).save(stream, "TIFF")
                archive.writestr(f"B03/{cell}_{channel}.tiff", stream.getvalue())
    return table
