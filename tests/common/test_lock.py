"""One process writes a file at a time; the others raise an error, or wait."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from petri_scvi.common import _lock as module
from petri_scvi.common import sole_writer

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("fcntl")

HOLD = """
import runpy
import sys
from pathlib import Path
sole_writer = runpy.run_path(sys.argv[2])["sole_writer"]  # the whole package takes seconds to import
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that writes the file until it gets a line, or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), module.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")


def test_a_second_process_is_told_and_the_first_goes_on(tmp_path: Path) -> None:
    other = hold(tmp_path / "s.h5mu")
    with pytest.raises(BlockingIOError, match=r"another process is writing .*s.h5mu. Wait until it has ended, or"):
        with sole_writer(tmp_path / "s.h5mu"):
            pass
    with sole_writer(tmp_path / "other.h5mu"):  # of another file it is no business
        pass
    end(other)
    with sole_writer(tmp_path / "s.h5mu"):
        assert os.listdir(tmp_path) == [".s.h5mu.lock"]
    assert os.listdir(tmp_path) == []


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    other = hold(tmp_path / "s.h5mu")
    other.kill()
    other.communicate()
    assert os.listdir(tmp_path) == [".s.h5mu.lock"]
    with sole_writer(tmp_path / "s.h5mu"):
        pass
    assert os.listdir(tmp_path) == []


def test_an_error_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), sole_writer(tmp_path / "s.h5mu"):
        raise OSError("the disk is full")
    assert os.listdir(tmp_path) == []


def test_whoever_waits_says_so_and_comes_after(tmp_path: Path) -> None:
    other, order = hold(tmp_path / "s.h5mu"), []

    def end_soon() -> None:
        order.append("ends")
        end(other)

    def waited() -> None:
        order.append("waits")
        threading.Timer(0.2, end_soon).start()

    with sole_writer(tmp_path / "s.h5mu", waited):
        order.append("writes")
    assert order == ["waits", "ends", "writes"]


def test_a_lock_that_its_holder_removed_is_not_taken_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, n_looks = tmp_path / ".s.h5mu.lock", 0
    is_at = module._is_at

    def removed_meanwhile(path: Path, descriptor: int) -> bool:
        nonlocal n_looks
        n_looks += 1
        if n_looks == 1:
            lock.unlink()
        return is_at(path, descriptor)

    monkeypatch.setattr(module, "_is_at", removed_meanwhile)
    with sole_writer(tmp_path / "s.h5mu"):
        assert lock.exists()
        with pytest.raises(BlockingIOError), sole_writer(tmp_path / "s.h5mu"):
            pass
    assert n_looks == 2


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    with sole_writer(tmp_path / "s.h5mu"):
        pass
    assert os.listdir(tmp_path) == []
