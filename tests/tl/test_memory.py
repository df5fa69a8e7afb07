from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi.io import open_screen
from petri_scvi.tl import _embedding, _read_rows, aggregate_profiles, center_scale, whiten

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("is_on_disk", [False, True])
def test_the_steps_in_place_or_in_files_need_less_than_a_third_of_the_array_on_top(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_on_disk: bool
) -> None:
    for reader in (_embedding, _read_rows):
        monkeypatch.setattr(reader, "CHUNK_ROWS", 1024)  # as small beside this array as it is beside a large one
    n_cells, rng = 100_000, np.random.default_rng(0)
    target = rng.integers(10, size=n_cells)
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical.from_codes(target, ["non-targeting", *(f"GENE{i}" for i in range(9))]),
            "guide": pd.Categorical.from_codes(
                2 * target + rng.integers(2, size=n_cells), [f"sg{i}" for i in range(20)]
            ),
            "replicate": pd.Categorical.from_codes(rng.integers(4, size=n_cells), list("abcd")),
        },
        index=pd.RangeIndex(n_cells).astype(str),
    )
    adata = AnnData(obs=obs, obsm={"X": rng.standard_normal((n_cells, 256), dtype=np.float32)})
    n_bytes = adata.obsm["X"].nbytes
    keys, folder = ("X", "X"), None
    if is_on_disk:
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = open_screen(tmp_path / "cells.h5ad")
        keys, folder = ("scaled", "white"), tmp_path
    tracemalloc.start()
    center_scale(adata, "X", key_added=keys[0], folder=folder)
    whiten(adata, keys[0], key_added=keys[1], folder=folder)
    profiles = aggregate_profiles(adata, keys[1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.3 * n_bytes
    assert profiles.shape == (20, 256)
