"""What the tools write, and the parameters they were called with, survive a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from petri_scvi import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

EDGES = pd.DataFrame({"a": ["GENE0", "GENE2", "GENE4"], "b": ["GENE1", "GENE3", "GENE5"], "score": [0.99, 0.99, 0.5]})


def on_cells(data: AnnData | MuData) -> None:
    """Call all that writes beside the cells."""
    tl.center_scale(data, "X_emb", replicate_key=("plate", "replicate"))
    tl.whiten(data, "X_emb_scaled", fit_on="controls")
    tl.perturbation_strength(data, "X_emb", replicate_key=None, n_permutations=19, progress=False)
    tl.replicate_consistency(data, "X_emb_scaled_whitened", n_null=200)
    tl.probe(data, "X_emb", obs_key="replicate", method="knn")
    tl.mixing(data, "X_emb", obs_key="replicate")
    tl.score_screen(data, ["X_emb"], edges=EDGES, fusions=["max_cosine"], n_bootstrap=3, progress=False)


def on_profiles(guides: AnnData, genes: AnnData) -> None:
    """Call all that writes beside the profiles."""
    tl.guide_consistency(guides, n_null=200)
    tl.mean_average_precision(guides, n_null=200)
    tl.profile_similarity(genes)
    tl.edge_recall(genes, EDGES, similarity_key="similarity")
    tl.efaar_recall(genes, EDGES)


def results_of(data: AnnData | MuData, n: int) -> dict[str, Any]:
    results: dict[str, Any] = data.uns["petri_scvi"]
    assert len(results) == n
    assert all("parameters" in results[name] for name in results)
    return results


@pytest.mark.parametrize("shared", [True, False])
def test_all_that_is_written_to_cells_of_two_modalities(
    make_mudata: Callable[..., MuData], assert_same: Callable[..., None], tmp_path: Path, shared: bool
) -> None:
    mdata = make_mudata(shared=shared)
    for modality in mdata.mod.values():
        modality.obs["plate"] = "p"
    on_cells(mdata)
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu")
    expected = results_of(mdata, 7)
    assert_same(results_of(read, 7), expected)
    holders = {"all": (mdata, read)} if shared else {name: (mdata.mod[name], read.mod[name]) for name in mdata.mod}
    for before, after in holders.values():
        for key in ("X_emb", "X_emb_scaled", "X_emb_scaled_whitened"):
            np.testing.assert_array_equal(after.obsm[key], before.obsm[key])
    on_cells(read)  # the tools go on from a file that was read
    assert_same(results_of(read, 7), expected)


@pytest.mark.filterwarnings("ignore:3 of 6 genes:UserWarning")
def test_all_that_is_written_to_cells_and_profiles_of_one_modality(
    make_cells: Callable[..., AnnData], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    adata = make_cells()
    adata.obs["plate"] = "p"
    on_cells(adata)
    guides = tl.aggregate_profiles(adata, "X_emb_scaled_whitened")
    genes = tl.aggregate_profiles(adata, "X_emb_scaled_whitened", level="gene", over_guides="median")
    on_profiles(guides, genes)
    fused = tl.late_fusion([genes, genes], "max_cosine")
    for name, data, n in (("cells", adata, 7), ("guides", guides, 3), ("genes", genes, 4), ("fused", fused, 1)):
        data.write_h5ad(tmp_path / f"{name}.h5ad")
        assert_same(results_of(anndata.read_h5ad(tmp_path / f"{name}.h5ad"), n), results_of(data, n), name)
    again = [anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("guides", "genes")]
    on_profiles(*again)
    for data, expected, n in zip(again, (guides, genes), (3, 4), strict=True):
        assert_same(results_of(data, n), results_of(expected, n))
