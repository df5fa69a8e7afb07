from __future__ import annotations

import logging
import re
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from petri_scvi import PETRI
from petri_scvi.model.training import _duration
from petri_scvi.model.training._duration import TimeEstimate, as_duration, usual_epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningDataModule, LightningModule
    from mudata import MuData


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said of the time; short trainings are announced, too."""
    monkeypatch.setattr(_duration, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(_duration, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    caplog.set_level(logging.INFO, logger="scvi")
    return lambda: [line for line in caplog.messages if line.startswith("Training takes")]


def test_the_time_of_training_is_said_once(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=3)
    monkeypatch.setattr(_duration.time, "perf_counter", lambda: float(next(clock)))
    PETRI.setup_mudata(screen)
    PETRI(screen, **tiny).train(max_epochs=20, train_size=1.0, enable_progress_bar=False)
    per_epoch = -(-max(modality.n_obs for modality in screen.mod.values()) // 64)
    n_left = 20 * per_epoch - _duration.N_FIRST_STEPS - _duration.MIN_TIMED_STEPS
    assert announced() == [
        f"Training takes about {as_duration(3 * n_left)}: {n_left} more steps of 3 s on cpu. "
        "A max_epochs below 20 takes less."
    ]


def test_time_spent_on_held_out_cells_is_not_that_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(_duration.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(_duration, "MIN_SECONDS", 0.0)
    said: list[str] = []
    monkeypatch.setattr(_duration.logger, "info", said.append)
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        num_training_batches=2,
        accumulate_grad_batches=1,
        max_epochs=50,
        max_steps=-1,
        global_step=0,
        check_val_every_n_epoch=1,
        num_val_batches=[1],
        early_stopping_callbacks=[],
        strategy=SimpleNamespace(root_device="cpu"),
    )
    callback, module = TimeEstimate(), cast("LightningModule", None)
    for step in range(20):
        now[0] += 2
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, step)
        if step % 2:
            callback.on_validation_start(trainer, module)
            now[0] += 100
            callback.on_validation_end(trainer, module)
    # 90 steps, and 45 times held-out cells that take 0.4 steps, of 2 seconds each
    assert said == ["Training takes about 4 minutes: 90 more steps of 2 s on cpu. A max_epochs below 50 takes less."]


def test_steps_that_are_left_are_counted(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]]
) -> None:
    PETRI.setup_mudata(screen)
    model = PETRI(screen, **tiny)
    arguments: dict[str, Any] = {"n_contexts_per_minibatch": 2, "n_cells_per_context": 4, "train_size": 1.0}
    model.train(max_epochs=99, max_steps=25, **arguments)
    model.train(max_epochs=1, max_steps=4, **arguments)  # over before it is timed
    (line,) = announced()
    assert re.search(r": 15 more steps of [\d.e-]+ s on cpu\.$", line), line


def test_early_stopping_may_end_sooner(
    screen: MuData, tiny: dict[str, Any], announced: Callable[[], list[str]]
) -> None:
    PETRI.setup_mudata(screen)
    PETRI(screen, **tiny).train(max_epochs=2, n_contexts_per_minibatch=2, n_cells_per_context=4, early_stopping=True)
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
