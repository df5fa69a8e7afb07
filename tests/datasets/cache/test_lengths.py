"""No download is longer than its file can be, and no file that was cut off is accepted as complete."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from anndata import AnnData

from petri_scvi.common import sole_writer
from petri_scvi.datasets.cache import _download
from petri_scvi.datasets.cache._fetch import fetch, find
from petri_scvi.datasets.cache._registry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Server

CONTENT = b"a tiny file"
EXACT = Entry("tiny.txt", "", None, len(CONTENT), "CC0", why_no_sha256="not published")
ROUGH = dataclasses.replace(EXACT, is_size_exact=False)
HASHED = dataclasses.replace(EXACT, sha256=hashlib.sha256(CONTENT).hexdigest())

pytestmark = pytest.mark.usefixtures("user_cache")


def at(server: Server, entry: Entry) -> Entry:
    return dataclasses.replace(entry, url=server.url("tiny.txt"))


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("ending", ["close", "chunked"])
@pytest.mark.parametrize("entry", [EXACT, HASHED, ROUGH])
def test_a_server_that_goes_on_and_on_fills_no_disk(
    entry: Entry, ending: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["tiny.txt"], server.ending = CONTENT * 10_000, ending
    monkeypatch.setattr(_download, "BLOCK_BYTES", 4)
    largest, written = 0, _download.ResumingDownload.forget

    def noted(self: _download.ResumingDownload) -> None:
        nonlocal largest
        largest = max(largest, self.part.stat().st_size if self.part.exists() else 0)
        written(self)

    monkeypatch.setattr(_download.ResumingDownload, "forget", noted)
    match = "does not state how long" if (entry, ending) == (ROUGH, "close") else "sends more than .* another file"
    with pytest.raises((ValueError, ConnectionError), match=match):
        fetch(at(server, entry), tmp_path)
    assert largest <= entry.limit
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("entry", [EXACT, HASHED, ROUGH])
def test_a_length_that_cannot_be_is_refused_before_the_first_byte(
    entry: Entry, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["tiny.txt"] = CONTENT * 3
    monkeypatch.setattr(_download.ResumingDownload, "_write", lambda *_: pytest.fail("bytes were written"))
    with pytest.raises(ValueError, match="the server sends 33 bytes as tiny.txt, which has (at most 22|11)"):
        fetch(at(server, entry), tmp_path)
    assert files_in(tmp_path) == []


def test_a_length_that_is_known_roughly_may_be_larger_up_to_a_limit(server: Server, tmp_path: Path) -> None:
    server.files["tiny.txt"] = CONTENT * 3
    assert fetch(dataclasses.replace(at(server, ROUGH), max_bytes=40), tmp_path).read_bytes() == CONTENT * 3


def test_an_answer_that_was_cut_off_is_noticed_by_the_registered_length(server: Server, tmp_path: Path) -> None:
    server.files["tiny.txt"], server.ending, server.break_after = CONTENT, "close", 5
    with pytest.raises(ConnectionError, match="ended after 5 of 11 bytes. Call again: it continues from there"):
        fetch(at(server, EXACT), tmp_path)
    server.break_after = None
    assert fetch(at(server, EXACT), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=5-"]


def test_an_answer_whose_end_is_not_marked_is_refused_where_no_length_is_known(server: Server, tmp_path: Path) -> None:
    server.files["tiny.txt"], server.ending = CONTENT, "close"
    with pytest.raises(ConnectionError, match="does not state how long tiny.txt is.*move it to .*tiny.txt"):
        fetch(at(server, ROUGH), tmp_path)
    (tmp_path / "tiny.txt").write_bytes(CONTENT)
    assert fetch(at(server, ROUGH), tmp_path) == tmp_path / "tiny.txt"


def test_a_chunked_answer_is_whole_or_an_error(server: Server, tmp_path: Path) -> None:
    server.files["tiny.txt"], server.ending, server.break_after = CONTENT, "chunked", 5
    with pytest.raises(ConnectionError):
        fetch(at(server, ROUGH), tmp_path)
    server.break_after = None
    assert fetch(at(server, ROUGH), tmp_path).read_bytes() == CONTENT


def test_an_empty_file_is_none(server: Server, tmp_path: Path) -> None:
    server.files["tiny.txt"] = b""
    with pytest.raises(ValueError, match="has 0 bytes, expected about 11"):
        fetch(at(server, ROUGH), tmp_path)
    assert files_in(tmp_path) == []
    (tmp_path / "tiny.txt").touch()
    with pytest.raises(ValueError, match="has 0 bytes, expected about 11. It is damaged"):
        find(ROUGH, tmp_path)


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for i in range(3):
            member = tarfile.TarInfo(f"{i}.npz")
            member.size = 20_000
            archive.addfile(member, io.BytesIO(bytes(member.size)))


def write_tiff(path: Path) -> None:
    pytest.importorskip("tifffile").imwrite(path, np.arange(4000, dtype=np.uint16).reshape(40, 100))


FORMATS: dict[str, Callable[[Path], Any]] = {
    "cells.h5ad": lambda path: AnnData(np.ones((50, 40))).write_h5ad(path),
    "cells.tar": write_tar,
    "cells.csv.gz": lambda path: path.write_bytes(gzip.compress(os.urandom(4000))),
    "field.tiff": write_tiff,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_unknown_length_that_was_cut_off_is_refused(name: str, server: Server, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    entry = dataclasses.replace(ROUGH, file_name=name, url=server.url(name), n_bytes=len(whole))
    assert find(entry, tmp_path) == tmp_path / name
    for share in (0.1, 0.5, 0.8):
        cut = tmp_path / str(share)
        cut.mkdir()
        (cut / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=f"{name} is incomplete: .*Delete it and call again"):
            find(entry, cut)
        (cut / name).unlink()
        server.files[name] = whole[: int(share * len(whole))]  # the server itself has no more
        with pytest.raises(ValueError, match="is incomplete"):
            fetch(entry, cut)
        assert files_in(cut) == []
        server.files[name] = whole
        assert fetch(entry, cut).read_bytes() == whole


def test_a_second_process_waits_for_the_first_and_downloads_nothing(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    started, path = threading.Event(), tmp_path / "tiny.txt"

    def download() -> None:
        with sole_writer(path):
            started.set()
            threading.Event().wait(0.3)
            path.write_bytes(CONTENT)

    first = threading.Thread(target=download)
    first.start()
    started.wait()
    with pytest.warns(UserWarning, match="another process is downloading tiny.txt; waiting for it"):
        assert fetch(at(server, HASHED), tmp_path).read_bytes() == CONTENT
    first.join()
    assert server.requests == []
    assert files_in(tmp_path) == ["tiny.txt"]


def test_where_the_first_process_failed_the_second_downloads(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    server.files["tiny.txt"] = CONTENT
    started = threading.Event()

    def fail() -> None:
        with sole_writer(tmp_path / "tiny.txt"):
            started.set()
            threading.Event().wait(0.3)

    first = threading.Thread(target=fail)
    first.start()
    started.wait()
    with pytest.warns(UserWarning, match="waiting for it"):
        assert fetch(at(server, HASHED), tmp_path).read_bytes() == CONTENT
    first.join()
