"""The benchmark of the defaults runs, and goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from benchmarks import defaults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_defaults_are_trained_scored_and_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--quick", "--out", str(tmp_path), "--screens", "weak", "--threads", "1"]
    defaults.main(arguments)
    found = pd.read_csv(tmp_path / "defaults.csv")
    assert set(found["system"]) == {"PETRI", "PCA of pixels and of expression"}
    assert (found.loc[found["system"] == "PETRI", "seconds"] > 0).all()
    assert (pd.read_csv(tmp_path / "default_steps.csv")["seconds"] > 0).all()
    assert "weak, screen 200" in capsys.readouterr().out
    monkeypatch.setattr(defaults, "train_and_score", None)  # nothing is trained again
    defaults.main(arguments)
