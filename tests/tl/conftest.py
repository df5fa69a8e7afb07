"""Cells and profiles with known answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Callable


def guide_table(n_genes: int, n_guides: int, n_controls: int = 4) -> pd.DataFrame:
    """One row per guide, controls last."""
    genes = np.repeat([f"GENE{i}" for i in range(n_genes)], n_guides)
    genes = np.concatenate([genes, np.repeat("non-targeting", n_controls)])
    return pd.DataFrame({"target_gene": genes}, index=[f"sg{i}" for i in range(len(genes))])


def _assert_same(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name in expected:
            _assert_same(found[name], expected[name], f"{where}/{name}")
    elif isinstance(expected, pd.DataFrame):
        assert list(found.columns) == list(expected.columns), where
        for column in expected:
            _assert_same(found[column].to_numpy(), expected[column].to_numpy(), f"{where}/{column}")
    elif np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=where)
    else:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), where)


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Compare results in ``uns``, whatever a file turned their containers into."""
    return _assert_same


@pytest.fixture
def make_profiles() -> Callable[..., AnnData]:
    """Profiles of guides: a direction per gene times ``signal``, plus noise."""

    def make(
        n_genes: int = 20, n_guides: int = 3, n_dims: int = 8, signal: float = 0.0, seed: int = 0, n_controls: int = 4
    ) -> AnnData:
        rng = np.random.default_rng(seed)
        obs = guide_table(n_genes, n_guides, n_controls)
        codes = pd.factorize(obs["target_gene"])[0]
        directions = rng.normal(size=(n_genes + 1, n_dims))
        return AnnData(X=signal * directions[codes] + rng.normal(size=(len(obs), n_dims)), obs=obs)

    return make


@pytest.fixture
def make_cells() -> Callable[..., AnnData]:
    """Cells of a small screen with an embedding ``X_emb``; each target gene shifts it by ``signal``."""

    def make(
        n_genes: int = 6, n_guides: int = 2, n_per_guide: int = 20, n_dims: int = 5, signal: float = 2.0, seed: int = 0
    ) -> AnnData:
        rng = np.random.default_rng(seed)
        guides = guide_table(n_genes, n_guides)
        row = np.repeat(np.arange(len(guides)), n_per_guide)
        obs = pd.DataFrame(
            {
                "guide": guides.index[row],
                "target_gene": guides["target_gene"].to_numpy()[row],
                "perturbation": guides["target_gene"].to_numpy()[row],
                "replicate": [f"r{i % 2}" for i in range(len(row))],
            },
            index=[f"cell{seed}_{i}" for i in range(len(row))],
        )
        directions = np.vstack([rng.normal(size=(n_genes, n_dims)), np.zeros(n_dims)])
        shift = directions[pd.factorize(obs["target_gene"])[0]]
        shift += 3.0 * (obs["replicate"] == "r1").to_numpy()[:, None]
        embedding = (signal * shift + rng.normal(size=shift.shape)).astype(np.float32)
        return AnnData(obs=obs, obsm={"X_emb": embedding})

    return make


@pytest.fixture
def make_mudata(make_cells: Callable[..., AnnData]) -> Callable[..., MuData]:
    """Two unpaired modalities; the embedding is shared, or each modality has its own."""

    def make(*, shared: bool = True, **changes: Any) -> MuData:
        image, rna = make_cells(seed=1, **changes), make_cells(seed=2, **changes)
        mdata = MuData({"image": image, "rna": rna})
        if shared:
            mdata.obsm["X_emb"] = np.vstack([image.obsm["X_emb"], rna.obsm["X_emb"]])
            for modality in mdata.mod.values():
                del modality.obsm["X_emb"]
        return mdata

    return make
