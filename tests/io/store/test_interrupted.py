"""A training store whose writing is interrupted loses nothing, and never looks complete."""

from __future__ import annotations

import functools
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from anndata import AnnData

from petri_scvi import io
from petri_scvi.io.store import _arrays, _file, _write
from tests.kill_process import killed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

MAX_MEMORY = 4 * 600
"""Five crops per block: many blocks."""


def write(mdata: AnnData, path: Path, **arguments: Any) -> None:
    io.write_training_store(mdata, path, **{"progress": False, "max_memory": MAX_MEMORY, **arguments})


def written_blocks(path: Path) -> list[tuple[str, int]]:
    """Blocks that the file notes as written."""
    with h5py.File(path) as file:
        flags = {array.attrs["path"]: array[:] for array in file[f"{_file.RECORDS}/is_written"].values()}
    return [(name, int(block)) for name, values in flags.items() for block in np.flatnonzero(values)]


def assert_written_rows_are_right(partial: Path, complete: Path) -> None:
    """What is noted as written has the bytes that it has in a file that was written without interruption."""
    with h5py.File(partial) as file, h5py.File(complete) as expected:
        layouts, flags = _file.read_layouts(file), written_blocks(partial)
        first = _file.read_layouts(expected)
        starts = {name: [block for other, block in flags if other == name] for name in layouts}
    with _file.open_raw(partial) as raw, _file.open_raw(complete) as reference:
        for name, layout in layouts.items():
            assert layout.extents == first[name].extents
            noted = raw.read(layout.checksums, np.uint32, len(layout.starts) - 1)
            expected_checksums = reference.read(layout.checksums, np.uint32, len(noted))
            is_right = noted == expected_checksums
            assert is_right.sum() >= len(starts[name])  # a block has one row at least
            damaged = _file.find_damaged_rows(raw, layout, np.flatnonzero(is_right & (noted != 0)))
            assert damaged.size == 0


@pytest.fixture
def screen(make: dict[str, Callable[..., Any]]) -> AnnData:
    """Images and counts in one table: an ``.h5ad`` is written faster than an ``.h5mu``."""
    image, rna = make["image"](60), make["rna"](60)
    return AnnData(rna.X, obs=image.obs, var=rna.var, uns=image.uns, obsm=image.obsm)


@pytest.fixture
def complete(screen: AnnData, tmp_path: Path) -> Path:
    """Written without interruption."""
    path = tmp_path / "complete.h5ad"
    write(screen, path)
    return path


def kill_at_random(screen: AnnData, complete: Path, folder: Path, n_kills: int) -> int:
    """Kill and repeat a call until it ends, again and again; returns how many files were completed."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    write(screen, folder / "timed.h5ad")
    seconds = time.perf_counter() - start
    n_killed = n_complete = 0
    while n_killed < n_kills or n_complete == 0:
        path = folder / f"{n_complete}.h5ad"
        partial = path.with_name(f"{path.name}.partial")
        before: set[tuple[str, int]] = set()
        call = functools.partial(write, screen, path)
        while not path.exists():
            # The last call is not killed, so that a slow machine comes to an end, too.
            n_killed += killed(call, rng.uniform(0, seconds) if n_killed < n_kills else None)
            if partial.exists():
                after = set(written_blocks(partial))
                assert before <= after, "a block that was noted as written is not any more"
                before = after
                assert_written_rows_are_right(partial, complete)
        assert path.read_bytes() == complete.read_bytes()
        n_complete += 1
    assert n_killed >= n_kills
    return n_complete


def test_a_killed_call_goes_on_to_the_same_bytes(screen: AnnData, complete: Path, tmp_path: Path) -> None:
    kill_at_random(screen, complete, tmp_path, n_kills=3)


@pytest.mark.slow
def test_a_call_killed_20_times_goes_on_to_the_same_bytes(screen: AnnData, complete: Path, tmp_path: Path) -> None:
    kill_at_random(screen, complete, tmp_path, n_kills=20)


@pytest.mark.parametrize(
    "where", ["_begin", "create_records", "write_rows", "mark_block", "verify", "sync_folder", "put_in_place"]
)
@pytest.mark.parametrize("is_after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_step_is_a_bad_moment_to_be_killed(
    screen: AnnData, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, is_after: bool
) -> None:
    path = tmp_path / "s.h5ad"
    step, n_calls = getattr(_write, where), 0

    def fatal(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2 or where in {"_begin", "verify", "sync_folder", "put_in_place"}:
            if is_after:
                step(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(_write, where, fatal)
        assert killed(lambda: write(screen, path))
    if path.exists():
        with pytest.raises(FileExistsError):
            write(screen, path)
    else:
        write(screen, path)
    assert path.read_bytes() == complete.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["complete.h5ad", "s.h5ad"]


def test_only_what_is_missing_is_written(
    screen: AnnData, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, partial = tmp_path / "s.h5ad", tmp_path / "s.h5ad.partial"
    interrupt(screen, path, monkeypatch, n_blocks=9)
    written = written_blocks(partial)
    assert len(written) == 9
    read = []
    for kind in (_arrays.DenseArray, _arrays.Images, _arrays.SparseMatrix):

        def recorded(array: Any, block: Any, original: Any = kind.read) -> Any:
            read.append(array.path)
            return original(array, block)

        monkeypatch.setattr(kind, "read", recorded)
    write(screen, path)
    assert len(read) == len(written_blocks(path)) - len(written)


def interrupt(screen: AnnData, path: Path, monkeypatch: pytest.MonkeyPatch, n_blocks: int) -> None:
    """Stop a call, as Ctrl-C does, when it has written some blocks."""
    mark, n_marked = _write.mark_block, 0

    def stop(*args: Any, **kwargs: Any) -> None:
        nonlocal n_marked
        if n_marked == n_blocks:
            raise KeyboardInterrupt
        n_marked += 1
        mark(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(_write, "mark_block", stop)
        with pytest.raises(KeyboardInterrupt):
            write(screen, path)


def test_an_unfinished_file_does_not_open_even_under_another_name(
    screen: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(screen, tmp_path / "s.h5ad", monkeypatch, n_blocks=4)
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5ad.partial"]
    renamed = (tmp_path / "s.h5ad.partial").rename(tmp_path / "renamed.h5ad")
    with pytest.raises(ValueError, match=r"4 of \d+ blocks were written. Repeat the call"):
        io.open_screen(renamed)
    with pytest.raises(ValueError, match="Repeat the call"):
        io.verify_training_store(renamed, progress=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 3}, "seed=3 instead of 0"),
        ({"max_memory": MAX_MEMORY + 1}, "max_memory=2401 instead of 2400"),
        ({"context_key": "well"}, r"context_key=\['well'\] instead of \['perturbation'\]"),
        ({"image_channels": ["er"]}, "other cells or arrays"),
    ],
)
def test_a_call_with_other_arguments_does_not_go_on(
    screen: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    interrupt(screen, tmp_path / "s.h5ad", monkeypatch, n_blocks=4)
    before = (tmp_path / "s.h5ad.partial").read_bytes()
    with pytest.raises(FileExistsError, match=words):
        write(screen, tmp_path / "s.h5ad", **change)
    assert (tmp_path / "s.h5ad.partial").read_bytes() == before


def test_a_source_file_that_changed_does_not_go_on(
    screen: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.write_h5ad(tmp_path / "source.h5ad")
    interrupt(tmp_path / "source.h5ad", tmp_path / "s.h5ad", monkeypatch, n_blocks=4)
    (tmp_path / "source.h5ad").unlink()
    screen.obsm["single_cell_images"] += 1
    screen.write_h5ad(tmp_path / "source.h5ad")
    with pytest.raises(FileExistsError, match="begun by another call: this one has source="):
        write(tmp_path / "source.h5ad", tmp_path / "s.h5ad")


def test_a_block_is_noted_only_after_its_rows_have_reached_the_disk(
    screen: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []

    def record(name: str) -> None:
        original = getattr(_write, name)

        def recorded(*args: Any, **kwargs: Any) -> None:
            events.append(name)
            original(*args, **kwargs)

        monkeypatch.setattr(_write, name, recorded)

    record("write_rows")
    record("mark_block")
    monkeypatch.setattr(_file.RawFile, "sync", lambda _: events.append("sync"))
    write(screen, tmp_path / "s.h5ad")
    n_blocks = events.count("mark_block")
    assert n_blocks > 10
    assert events == ["write_rows", "sync", "mark_block", "sync"] * n_blocks


# Checksums


def flip(path: Path, name: str, row: int) -> None:
    """Change one bit of a row of the store."""
    with h5py.File(path) as file:
        offset = file[name].id.get_offset()
        row_bytes = file[name].dtype.itemsize * int(np.prod(file[name].shape[1:]))
    with path.open("r+b") as raw:
        raw.seek(offset + row * row_bytes)
        byte = raw.read(1)[0]
        raw.seek(offset + row * row_bytes)
        raw.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("name", ["obsm/single_cell_images", "obsm/centre", "X/data"])
def test_a_single_flipped_bit_is_found(complete: Path, name: str) -> None:
    io.verify_training_store(complete, progress=False)
    flip(complete, name, 17)
    with pytest.raises(OSError, match=rf"1 rows of {name.removesuffix('/data')} \(the first is \d+\)"):
        io.verify_training_store(complete, progress=False)


def test_a_truncated_file_is_found(complete: Path) -> None:
    with h5py.File(complete) as file:
        end = file["X/data"].id.get_offset() + 8
    os.truncate(complete, end)
    with pytest.raises(OSError, match="rows of X|[Uu]nable|truncated"):
        io.verify_training_store(complete, progress=False)


def test_a_disk_that_gives_back_something_else_fails_the_call_and_the_next_one_mends_it(
    screen: AnnData, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, partial = tmp_path / "s.h5ad", tmp_path / "s.h5ad.partial"
    verify = _write.verify

    def damage(*args: Any) -> Any:
        flip(partial, "obsm/single_cell_images", 31)
        return verify(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_write, "verify", damage)
        with pytest.raises(OSError, match=r"the first is 31\) have another checksum. Repeat the call"):
            write(screen, path)
    assert not path.exists()
    write(screen, path)
    assert path.read_bytes() == complete.read_bytes()


def test_a_file_without_checksums_is_refused(screen: AnnData, tmp_path: Path) -> None:
    screen.write_h5ad(tmp_path / "plain.h5ad")
    with pytest.raises(ValueError, match="has no checksums; petri_scvi.io.write_training_store"):
        io.verify_training_store(tmp_path / "plain.h5ad", progress=False)


def test_progress_is_shown_and_can_be_silenced(screen: AnnData, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(screen, tmp_path / "a.h5ad", progress=True)
    shown = capsys.readouterr()
    assert "write obsm/single_cell_images" in shown.err
    assert "verify X" in shown.err
    write(screen, tmp_path / "b.h5ad")
    assert capsys.readouterr() == ("", "")
