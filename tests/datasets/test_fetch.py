from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pooch
import pytest

from petri_scvi.datasets._fetch import fetch, find, require
from petri_scvi.datasets._registry import EXAMPLE_SBS_FILES, PAPALEXI, Entry

CONTENT = b"a tiny file"
ENTRY = Entry("folder/tiny.txt", "https://example.org/tiny.txt", hashlib.sha256(CONTENT).hexdigest(), 11, "CC0")


@pytest.fixture(autouse=True)
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests away from the cache of whoever runs them."""
    monkeypatch.delenv("PETRI_SCVI_CACHE", raising=False)
    folder = tmp_path / "user"
    monkeypatch.setattr(pooch, "os_cache", lambda _: folder)
    return folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bytes | Exception]:
    """Answers of a fake server, in order; an exception ends the download after half of the content."""
    answers: list[bytes | Exception] = []

    def download(url: str, output_file: str, _: Any) -> None:
        answer = answers.pop(0)
        Path(output_file).write_bytes(CONTENT[:5] if isinstance(answer, Exception) else answer)
        if isinstance(answer, Exception):
            raise answer

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_, **__: download)
    return answers


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


def test_a_file_is_downloaded_once(tmp_path: Path, served: list[bytes | Exception]) -> None:
    served.append(CONTENT)
    assert fetch(ENTRY, tmp_path).read_bytes() == CONTENT
    assert fetch(ENTRY, tmp_path) == tmp_path / ENTRY.file_name
    assert served == []


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, served: list[bytes | Exception]
) -> None:
    served += [ConnectionError("the line broke"), CONTENT]
    with pytest.raises(ConnectionError, match="the line broke"):
        fetch(ENTRY, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert fetch(ENTRY, tmp_path).read_bytes() == CONTENT


def test_a_download_with_other_content_is_refused(tmp_path: Path, served: list[bytes | Exception]) -> None:
    served.append(b"something else")
    with pytest.raises(ValueError, match="(?i)sha256 hash"):
        fetch(ENTRY, tmp_path)
    assert find(ENTRY, tmp_path) is None


def test_a_damaged_file_in_the_cache_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "cache", CONTENT[:-1])
    with pytest.raises(ValueError, match="SHA-256 hash mismatch") as error:
        fetch(ENTRY, tmp_path / "cache")
    assert str(path) in str(error.value)
    assert path.read_bytes() == CONTENT[:-1]  # the user's file is not overwritten


def test_a_read_only_folder_is_read_and_never_written(
    tmp_path: Path, user_cache: Path, served: list[bytes | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: "locked" not in str(p) and real_access(p, mode))
    (tmp_path / "locked").mkdir()
    served.append(CONTENT)
    assert fetch(ENTRY, tmp_path / "locked") == user_cache / ENTRY.file_name
    assert list((tmp_path / "locked").iterdir()) == []


def test_a_file_without_an_address_must_be_in_the_cache(tmp_path: Path) -> None:
    local = Entry(ENTRY.file_name, None, ENTRY.sha256, ENTRY.n_bytes, ENTRY.license)
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        fetch(local, tmp_path / "cache")
    assert fetch(local, put(tmp_path / "cache").parents[1]).read_bytes() == CONTENT


def test_a_missing_package_names_what_to_install() -> None:
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[real\]"'):
        require("a_package_that_is_not_there")


def test_every_address_is_pinned_to_a_commit() -> None:
    entries = [PAPALEXI, *EXAMPLE_SBS_FILES.values()]
    assert len(entries) == 1 + 2 * 96 + 1
    assert len({e.sha256 for e in entries}) == len(entries)
    for entry in entries:
        assert entry.url is not None
        commit = entry.url.removeprefix("https://raw.githubusercontent.com/").split("/")[2]
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")
