"""Screens and models that many tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scvi
import torch

import petri_scvi
from petri_scvi import PETRI
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

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


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    """Same start for every test, whatever ran before; no log folders in the working directory."""
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    with columns_stay_in_modalities():
        yield
    scvi.settings.seed = None


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
