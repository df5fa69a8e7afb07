from __future__ import annotations

import logging
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from petri_scvi import PETRI
from petri_scvi.model.training import _duration
from petri_scvi.model.training._duration import as_duration, usual_epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningDataModule
    from mudata import MuData


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said of the time; short trainings are announced, too."""
    monkeypatch.setattr(_duration, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(_duration, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    caplog.set_level(logging.INFO, logger="scvi")
    return lambda: [line for line in caplog.messages if line.startswith("Training takes")]


def test_the_time_of_training_is_said_once_and_is_about_right(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]]
) -> None:
    PETRI.setup_mudata(screen)
    begin = time.perf_counter()
    PETRI(screen, **tiny).train(max_epochs=40, n_contexts_per_minibatch=2, n_cells_per_context=4)
    seconds = time.perf_counter() - begin
    (line,) = announced()
    found = re.match(r"Training takes about ([\d.]+) seconds: ([\d,]+) more steps of ([\d.e-]+) s on cpu\.", line)
    assert found is not None, line
    n_left, per_step = int(found[2].replace(",", "")), float(found[3])
    # What other programs do in the meantime decides the rest.
    assert n_left * per_step / 10 < seconds < 10 * (n_left * per_step + 5)
    assert "A max_epochs below 40 takes less." in line


def test_steps_that_are_left_are_counted(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]]
) -> None:
    PETRI.setup_mudata(screen)
    model = PETRI(screen, **tiny)
    arguments: dict[str, Any] = {"n_contexts_per_minibatch": 2, "n_cells_per_context": 4, "train_size": 1.0}
    model.train(max_epochs=99, max_steps=25, **arguments)
    model.train(max_epochs=1, max_steps=4, **arguments)  # over before it is timed
    assert [re.search(r": (\d+) more steps", line)[1] for line in announced()] == ["15"]  # type: ignore[index]


def test_early_stopping_may_end_sooner(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]]
) -> None:
    PETRI.setup_mudata(screen)
    PETRI(screen, **tiny).train(max_epochs=30, n_contexts_per_minibatch=2, n_cells_per_context=4, early_stopping=True)
    assert announced()[0].startswith("Training takes at most about")


def test_short_trainings_are_not_announced(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_duration, "MIN_SECONDS", 1e6)
    PETRI.setup_mudata(screen)
    PETRI(screen, **tiny).train(max_epochs=2, n_contexts_per_minibatch=2, n_cells_per_context=4)
    assert not announced()


def test_durations_have_units_that_people_use() -> None:
    durations = [as_duration(seconds) for seconds in (20, 119, 420, 7200, 300_000)]
    assert durations == ["20 seconds", "119 seconds", "7 minutes", "2 hours", "3 days"]


def test_steps_grow_with_the_square_root_of_the_number_of_cells() -> None:
    def epochs(n_cells: int) -> int:
        return usual_epochs(cast("LightningDataModule", SimpleNamespace(n_obs=n_cells)))

    assert [epochs(n) for n in (4, 1000, 10_000, 100_000, 10**6, 10**8)] == [400, 61, 19, 6, 2, 1]
    steps = [epochs(n) * n / 64 for n in (10_000, 40_000)]
    assert steps[1] / steps[0] == pytest.approx(2, rel=0.1)
