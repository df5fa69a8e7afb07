"""Small screens of every kind that a training store can be made from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.io import write_elem
from mudata import MuData
from scipy import sparse

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.io.store import _zarr_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTEXTS = np.array(["b", "non-targeting", "a", "b", "a"])
N_GENES = 7


def make_obs(n_cells: int, prefix: str) -> pd.DataFrame:
    contexts = pd.Categorical(np.resize(CONTEXTS, n_cells))
    return pd.DataFrame(
        {"perturbation": contexts, "well": np.arange(n_cells) % 3}, index=[f"{prefix}{i}" for i in range(n_cells)]
    )


def make_image(n_cells: int = 40, prefix: str = "i", dtype: str = "uint16", seed: int = 0) -> AnnData:
    images = np.random.default_rng(seed).integers(0, 256, (n_cells, 3, 4, 5)).astype(dtype)
    return AnnData(
        obs=make_obs(n_cells, prefix),
        obsm={"single_cell_images": images, "centre": np.arange(2.0 * n_cells).reshape(n_cells, 2)},
        uns={"channel_names": np.array(["dna", "actin", "er"], dtype=object)},
    )


def make_rna(n_cells: int = 30, prefix: str = "r", seed: int = 1) -> AnnData:
    counts = np.random.default_rng(seed).poisson(0.7, (n_cells, N_GENES)).astype("float32")
    counts[:, 0] += 1
    rna = AnnData(
        sparse.csr_matrix(np.log1p(counts)),
        obs=make_obs(n_cells, prefix),
        var=pd.DataFrame({"length": np.arange(N_GENES)}, index=[f"g{i}" for i in range(N_GENES)]),
    )
    rna.layers["counts"] = sparse.csr_matrix(counts)
    return rna


def make_mdata(n_image: int = 40, n_rna: int = 30) -> MuData:
    with columns_stay_in_modalities():
        mdata = MuData({"image": make_image(n_image), "rna": make_rna(n_rna)})
    mdata.uns["screen"] = "tiny"
    return mdata


def write_h5sc(path: Path, n_cells: int = 20, images: Any = None) -> np.ndarray:
    """A file as scPortrait writes it: two masks, then two channels, in float16; no X, no context."""
    if images is None:
        images = np.random.default_rng(3).random((n_cells, 4, 4, 5)).astype("float16")
        images[:, :2] = images[:, :2] > 0.5
    with h5py.File(path, "w") as file:
        write_elem(
            file, "obs", pd.DataFrame({"scportrait_cell_id": np.arange(n_cells) + 7}, index=range(n_cells)).rename(str)
        )
        channels = ["seg_nucleus", "seg_cytosol", "dna", "actin"]
        kinds = ["mask", "mask", "image_channel", "image_channel"]
        write_elem(file, "var", pd.DataFrame({"channels": channels, "channel_mapping": kinds}, index=list("0123")))
        chunks = (1, 1, *images.shape[2:])
        file.create_dataset("obsm/single_cell_images", data=images, chunks=chunks, compression="lzf")
    return images


@pytest.fixture
def image() -> AnnData:
    return make_image()


@pytest.fixture
def rna() -> AnnData:
    return make_rna()


@pytest.fixture
def mdata() -> MuData:
    return make_mdata()


@pytest.fixture(scope="session")
def make() -> dict[str, Callable[..., Any]]:
    """Makers by name, for tests that need several."""
    return {"image": make_image, "rna": make_rna, "mdata": make_mdata, "h5sc": write_h5sc}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: that guards against a loss of power, which no test can make."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(_zarr_rows, "WAITS_FOR_DISK", False)
