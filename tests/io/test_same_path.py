"""Other processes that write to the path of a training store, or have left files there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from anndata import AnnData

from petri_scvi import io
from petri_scvi.common import sole_writer
from petri_scvi.io.store import _write

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_a_path_that_another_process_writes_is_refused(mdata: MuData, tmp_path: Path, suffix: str) -> None:
    with sole_writer(tmp_path / f"s{suffix}"):
        with pytest.raises(BlockingIOError, match=f"another process is writing .*s{suffix}"):
            io.write_training_store(mdata, tmp_path / f"s{suffix}", progress=False)
    io.write_training_store(mdata, tmp_path / f"s{suffix}", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
@pytest.mark.parametrize("name", ["partial", "partial.new", "partial.h5mu", "partial.h5mu.partial"])
def test_what_happens_to_bear_the_name_of_an_unfinished_store_is_kept(
    mdata: MuData, tmp_path: Path, suffix: str, name: str
) -> None:
    def make_h5ad(path: Path) -> None:
        AnnData(np.ones((2, 2))).write_h5ad(path)

    makers: list[Callable[[Path], None]] = [Path.mkdir, Path.touch, make_h5ad]
    for i, make in enumerate(makers):
        folder = tmp_path / str(i)
        folder.mkdir()
        theirs, path = folder / f"s{suffix}.{name}", folder / f"s{suffix}"
        make(theirs)
        if theirs.is_dir():
            (theirs / "notes.txt").write_text("keep")
        content = theirs.read_bytes() if theirs.is_file() else (theirs / "notes.txt").read_text()
        is_in_the_way = name == "partial" or (suffix == ".zarr" and name.startswith("partial.h5mu"))
        if is_in_the_way:
            with pytest.raises(FileExistsError, match=r"exists and is not an unfinished training store.*Move it away"):
                io.write_training_store(mdata, path, progress=False)
            assert content == (theirs.read_bytes() if theirs.is_file() else (theirs / "notes.txt").read_text())
            theirs.rename(folder / "away")
        io.write_training_store(mdata, path, progress=False)
        assert path.exists()
        left = folder / "away" if is_in_the_way else theirs
        assert content == (left.read_bytes() if left.is_file() else (left / "notes.txt").read_text())
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_an_error_at_the_start_leaves_nothing(
    mdata: MuData, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(_write, "create_records", full)
    with pytest.raises(OSError, match="full"):
        io.write_training_store(mdata, tmp_path / f"s{suffix}", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_known_in_every_path(mdata: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    mdata.write_h5mu(tmp_path / "source.h5mu")
    io.write_training_store("~/source.h5mu", "~/s.h5mu", progress=False)
    io.verify_training_store("~/s.h5mu", progress=False)
    assert io.open_screen("~/s.h5mu").n_obs == mdata.n_obs
    assert (tmp_path / "s.h5mu").is_file()
