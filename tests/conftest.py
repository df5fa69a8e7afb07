"""Screens and models that many tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pytest
import scvi
import torch
from mudata import MuData
from scipy import sparse

import petri_scvi
from petri_scvi import PETRI, tl
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from anndata import AnnData

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "n_heads": 2,
    "n_latent_tokens": 4,
    "patch_size": 8,
    "image_encoder_depth": 1,
    "image_decoder_depth": 1,
    "image_decoder_dim": 16,
    "expression_encoder_depth": 1,
    "expression_decoder_dim": 16,
    "set_transformer_depth": 1,
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test that ends in the error for a missing extra, so that the extra ``test`` alone gives a green run."""
    try:
        return (yield)
    except ImportError as error:
        if 'run pip install "petri-scvi[' in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    """Same start for every test, whatever ran before; no log folders in the working directory."""
    torch.set_num_threads(1)
    flags = os.environ.get("XLA_FLAGS")
    scvi.settings.seed = 0
    with columns_stay_in_modalities():
        yield
    scvi.settings.seed = None
    # scvi-tools appends to it whenever a seed is set, until no process can be started.
    os.environ.pop("XLA_FLAGS", None)
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Constructor arguments of the smallest useful model."""
    return dict(TINY)


@pytest.fixture(scope="session")
def make_screen() -> Callable[..., MuData]:
    """Make a new tiny screen, free to be changed."""

    def make(**changes: Any) -> MuData:
        arguments: dict[str, Any] = {
            "n_cells": 240,
            "n_pathways": 2,
            "n_control_guides": 2,
            "n_genes": 40,
            "image_size": 16,
        }
        return petri_scvi.datasets.synthetic_screen(**{**arguments, **changes})

    return make


@pytest.fixture
def screen(make_screen: Callable[..., MuData]) -> MuData:
    """A tiny screen, free to be changed."""
    return make_screen()


@pytest.fixture(scope="session")
def _trained(make_screen: Callable[..., MuData]) -> PETRI:
    scvi.settings.seed = 0
    mdata = make_screen()
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **TINY)
    model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture
def trained_model(_trained: PETRI) -> PETRI:
    """A tiny model after two epochs; shared, so tests must not change it or its data."""
    return _trained


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def make_planted() -> Callable[..., MuData]:
    """Make a screen whose activations ``X_sae`` are known: one dimension per program, and three others.

    Dimensions 0 to 5 are the six programs, active only in cells that show them and only in modalities in which they
    are visible (0 to 3 in both, 4 in images, 5 in RNA), with a little noise. 6 is the cell cycle, 7 is silent, 8 is
    noise.
    """

    def make(**changes: Any) -> MuData:
        mdata = petri_scvi.datasets.synthetic_screen(
            **{"n_cells": 1600, "n_pathways": 6, "image_size": 8, "n_genes": 120, **changes}
        )
        truth = mdata.uns["synthetic_screen"]
        pathway_of = truth["perturbations"].set_index("perturbation")["pathway"]
        blind = {"image": "rna-only", "rna": "image-only"}
        rng = np.random.default_rng(0)
        parts = []
        for name, adata in mdata.mod.items():
            pathway = adata.obs["perturbation"].astype(str).map(pathway_of).to_numpy()
            columns = [
                adata.obs["true_effect"].to_numpy() * (pathway == program.pathway) * (program.visibility != blind[name])
                for program in truth["programs"].itertuples()
            ]
            cycle = np.maximum(adata.obs["true_cell_cycle"].to_numpy() - 0.5, 0)
            noise = rng.exponential(size=adata.n_obs) * (rng.random(adata.n_obs) < 0.3)
            columns += [cycle, np.zeros(adata.n_obs), noise]
            parts.append(np.stack(columns, axis=1))
        mdata.obsm["X_sae"] = sparse.csr_matrix(np.vstack(parts).astype(np.float32))
        mdata["image"].obsm["image_features"] = mdata["image"].obsm["true_morphology"]
        return mdata

    return make


@pytest.fixture(scope="session")
def _planted(make_planted: Callable[..., MuData]) -> MuData:
    return make_planted()


@pytest.fixture
def planted(_planted: MuData) -> MuData:
    """A screen with known activations; results written to it are the test's own, its cells are shared."""
    with columns_stay_in_modalities():
        mdata = MuData(dict(_planted.mod))
    mdata.obsm["X_sae"] = _planted.obsm["X_sae"]
    mdata.uns.update(_planted.uns)
    return mdata


@pytest.fixture
def described(planted: MuData) -> MuData:
    """All tools called."""
    loadings = planted.uns["synthetic_screen"]["gene_loadings"]
    sets = {f"PROGRAM_{i}": list(loadings.index[loadings.iloc[:, i] != 0]) for i in (0, 1, 2, 3, 5)}
    tl.dimension_image_features(planted)
    tl.dimension_genes(planted, rankby_abs=True, progress=False)
    tl.dimension_gene_sets(planted, sets)
    tl.dimension_activity(planted, n_examples=4)
    return planted


@pytest.fixture
def reread(tmp_path: Path) -> Callable[[Any], Any]:
    """The same data, from a file."""

    def read(data: AnnData | MuData) -> AnnData | MuData:
        if isinstance(data, MuData):
            data.write(tmp_path / "data.h5mu")
            return mudata.read(tmp_path / "data.h5mu")
        data.write_h5ad(tmp_path / "data.h5ad")
        return anndata.read_h5ad(tmp_path / "data.h5ad")

    return read
