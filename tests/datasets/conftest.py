from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from mudata import MuData


@pytest.fixture(scope="session")
def default_screen() -> MuData:
    """The screen at its default size; do not modify."""
    return synthetic_screen()


@pytest.fixture(scope="session")
def small_screen() -> MuData:
    """Three pathways; do not modify."""
    return synthetic_screen(n_cells=600, n_pathways=3, image_dtype="uint8")
