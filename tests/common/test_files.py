from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from petri_scvi.common import _files, written_whole
from petri_scvi.common._files import SUFFIX, _prefix, delete

if TYPE_CHECKING:
    from pathlib import Path


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "result[1].txt"
    target.write_text("old")

    def write() -> None:
        with written_whole(target) as unfinished:
            unfinished.write_text("half of")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == [target.name]


def test_the_file_appears_when_it_is_complete_with_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    target, plain = tmp_path / "result.txt", tmp_path / "plain.txt"
    plain.write_text("")
    with written_whole(target) as unfinished:
        unfinished.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert target.stat().st_mode == plain.stat().st_mode


def test_a_folder_can_be_written_whole(tmp_path: Path) -> None:
    with written_whole(tmp_path / "store.zarr") as unfinished:
        unfinished.mkdir()
        (unfinished / "part").write_text("1")
    assert (tmp_path / "store.zarr" / "part").read_text() == "1"
    assert os.listdir(tmp_path) == ["store.zarr"]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path: Path, is_deleted: bool) -> None:
    target = tmp_path / "result.txt"
    script = (
        "import os, runpy, sys; from pathlib import Path\n"
        "written_whole = runpy.run_path(sys.argv[2])['written_whole']\n"  # the whole package takes seconds to import
        "with written_whole(Path(sys.argv[1])) as unfinished: unfinished.write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(target), _files.__file__], check=False)
    alive = tmp_path / f"{_prefix(target)}{os.getpid()}.abc{SUFFIX}"
    alive.mkdir()
    mine = tmp_path / f"{target.name}.partial"
    mine.mkdir()
    assert len(os.listdir(tmp_path)) == 3
    if is_deleted:
        delete(target)
    else:
        with written_whole(target) as unfinished:
            unfinished.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([alive.name, mine.name] + [target.name] * (not is_deleted))
