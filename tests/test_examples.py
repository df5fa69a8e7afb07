"""The scripts in ``examples`` run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from petri_scvi import PETRI

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a script in an empty folder and return what it wrote to its output."""

    def run(script: str, *arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, str(EXAMPLES / script), *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return finished.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("script", "extra"), [("ray_train.py", "ray"), ("ray_tune.py", "autotune")])
def test_without_ray_there_is_help_and_the_name_of_the_extra(tmp_path: Path, script: str, extra: str) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('No module named ray', name='ray')")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])  # a package that is not there comes first
        command = [sys.executable, str(EXAMPLES / script), *arguments]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)

    assert "--folder" in call("--help").stdout
    failed = call()
    assert failed.returncode == 2
    assert f'ray is missing; run pip install "petri-scvi[{extra}]"' in failed.stderr


@pytest.mark.long
def test_two_workers_of_a_local_ray_cluster_train(run: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("ray.train")
    assert f"saved: {tmp_path / 'petri_ray' / 'model'}" in run("ray_train.py", "--small", "--workers", "2")
    checkpoint = torch.load(tmp_path / "petri_ray" / "training.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * 2  # 240 cells by 8 contexts, 8 cells and 2 workers
    assert PETRI.load(str(tmp_path / "petri_ray" / "model")).is_trained


@pytest.mark.long
def test_autotune_finds_the_best_of_some_trials(run: Callable[..., str]) -> None:
    for package in ("ray.tune", "hyperopt", "muon", "scib_metrics", "tensorboard"):
        pytest.importorskip(package)
    output = run("ray_tune.py", "--trials", "2", "--max-epochs", "2")
    (best,) = [line for line in output.splitlines() if line.startswith("best:")]
    assert "plan_kwargs" in best
