"""Embeddings that are not plain arrays in memory give the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse

from petri_scvi import tl
from petri_scvi.tl import _embedding, _read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData


def as_kind(kind: str, values: np.ndarray, folder: Path) -> Any:
    if kind == "dask":
        return da.from_array(values, chunks=(50, 2))
    if kind == "memmap":
        values.tofile(folder / "embedding")
        return np.memmap(folder / "embedding", dtype=values.dtype, mode="r", shape=values.shape)
    if kind == "zarr":
        stored = zarr.create_array(folder / "embedding.zarr", shape=values.shape, chunks=(50, 2), dtype=values.dtype)
        stored[:] = values
        return stored
    if kind == "hdf5":
        with h5py.File(folder / "embedding.h5", "w") as file:
            file["embedding"] = values
        return h5py.File(folder / "embedding.h5")["embedding"]
    return sparse.csr_matrix(values)


@pytest.mark.parametrize("kind", ["dask", "memmap", "zarr", "hdf5", "sparse"])
def test_every_tool_that_reads_cells(
    kind: str,
    make_cells: Callable[..., AnnData],
    assert_same: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reader in (_embedding, _read_rows):
        monkeypatch.setattr(reader, "CHUNK_ROWS", 37)  # several chunks
    plain, other = make_cells(), make_cells()
    values = plain.obsm["X_emb"].copy()
    other.obsm["X_emb"] = as_kind(kind, values, tmp_path)
    for adata in (plain, other):
        tl.perturbation_strength(adata, "X_emb", n_permutations=19, progress=False)
        tl.replicate_consistency(adata, "X_emb", n_null=200)
        tl.probe(adata, "X_emb", obs_key="replicate", method="knn")
        tl.mixing(adata, "X_emb", obs_key="replicate")
        tl.score_screen(adata, ["X_emb"], n_bootstrap=3, progress=False)
        tl.center_scale(adata, "X_emb")
        tl.whiten(adata, "X_emb", key_added="X_white")
    assert_same(other.uns["petri_scvi"], plain.uns["petri_scvi"], kind)
    for key in ("X_emb_scaled", "X_white"):
        np.testing.assert_array_equal(other.obsm[key], plain.obsm[key])
    np.testing.assert_array_equal(*[tl.aggregate_profiles(adata, "X_emb").X for adata in (plain, other)])
    # The slot is replaced; a file of the user's stays as it is.
    tl.center_scale(other, "X_emb", key_added="X_emb")
    np.testing.assert_array_equal(other.obsm["X_emb"], plain.obsm["X_emb_scaled"])
    if kind == "memmap":
        np.testing.assert_array_equal(np.fromfile(tmp_path / "embedding", values.dtype), values.ravel())
