"""Download a large file, and resume an interrupted download."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import requests
from requests import codes
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from petri_scvi.common._files import check_space, delete

from ._verify import CACHE_REMEDY, hash_file, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from ._registry import Entry

PART_SUFFIX, NOTE_SUFFIX = ".part", ".part.json"
SHOWN_FROM = 2**24
"""Smaller files are downloaded without a progress bar."""
TIMEOUT = 60.0
BLOCK_BYTES = 2**18
"""Bytes per block; an incomplete block is lost when a connection ends."""
STATED_SHA256 = "X-Linked-ETag"
"""Header in which the Hugging Face hub states the SHA-256 of a large file."""


class ResumingDownload:
    """A downloader for :func:`pooch.retrieve` that resumes interrupted downloads.

    Received bytes are appended to ``name.part``; the address, length and version of the file are in ``name.part.json``.
    If both exist, only the rest of the same version is requested; if the server has another version, or cannot send
    parts, the whole file is downloaded.

    Parameters
    ----------
    path
        Final path of the file.
    entry
        Its entry in the registry. Never more bytes than its largest possible length are written.
    progress
        Show a progress bar for a large file.
    """

    def __init__(self, path: Path, entry: Entry, *, progress: bool = True) -> None:
        self.path, self.entry = path, entry
        self.part = path.with_name(path.name + PART_SUFFIX)
        self.note = path.with_name(path.name + NOTE_SUFFIX)
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Download to the partial file, then move it to ``output_file``; called by pooch."""
        self.download(url).replace(output_file)

    def download(self, url: str) -> Path:
        """Download what is missing; returns the path of the partial file, which is then complete.

        Raises
        ------
        ConnectionError
            There is no connection, or it ended early; call again to resume.
        PermissionError
            The server asks for a token that is not set, or refuses it.
        ValueError
            The server has another file: longer or shorter than it can be, or with another SHA-256 than it states.
        """
        self.part.parent.mkdir(parents=True, exist_ok=True)
        note = self._read_note(url)
        if note is None or self.part.stat().st_size != note["n_bytes"]:
            try:
                note = self._receive(url, note)
            except requests.RequestException as error:
                raise ConnectionError(
                    f"{self.path.name} could not be downloaded: {error}. Call again when there is a connection; what "
                    f"was received is kept. Or download {url} by other means and move it to {self.path}."
                ) from error
        self._check_stated(note)
        delete(self.note)
        return self.part

    def forget(self) -> None:
        """Delete the partial file."""
        self.part.unlink(missing_ok=True)
        delete(self.note)

    def _read_note(self, url: str) -> dict[str, Any] | None:
        """Description of the partial file; ``None`` if there is none from this address."""
        if self.part.is_file() and self.note.is_file():
            note = json.loads(self.note.read_text())
            if note["url"] == url:
                return note
        return None

    def _receive(self, url: str, note: dict[str, Any] | None) -> dict[str, Any]:
        n_before = 0 if note is None else self.part.stat().st_size
        # With compression in transfer, the length would differ. Requests sends a token to no other host that it is
        # redirected to.
        headers = {"Accept-Encoding": "identity", **self._authorization()}
        if note is not None and n_before:
            headers["Range"] = f"bytes={n_before}-"
            if note["version"]:
                headers["If-Range"] = note["version"]
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if note is not None and n_before and not _continues(response, n_before, note["n_bytes"]):
                if response.status_code in (codes.partial_content, codes.requested_range_not_satisfiable):
                    self.forget()  # of another file than the partial one
                    return self._receive(url, None)
                n_before = 0
            self._check_status(response)
            if n_before == 0:
                self.forget()  # before the note, so that a new note is never beside an old partial file
                note = _describe(response, url)
                self._check_length(note, response)
                write_whole(self.note, note)
            assert note is not None
            n_expected = self._n_expected(note)
            check_space(
                self.part.parent, (n_expected or self.entry.n_bytes) - n_before, self.path.name, remedy=CACHE_REMEDY
            )
            self._write(response, n_before, n_expected)
        n_after = self.part.stat().st_size
        if n_expected is not None and n_after != n_expected:
            raise ConnectionError(
                f"the download of {self.path.name} ended after {n_after:,} of {n_expected:,} bytes. Call again: it "
                "continues from there."
            )
        return {**note, "n_bytes": n_after}

    def _n_expected(self, note: dict[str, Any]) -> int | None:
        """Length that the server states, or else the registered one; ``None`` if neither is exact."""
        return self.entry.n_bytes if note["n_bytes"] is None and self.entry.is_size_exact else note["n_bytes"]

    def _check_length(self, note: dict[str, Any], response: requests.Response) -> None:
        """Refuse, before the first byte, a wrong file, or one whose completeness could not be checked."""
        n_bytes = note["n_bytes"]
        if n_bytes is None:
            # The end of a chunked response is marked; any other response without a length looks complete when cut off.
            is_marked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
            if not (is_marked or self.entry.is_size_exact or self.entry.sha256 or self.entry.md5):
                raise ConnectionError(
                    f"the server does not state how long {self.path.name} is, so an interrupted download could not be "
                    f"detected. Download {response.url} by other means and move it to {self.path}."
                )
        elif n_bytes > self.entry.limit:
            raise self._too_long(f"{n_bytes:,}")

    def _too_long(self, found: str) -> ValueError:
        return ValueError(
            f"the server sends {found} bytes as {self.path.name}, which has "
            f"{'' if self.entry.is_size_exact else 'at most '}{self.entry.limit:,}. It is another file; nothing of it "
            "was kept."
        )

    def _authorization(self) -> dict[str, str]:
        """Header with the token, if the server asks for one."""
        variable = self.entry.token_variable
        if variable is None:
            return {}
        if not os.environ.get(variable):
            raise PermissionError(
                f"{self.path.name} ({self.entry.license}) is only sent to users with a token: accept the terms and "
                f"make a token on {self.entry.terms}, set the environment variable {variable} to it and call again."
            )
        return {"Authorization": f"Bearer {os.environ[variable]}"}

    def _check_status(self, response: requests.Response) -> None:
        if self.entry.token_variable is not None and response.status_code in (codes.unauthorized, codes.forbidden):
            raise PermissionError(
                f"the server refused the token in {self.entry.token_variable} ({response.status_code} "
                f"{response.reason}). Accept the terms on {self.entry.terms} with the account of the token, or make a "
                "new token that may read datasets."
            )
        response.raise_for_status()
        if response.status_code not in (codes.ok, codes.partial_content):  # such as 202, which asks for a browser
            raise ConnectionError(
                f"the server answered {response.status_code} {response.reason} instead of sending {self.path.name}. "
                f"Download {response.url} with a browser and move it to {self.path}."
            )

    def _write(self, response: requests.Response, n_before: int, n_bytes: int | None) -> None:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        is_hidden = not self.progress or (n_bytes or 0) < SHOWN_FROM
        with (
            self.part.open("r+b" if n_before else "wb") as file,
            Progress(TextColumn("{task.description}", markup=False), *columns, disable=is_hidden) as bar,
        ):
            task = bar.add_task(self.path.name, total=n_bytes, completed=n_before)
            file.seek(n_before)
            for block in response.iter_content(BLOCK_BYTES):
                if file.tell() + len(block) > self.entry.limit:
                    self.forget()
                    raise self._too_long(f"more than {self.entry.limit:,}")
                file.write(block)
                bar.advance(task, len(block))

    def _check_stated(self, note: dict[str, Any]) -> None:
        if note["sha256"] is not None and (found := hash_file(self.part)) != note["sha256"]:
            self.forget()
            raise ValueError(
                f"SHA-256 hash mismatch: {self.path.name} arrived with {found}, but the server states "
                f"{note['sha256']}. It was deleted; call again."
            )


def _continues(response: requests.Response, n_before: int, n_bytes: int | None) -> bool:
    """Whether a response continues the partial file."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status_code != codes.partial_content or found is None:
        return False
    return int(found[1]) == n_before and (n_bytes is None or found[2] in ("*", str(n_bytes)))


def _describe(response: requests.Response, url: str) -> dict[str, Any]:
    """Length and version of a file, and its SHA-256 if the server or one that it was redirected by states it."""
    etag = response.headers.get("ETag", "")
    stated = [r.headers.get(STATED_SHA256, "").strip('"') for r in (*response.history, response)]
    length = response.headers.get("Content-Length")
    return {
        "url": url,
        "n_bytes": None if length is None else int(length),
        # A weak tag does not guarantee equal bytes.
        "version": etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified"),
        "sha256": next((s.lower() for s in stated if re.fullmatch(r"[0-9a-fA-F]{64}", s)), None),
    }
