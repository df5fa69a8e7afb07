"""The demo writes the files that the README lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import mudata
import numpy as np
import pandas as pd
import pooch
import pytest
import requests
import scanpy as sc

from petri_scvi import PETRI, datasets, demo
from petri_scvi.datasets.cache._registry_public import ROSETTA
from tests import tiny_rosetta

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("PETRI_SCVI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "user")
    monkeypatch.setattr(requests, "get", lambda url, **_: (_ for _ in ()).throw(requests.ConnectionError("no route")))
    return tmp_path / "cache"


def test_rosetta_without_a_network_says_what_is_missing_and_what_runs_without(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"needs a network: replicate_level_cp.*no route(.|\n)*`make demo` runs without"
    ):
        demo.main(["--data", "rosetta", "--out", str(tmp_path / "demo")])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # numba and umap-learn warn in their own code
def test_rosetta_leaves_a_umap_a_score_table_and_figures(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(ROSETTA, "TA-ORF", tuple(map(tiny_rosetta.unverified, ROSETTA["TA-ORF"])))
    tiny_rosetta.write_ta_orf(cache)
    genes = tiny_rosetta.GENES
    pairs = pd.DataFrame({"entity1": genes[::2], "entity2": genes[1::2]})
    monkeypatch.setattr(datasets, "stringdb", lambda: pairs)
    out = tmp_path / "demo"
    demo.main(["--data", "rosetta", "--steps", "40", "--out", str(out)])
    left = {path.name for path in out.iterdir()}
    figures = {"loss_curves.png", "umap.png", "scores.png"}
    assert left == figures | {"screen.h5mu", "model", "explorer.html", "scores.csv", "summary.txt"}
    scores = pd.read_csv(out / "scores.csv")
    assert {"guide_consistency", "edge_auc"} <= set(scores["metric"])
    assert (scores.loc[scores["metric"] == "edge_auc", "value"] > 0.9).all()
    said = (out / "summary.txt").read_text()
    assert "72 wells of Cell Painting, 72 of L1000" in said
    assert "Scores of the embedding" in said
    assert said in capsys.readouterr().out
