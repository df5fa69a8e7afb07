"""The benchmark of what PETRI gains: lines of settings that meet in one point."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from benchmarks import gain
from petri_scvi import datasets

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.paper_table import Settings

N_SYSTEMS = len(gain.SYSTEMS)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Results of all points, of systems that are not trained, twice."""
    written: list[Path] = []

    def write(name: str, settings: Settings, seed: int, checkpoints: dict[str, Any], folder: Path) -> None:
        path = folder / f"{name}.csv"
        if path.exists():
            return
        row = {"system": gain.SYSTEMS[name], "metric": gain.METRIC, "value": 0.5, "seed": seed}
        rows = [("image", "none"), ("rna", "none"), ("image+rna", gain.FUSION), ("image+rna", "concatenate")]
        pd.DataFrame([row | {"modality": m, "fusion": f} for m, f in rows]).to_csv(path, index=False)
        written.append(path)

    monkeypatch.setattr(gain, "run_system", write)
    for _ in range(2):
        gain.train(tmp_path, 100, [*gain.SYSTEMS])
    return written


def test_a_point_on_two_lines_is_trained_once_and_resumed(trained: list[Path], tmp_path: Path) -> None:
    n_points = len({gain.name_of(gain.settings_of(*point)) for point in gain.points()})
    assert n_points < len(list(gain.points()))
    assert len(trained) == n_points * N_SYSTEMS
    found = gain.collect(tmp_path)
    assert len(found) == len(list(gain.points())) * N_SYSTEMS * 4
    gain.draw(found, 42, tmp_path / "gain.png")
    assert (tmp_path / "gain.png").stat().st_size > 10_000


def test_what_is_called_usual_is_what_the_screen_has_by_default() -> None:
    defaults = inspect.signature(datasets.synthetic_screen).parameters
    assert {name: defaults[name].default for name in gain.USUAL} == gain.USUAL
