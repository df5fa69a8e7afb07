"""The demo writes the files that the README lists."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pytest
import scanpy as sc

from petri_scvi import PETRI, demo


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # numba and umap-learn warn in their own code
def test_demo_leaves_screen_model_figures_and_summary(tmp_path, capsys):
    demo.main(["--cells", "800", "--steps", "10", "--out", str(tmp_path / "demo")])
    left = {path.name for path in (tmp_path / "demo").iterdir()}
    assert left == {
        "screen.h5mu",
        "model",
        "loss_curves.png",
        "umap.png",
        "explorer.html",
        "reconstructed_crops.png",
        "reconstructed_expression.png",
        "summary.txt",
    }
    assert (tmp_path / "demo" / "summary.txt").read_text() in capsys.readouterr().out
    mdata = mudata.read_h5mu(tmp_path / "demo" / "screen.h5mu")
    model = PETRI.load(str(tmp_path / "demo" / "model"), mdata)
    np.testing.assert_allclose(model.get_latent_representation(), mdata.obsm["X_petri"], atol=1e-5)
    assert isinstance(mdata["image"], anndata.AnnData)


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_scanpy_finds_neighbours_of_more_cells_than_it_compares_one_by_one(rng):
    cells = anndata.AnnData(rng.normal(size=(8200, 8)).astype(np.float32))
    sc.pp.neighbors(cells, use_rep="X", n_neighbors=15)
    assert (cells.obsp["distances"].getnnz(axis=1) >= 14).all()
