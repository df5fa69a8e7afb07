"""Screens and short cuts that the tests of the baselines share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scvi

import petri_scvi
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray


QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
ENCODERS: dict[str, Any] = {
    "embed_dim": 16,
    "n_heads": 2,
    "n_latent_tokens": 2,
    "image_encoder_depth": 1,
    "expression_encoder_depth": 1,
}


@pytest.fixture(scope="session")
def _original(make_screen: Callable[..., MuData]) -> MuData:
    with columns_stay_in_modalities():
        return make_screen()


@pytest.fixture
def screen(_original: MuData) -> MuData:
    """A copy of one tiny screen, free to be changed: a copy is quicker than a new one."""
    return _original.copy()


@pytest.fixture
def on_disk(screen: MuData, tmp_path: Path) -> MuData:
    """The tiny screen with its crops in a compressed HDF5 file, which can only be read row by row."""
    images = screen["image"].obsm["single_cell_images"]
    with h5py.File(tmp_path / "crops.h5", "w") as file:
        file.create_dataset("crops", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
    screen["image"].obsm["single_cell_images"] = h5py.File(tmp_path / "crops.h5")["crops"]
    return screen


@pytest.fixture(scope="session")
def unchanged() -> Callable[..., Any]:
    """Context after which values, columns and slots of every modality must be what they were."""

    @contextmanager
    def unchanged(mdata: MuData) -> Iterator[None]:
        before = {name: _contents(part) for name, part in mdata.mod.items()}
        slots = (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs))
        yield
        assert (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs)) == slots
        for name, contents in before.items():
            now = _contents(mdata[name])
            assert list(now) == list(contents), name
            for place, values in contents.items():
                if isinstance(values, pd.DataFrame):
                    pd.testing.assert_frame_equal(now[place], values)
                else:
                    np.testing.assert_array_equal(now[place], values, err_msg=f"{name} {place}")

    return unchanged


def _contents(part: AnnData) -> dict[str, Any]:
    """Copies of all that a model could change, by place; arrays on disk are read."""
    contents: dict[str, Any] = {"obs": part.obs.copy(), "var": part.var.copy(), "uns": sorted(part.uns)}
    contents["X"] = _dense(part.X)
    for place in ("obsm", "varm", "obsp", "varp", "layers"):
        contents |= {f"{place} {key}": _dense(array) for key, array in getattr(part, place).items() if key is not None}
    return contents


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if hasattr(values, "toarray") else np.array(values)


@pytest.fixture(scope="session")
def quiet() -> dict[str, Any]:
    """Arguments of ``train`` that keep it on the CPU and silent."""
    return dict(QUIET)


@pytest.fixture(scope="session")
def encoders() -> dict[str, Any]:
    """Constructor arguments of the smallest useful contrastive model."""
    return dict(ENCODERS)


@pytest.fixture(scope="session")
def make_strong_screen() -> Callable[..., MuData]:
    """Make a screen with strong effects in both modalities; its contexts, if asked for, are permuted."""

    def make(*, is_permuted: bool = False) -> MuData:
        mdata = petri_scvi.datasets.synthetic_screen(
            n_cells=800,
            n_pathways=3,
            n_control_guides=2,
            n_genes=40,
            image_size=16,
            image_strength=3.0,
            rna_strength=3.0,
            penetrance=1.0,
            shared_fraction=1.0,
        )
        for modality in mdata.mod.values():
            truth = modality.obs["target_gene"].astype(str).to_numpy()
            modality.obs["truth"] = truth
            modality.obs["context"] = np.random.default_rng(0).permutation(truth) if is_permuted else truth
        return mdata

    return make


@pytest.fixture(scope="session")
def retrieval() -> Callable[..., float]:
    """How well held-out cells find their target gene in the other modality; 1 is perfect, 0.5 is chance."""

    def retrieval(model: Any) -> float:
        profiles = {name: _profiles(model, name) for name in ("image", "rna")}
        shared = sorted(set(profiles["image"]) & set(profiles["rna"]))
        image, rna = (np.stack([profiles[name][gene] for gene in shared]) for name in ("image", "rna"))
        similarity = image @ rna.T
        own = np.diag(similarity)
        ranks = [(similarity < own[:, None]).sum(axis=1), (similarity < own[None, :]).sum(axis=0)]
        return float(np.mean(ranks) / (len(shared) - 1))

    return retrieval


def _profiles(model: Any, name: str) -> dict[str, NDArray[Any]]:
    rows = model.validation_indices[name]
    embedding = model.get_latent_representation(modality=name, indices=rows)
    embedding = embedding - embedding.mean(axis=0)
    truth = model.adata[name].obs["truth"].to_numpy()[rows]
    means = {gene: embedding[truth == gene].mean(axis=0) for gene in np.unique(truth)}
    return {gene: mean / np.linalg.norm(mean) for gene, mean in means.items()}


@pytest.fixture
def seed_again() -> Callable[[], None]:
    """Start random numbers anew, for two runs that must be equal."""

    def seed_again() -> None:
        scvi.settings.seed = 0

    return seed_again
