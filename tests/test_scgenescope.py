"""The benchmark of scGeneScope, on tiny files of the same layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from benchmarks import scgenescope
from petri_scvi import pp

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

TREATMENTS = ["non-targeting", "a", "b", "c"]


@pytest.fixture(scope="module")
def mdata() -> MuData:
    """Ten cells of each treatment, split and modality; do not modify."""
    labels = [(split, treatment) for split in scgenescope.SPLITS for treatment in TREATMENTS for _ in range(10)]
    parts = {}
    for name in ("image", "rna"):
        obs = pd.DataFrame(labels, columns=["split", "perturbation"]).set_axis(
            [f"{name}{i}" for i in range(len(labels))], axis=0
        )
        parts[name] = AnnData(obs=obs.assign(is_control=obs["perturbation"] == "non-targeting"))
    return pp.build_mudata(**parts)


def test_treatments_are_named_from_what_differs_between_them_and_controls_are_left_out(mdata: MuData) -> None:
    rng = np.random.default_rng(0)
    codes = pd.Categorical(mdata["rna"].obs["perturbation"], TREATMENTS).codes
    noise = rng.normal(size=(len(codes), 4))
    embeddings = {"rna": 9 * np.eye(4)[codes] + noise, "image": noise}
    found = scgenescope.score(mdata, embeddings, n_examples=20, seed=0).set_index("input")
    assert found.loc["expression, one cell", "test"] == 1
    assert found.loc["pair of cells", "test_other_round"] == 1
    assert found.loc["image, one cell", "test"] < 0.6  # chance is a third
    _, labels = scgenescope.examples(mdata, embeddings, "test", n_pooled=2, n_examples=5, seed=0)
    assert sorted(set(labels)) == ["a", "b", "c"]


def test_means_of_cells_are_easier_than_cells(mdata: MuData) -> None:
    rng = np.random.default_rng(0)
    codes = pd.Categorical(mdata["rna"].obs["perturbation"], TREATMENTS).codes
    embeddings = {name: 0.9 * np.eye(4)[codes] + rng.normal(size=(len(codes), 4)) for name in ("image", "rna")}
    found = scgenescope.score(mdata, embeddings, n_examples=60, seed=0).set_index("input")["test"]
    assert found["means of 32 cells of each"] > found["pair of cells"] + 0.1


def test_published_accuracies_are_beside_ours() -> None:
    ours = pd.DataFrame({"input": ["pair of cells"], "test": [0.3], "system": ["PETRI"]})
    table = scgenescope.beside_published(ours)
    pairs = table[table["input"] == "pair of cells"]
    assert pairs["system"].tolist() == ["PETRI", "published: scVI and ViT-H"]
    assert pairs["accuracy"].tolist()[1] == 0.526


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_runs_quickly_and_embeds_better_than_chance(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scgenescope.main(["--quick", "--out", str(tmp_path / "scores.csv")])
    assert "SIMULATED FILES. Accuracy; chance is 0.036" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "scores.csv")
    ours = table[table["system"].isin(["PETRI", "given features"])]
    assert len(ours) == 8
    assert (ours["test"] > 0.1).all()
