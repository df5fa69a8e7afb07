from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from benchmarks import on_gpu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_script_scores_petri_beside_pca_and_times_the_step(tmp_path: Path) -> None:
    on_gpu.main(["--quick", "--device", "cpu", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "on_gpu.csv")
    scores = table[table["section"] == "weak screen, width 256"].set_index("what")["median"]
    assert scores.filter(like="PETRI: edge_auc").between(0, 1).all()
    assert len(scores.filter(like="PETRI: edge_auc")) > len(scores.filter(like="PCA of pixels")) / 4 > 0
    assert (table.loc[table["what"] == "training", "median"] > 0).all()
    assert {"ours", "direct"} <= set(table.loc[table["section"] == "training step", "what"])


def test_no_section_starts_that_would_end_after_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    sections = [
        (name, lambda table, run, name=name: ran.append(name), seconds)
        for name, seconds in [("long", 120), ("short", 1)]
    ]
    monkeypatch.setattr(on_gpu, "SECTIONS", sections)
    monkeypatch.setattr(on_gpu.torch.cuda, "get_device_name", lambda: "a GPU")
    on_gpu.main(["--device", "cuda", "--minutes", "1", "--out", str(tmp_path)])
    assert ran == ["short"]
    assert "long: not run" in capsys.readouterr().out


def test_a_section_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def fail(table: object, run: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(
        on_gpu, "SECTIONS", [("first", fail, 1), ("second", lambda table, run: ran.append("second"), 1)]
    )
    on_gpu.main(["--quick", "--device", "cpu", "--out", str(tmp_path)])
    assert ran == ["second"]


def test_without_a_gpu_only_a_quick_run_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--quick"):
        on_gpu.main(["--device", "cpu", "--out", str(tmp_path)])
