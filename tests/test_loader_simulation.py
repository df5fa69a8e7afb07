from __future__ import annotations

from typing import Any

import pytest

from benchmarks.loader_simulation import Assumptions, utilisation

STEADY: dict[str, Any] = {"n_nodes": 2, "gpus_per_node": 2, "jitter": 0.0, "stall_probability": 0.0, "n_steps": 100}
"""No chance: the share can be worked out by hand."""
DEMAND = 5_000.0 * 48_968
"""Bytes per second that a GPU takes."""


def share(**changes: Any) -> float:
    return utilisation(Assumptions(**{**STEADY, "n_weights": 0.0, **changes}))


def test_gpus_that_need_not_wait_compute_all_the_time() -> None:
    assert share(cached_share=1.0) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("part", [0.25, 0.8])
def test_gpus_compute_as_much_as_their_disk_delivers(part: float) -> None:
    rate = part * 2 * DEMAND  # two GPUs at each disk
    assert share(disk_bytes_per_second=rate) == pytest.approx(part, rel=0.02)
    assert share(disk_bytes_per_second=rate, is_disk_shared=True) == pytest.approx(part / 2, rel=0.02)
    assert share(disk_bytes_per_second=1.1 * 2 * DEMAND) == pytest.approx(1, abs=0.01)


def test_what_is_cached_does_not_burden_the_disk() -> None:
    rate = 0.25 * 2 * DEMAND
    assert share(disk_bytes_per_second=rate, cached_share=0.5) == pytest.approx(0.5, rel=0.05)


def test_gradients_are_exchanged_after_every_step() -> None:
    step = 256 / 5_000
    exchange = 2 * 3 / 4 * 1e6 * 4 / 1e9
    found = share(cached_share=1.0, n_weights=1e6, network_bytes_per_second=1e9)
    assert found == pytest.approx(step / (step + exchange), rel=1e-6)


def test_the_slowest_gpu_of_many_holds_up_all_others() -> None:
    few, many = (share(cached_share=1.0, n_nodes=n_nodes, jitter=0.1, n_steps=200) for n_nodes in (1, 8))
    assert many < few < 1
