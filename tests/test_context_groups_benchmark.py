"""The benchmark of documents by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from benchmarks import context_groups

if TYPE_CHECKING:
    from pathlib import Path

PATHWAYS = {f"pathway_{i}": [f"T{i}{j}" for j in range(3 + i % 2)] for i in range(6)}


def test_groups_are_of_the_pathways_or_random_ones_of_the_same_sizes() -> None:
    made = {name: make(PATHWAYS, np.random.default_rng(0)) for name, make in context_groups.GROUPS.items()}
    assert made["all pathways"] == PATHWAYS
    assert len(made["half of the pathways"]) == 3
    assert made["half of the pathways"].items() <= PATHWAYS.items()
    for name, members in made["pathways without one member"].items():
        assert len(set(PATHWAYS[name]) - set(members)) == 1
    random = made["random groups"].values()
    assert sorted(map(len, random)) == sorted(map(len, PATHWAYS.values()))
    assert sorted(sum(random, [])) == sorted(sum(PATHWAYS.values(), []))


def test_differences_are_paired_by_screen() -> None:
    place = {"modality": "rna", "fusion": "none", "metric": "edge_auc", "screen": "weak"}
    place |= {"groups": "random groups", "pairs": "all"}
    values = {(context_groups.NONE, 100): 0.5, (context_groups.NONE, 101): 0.9}
    values |= {("random groups", 100): 0.6, ("random groups", 101): 1.0}
    scores = pd.DataFrame([{**place, "system": s, "seed": seed, "value": value} for (s, seed), value in values.items()])
    (row,) = context_groups.differences(scores).to_dict("records")
    assert row["mean"] == pytest.approx(0.1)
    assert row["half_width"] == pytest.approx(0, abs=1e-9)
    assert (row["without"], row["with"]) == (pytest.approx(0.7), pytest.approx(0.8))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_quick_run_writes_its_tables(tmp_path: Path) -> None:
    context_groups.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    found = pd.read_csv(tmp_path / "differences.csv")
    assert set(found["groups"]) == set(context_groups.GROUPS)
    assert set(found["pairs"]) == {"all", "not in a group"}
