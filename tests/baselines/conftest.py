"""Screens and short cuts that the tests of the baselines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scvi

import petri_scvi

if TYPE_CHECKING:
    from collections.abc import Callable

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
