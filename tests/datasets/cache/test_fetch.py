from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from petri_scvi.common import _files
from petri_scvi.datasets import periscope
from petri_scvi.datasets.cache import _download
from petri_scvi.datasets.cache._fetch import fetch, fetch_all, find, plan_download
from petri_scvi.datasets.cache._registry import EXAMPLE_SBS_FILES, PAPALEXI, Entry
from tests.kill_process import killed

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Server

CONTENT = b"a tiny file"
ENTRY = Entry("folder/tiny.txt", "https://example.org/tiny.txt", hashlib.sha256(CONTENT).hexdigest(), 11, "CC0")


pytestmark = pytest.mark.usefixtures("user_cache")


@pytest.fixture
def entry(server: Server) -> Entry:
    """The file, on a server."""
    server.files["tiny.txt"] = CONTENT
    return dataclasses.replace(ENTRY, url=server.url("tiny.txt"))


def put(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / ENTRY.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_named_folder_comes_first_then_the_variable_then_the_users_cache(
    tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_user, in_variable, in_argument = (put(f) for f in (user_cache, tmp_path / "variable", tmp_path / "argument"))
    assert fetch(ENTRY) == in_user
    monkeypatch.setenv("PETRI_SCVI_CACHE", str(tmp_path / "variable"))
    assert fetch(ENTRY) == in_variable
    assert fetch(ENTRY, tmp_path / "argument") == in_argument
    assert fetch(ENTRY, tmp_path / "empty") == in_user


def test_a_file_is_downloaded_once(tmp_path: Path, server: Server, entry: Entry) -> None:
    assert fetch(entry, tmp_path).read_bytes() == CONTENT
    assert fetch(entry, tmp_path) == tmp_path / entry.file_name
    assert server.requests == [("tiny.txt", None)]
    assert os.listdir(tmp_path / "folder") == ["tiny.txt"]


def test_an_interrupted_download_does_not_look_complete_and_is_gone_on_with(
    tmp_path: Path, server: Server, entry: Entry
) -> None:
    server.break_after = 5
    for _ in range(2):  # the second call gets five more bytes
        with pytest.raises(ConnectionError):
            fetch(entry, tmp_path)
        assert find(entry, tmp_path) is None
    server.break_after = None
    assert fetch(entry, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=5-", "bytes=10-"]
    assert os.listdir(tmp_path / "folder") == ["tiny.txt"]


@pytest.mark.parametrize("kind", ["other content", "no parts", "shorter"])
def test_parts_of_different_files_are_never_put_together(
    tmp_path: Path, server: Server, entry: Entry, kind: str
) -> None:
    server.files["tiny.txt"], server.break_after = (
        {"other content": b"A TINY FILE", "shorter": b"x" * 30}.get(kind, CONTENT),
        5,
    )
    with pytest.raises(ConnectionError):
        fetch(dataclasses.replace(entry, is_size_exact=False, max_bytes=30), tmp_path)
    server.files["tiny.txt"], server.break_after, server.sends_parts = CONTENT, None, kind != "no parts"
    assert fetch(entry, tmp_path).read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_download_that_is_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, server: Server, entry: Entry, n_kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "BLOCK_BYTES", 2**10)
    server.files["large"] = np.random.default_rng(0).bytes(2**21)
    large = dataclasses.replace(
        entry, url=server.url("large"), sha256=None, n_bytes=2**21, why_no_sha256="not published", is_size_exact=False
    )
    start = time.perf_counter()
    fetch(dataclasses.replace(large, file_name="timed"), tmp_path)
    seconds, rng, n_killed, n_done = time.perf_counter() - start, np.random.default_rng(0), 0, 0
    while n_killed < n_kills or n_done == 0:
        one = dataclasses.replace(large, file_name=str(n_done))
        is_killed = True
        while is_killed:
            is_killed = killed(partial(fetch, one, tmp_path), rng.uniform(0, seconds) if n_killed < n_kills else None)
            n_killed += is_killed
        assert fetch(one, tmp_path).read_bytes() == server.files["large"]
        n_done += 1


@pytest.mark.parametrize(("status", "message"), [(503, "503"), (202, "with a browser and move it to .*tiny.txt")])
def test_a_server_that_does_not_answer_costs_nothing_of_what_has_arrived(
    tmp_path: Path, server: Server, entry: Entry, status: int, message: str
) -> None:
    server.break_after = 5
    with pytest.raises(ConnectionError):
        fetch(entry, tmp_path)
    server.break_after, server.status = None, status
    with pytest.raises(ConnectionError, match=message):
        fetch(entry, tmp_path)
    server.status = None
    assert fetch(entry, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("tiny.txt", "bytes=5-")


def test_a_download_with_other_content_is_refused(tmp_path: Path, server: Server, entry: Entry) -> None:
    server.files["tiny.txt"] = b"other texts"
    with pytest.raises(ValueError, match="(?i)sha256 hash"):
        fetch(entry, tmp_path)
    assert find(entry, tmp_path) is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_room_on_the_disk_is_checked_before_anything_is_asked_for(
    tmp_path: Path, server: Server, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "free_space", lambda _: 20)
    other = dataclasses.replace(entry, file_name="other.txt")
    with pytest.raises(OSError, match=r"needs 22 bytes in .*, which has 20 bytes free.*cache_dir="):
        fetch_all([entry, other], tmp_path)
    assert server.requests == []
    assert fetch(entry, tmp_path).is_file()


def test_what_has_arrived_does_not_need_room_again(
    tmp_path: Path, server: Server, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.break_after = 8
    with pytest.raises(ConnectionError):
        fetch(entry, tmp_path)
    server.break_after = None
    monkeypatch.setattr(_files, "free_space", lambda _: 3)
    assert fetch(entry, tmp_path).read_bytes() == CONTENT


# Files without a registered SHA-256


@pytest.fixture
def trusted(entry: Entry) -> Entry:
    return dataclasses.replace(entry, sha256=None, why_no_sha256="not published")


def test_an_entry_without_a_hash_has_to_say_why() -> None:
    with pytest.raises(ValueError, match="state the reason"):
        Entry("name", None, None, 1, "CC0")


def test_what_was_trusted_on_first_use_is_compared_later(tmp_path: Path, trusted: Entry) -> None:
    path = fetch(trusted, tmp_path)
    record = json.loads((tmp_path / "folder" / "tiny.txt.sha256.json").read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    os.utime(path)  # touched, but the same
    assert find(trusted, tmp_path) == path
    path.write_bytes(CONTENT.upper())
    with pytest.raises(ValueError, match="it had .* when it was first used"):
        find(trusted, tmp_path)


def test_a_trusted_file_that_the_user_put_there_is_recorded(tmp_path: Path, trusted: Entry) -> None:
    path = put(tmp_path / "cache")
    assert find(trusted, tmp_path / "cache") == path
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match="when it was first used"):
        find(trusted, tmp_path / "cache")


def test_a_trusted_file_has_the_registered_length_if_that_is_known(
    tmp_path: Path, server: Server, trusted: Entry
) -> None:
    server.files["tiny.txt"] = CONTENT + b"!"
    with pytest.raises(ValueError, match=r"the server sends 12 bytes as tiny.txt, which has 11\. It is another file"):
        fetch(trusted, tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert fetch(dataclasses.replace(trusted, is_size_exact=False), tmp_path).read_bytes() == CONTENT + b"!"


def test_the_publishers_md5_is_compared_on_first_use(tmp_path: Path, server: Server, trusted: Entry) -> None:
    known = dataclasses.replace(trusted, md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    server.files["tiny.txt"] = CONTENT.upper()
    with pytest.raises(ValueError, match="MD5 hash mismatch"):
        fetch(known, tmp_path)
    server.files["tiny.txt"] = CONTENT
    assert fetch(known, tmp_path).read_bytes() == CONTENT


def test_a_difference_to_what_another_user_reported_is_a_warning(tmp_path: Path, trusted: Entry) -> None:
    with pytest.warns(UserWarning, match="another user reported 0000"):
        fetch(dataclasses.replace(trusted, reported_sha256="0000"), tmp_path)


def test_a_hash_that_a_redirecting_server_states_is_compared(tmp_path: Path, server: Server, trusted: Entry) -> None:
    moved = dataclasses.replace(trusted, url=server.url("moved/tiny.txt"))
    server.headers["X-Linked-ETag"] = f'"{"0" * 64}"'
    with pytest.raises(ValueError, match="the server states 0000"):
        fetch(moved, tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    server.headers["X-Linked-ETag"] = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert fetch(moved, tmp_path).read_bytes() == CONTENT


def test_a_plan_tells_what_would_be_downloaded(tmp_path: Path, trusted: Entry) -> None:
    about = dataclasses.replace(trusted, file_name="b", is_size_exact=False)
    assert str(plan_download([trusted, about], tmp_path)).startswith("2 files (CC0), about 22 bytes (22 bytes), to ")
    fetch(trusted, tmp_path)
    assert str(plan_download([trusted], tmp_path)) == "nothing has to be downloaded"


def test_a_damaged_file_in_the_cache_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "cache", CONTENT[:-1])
    with pytest.raises(ValueError, match="SHA-256 hash mismatch") as error:
        fetch(ENTRY, tmp_path / "cache")
    assert str(path) in str(error.value)
    assert path.read_bytes() == CONTENT[:-1]  # the user's file is not overwritten


def test_a_read_only_folder_is_read_and_never_written(
    tmp_path: Path, user_cache: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: "locked" not in str(p) and real_access(p, mode))
    (tmp_path / "locked").mkdir()
    assert fetch(entry, tmp_path / "locked") == user_cache / ENTRY.file_name
    assert list((tmp_path / "locked").iterdir()) == []


def test_a_file_without_an_address_must_be_in_the_cache(tmp_path: Path) -> None:
    local = Entry(ENTRY.file_name, None, ENTRY.sha256, ENTRY.n_bytes, ENTRY.license)
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        fetch(local, tmp_path / "cache")
    assert fetch(local, put(tmp_path / "cache").parents[1]).read_bytes() == CONTENT


def test_without_a_connection_the_way_out_is_named(tmp_path: Path, entry: Entry, server: Server) -> None:
    server.files.clear()  # it answers 404
    with pytest.raises(
        ConnectionError, match=r"tiny.txt could not be downloaded: 404 .*Call again.* Or download http"
    ) as error:
        fetch(entry, tmp_path / "cache")
    path = tmp_path / "cache" / ENTRY.file_name
    assert str(error.value).endswith(f"move it to {path}.")
    path.write_bytes(CONTENT)
    assert fetch(entry, tmp_path / "cache") == path


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r'tifffile is missing; run pip install "petri-scvi\[real\]"'):
        periscope(["TOMM20"])


def test_every_address_is_pinned_to_a_commit() -> None:
    entries = [PAPALEXI, *EXAMPLE_SBS_FILES.values()]
    assert len(entries) == 1 + 2 * 96 + 1
    assert len({e.sha256 for e in entries}) == len(entries)
    for entry in entries:
        assert entry.url is not None
        commit = entry.url.removeprefix("https://raw.githubusercontent.com/").split("/")[2]
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")
