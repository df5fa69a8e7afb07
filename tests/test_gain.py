"""The benchmark of what PETRI gains: lines of settings that meet in one point."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from benchmarks import gain
from petri_scvi import datasets
from petri_scvi.datasets.synthetic._synthetic_screen import DIFFICULTIES

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.paper_table import Settings

N_SYSTEMS = len(gain.SYSTEMS)


@pytest.mark.parametrize("study", gain.STUDIES.values(), ids=gain.STUDIES)
def test_a_point_on_two_lines_is_trained_once_and_resumed(
    study: gain.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(name: str, settings: Settings, seed: int, checkpoints: dict[str, Any], folder: Path) -> None:
        path = folder / f"{name}.csv"
        if path.exists():
            return
        value = 0.5 + seed / 1e4 if name == "petri" else 0.5
        row = {"system": gain.SYSTEMS[name], "metric": gain.METRIC, "value": value, "seed": seed}
        rows = [("image", "none"), ("rna", "none"), ("image+rna", gain.FUSION), ("image+rna", "concatenate")]
        pd.DataFrame([row | {"modality": m, "fusion": f} for m, f in rows]).to_csv(path, index=False)
        written.append(path)

    monkeypatch.setattr(gain, "run_system", write)
    for seed in (100, 100, 300):
        gain.train(study, tmp_path, seed, [*gain.SYSTEMS])
    points = list(study.points())
    n_points = len({gain.name_of(study.settings_of(*point)) for point in points})
    assert n_points < len(points)
    assert len(written) == 2 * n_points * N_SYSTEMS
    scores = gain.collect(study, tmp_path)
    assert len(scores) == 2 * len(points) * N_SYSTEMS * 4
    found = gain.gains(scores)
    assert found["mean"].to_numpy() == pytest.approx(0.02)  # the mean of 0.01 and 0.03
    assert (found["n_screens"] == 2).all()
    gain.draw(study, scores, 42, tmp_path / "gain.png")
    gain.draw_gains(study, found, 42, tmp_path / "differences.png")
    assert min((tmp_path / name).stat().st_size for name in ("gain.png", "differences.png")) > 10_000


@pytest.mark.parametrize("study", gain.STUDIES.values(), ids=gain.STUDIES)
def test_what_is_called_usual_is_what_the_usual_screen_has(study: gain.Study) -> None:
    defaults = inspect.signature(datasets.synthetic_screen).parameters
    usual = {name: one.default for name, one in defaults.items()} | study.settings.screen_arguments
    usual["strength"] = DIFFICULTIES["weak"]["rna_strength"]
    assert {name: usual[name] for name in study.at} == study.at
    assert all(study.at[line] in values for line, values in study.lines.items() if line in study.at)


def test_effect_size_changes_both_modalities_and_nothing_else() -> None:
    study = gain.STUDIES["weak"]
    changed = study.settings_of("strength", 0.7).screen_arguments
    assert changed == {"n_cells": 4250, "image_strength": 0.7, "rna_strength": 0.7}
