"""Download, verify and cache files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from petri_scvi.common import put_in_place, sole_writer
from petri_scvi.common._files import as_size, check_space, existing_parent, free_space
from petri_scvi.common._warn import warn

from ._download import PART_SUFFIX, ResumingDownload
from ._verify import CACHE_REMEDY, check_first_use, verify, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._registry import Entry

CACHE_VARIABLE = "PETRI_SCVI_CACHE"
"""Environment variable that names the folder to look in first."""


def find(entry: Entry, cache_dir: str | Path | None = None) -> Path | None:
    """Path of the verified local copy, or ``None`` if there is none.

    Parameters
    ----------
    entry
        The file.
    cache_dir
        Folder to look in first; may be read-only. ``None`` means the folder named by ``PETRI_SCVI_CACHE``, if any. The
        user's cache folder comes last.

    Raises
    ------
    ValueError
        A file of this name exists, but is not the registered one, or was changed.
    """
    path = find_file(entry.file_name, cache_dir)
    if path is not None:
        verify(path, entry)
    return path


def find_file(file_name: str, cache_dir: str | Path | None = None) -> Path | None:
    """Path of the first local copy, whatever it is."""
    return next((p for folder in folders(cache_dir) if (p := folder / file_name).is_file()), None)


def fetch(entry: Entry, cache_dir: str | Path | None = None, *, progress: bool = True) -> Path:
    """Path of the verified local copy, downloaded on first use.

    Parameters
    ----------
    entry
        The file.
    cache_dir
        As in :func:`find`. Files are downloaded to the first of these folders that can be written to.
    progress
        Show a progress bar for large downloads.

    Raises
    ------
    FileNotFoundError
        The file is not in the cache and cannot be downloaded.
    OSError
        The disk is too small, or the connection ended; what was downloaded is kept, and the next call resumes.
    ValueError
        The file in the cache, or the download, is not the registered one.

    Notes
    -----
    The download is written to ``name.part`` and moved to its name only after it was checked, so an interrupted download
    never leaves a file that looks complete. A file without a registered SHA-256 is trusted when it is first used: its
    length and, if published, its MD5 are compared, and its SHA-256 is recorded beside it. Later calls compare the file
    with the record whenever its length or modification time has changed.
    """
    return fetch_all([entry], cache_dir, progress=progress)[0]


def fetch_all(entries: Sequence[Entry], cache_dir: str | Path | None = None, *, progress: bool = True) -> list[Path]:
    """Paths of several files; free space for all of them is checked before the first download.

    Parameters, errors and notes are those of :func:`fetch`.
    """
    paths = [find(entry, cache_dir) for entry in entries]
    plan = plan_download(entries, cache_dir)
    for entry in plan.missing:
        if entry.url is None:
            places = [str(folder) for folder in folders(cache_dir)]
            raise FileNotFoundError(f"{entry.file_name} cannot be downloaded and is not in {places}")
    if plan.missing:
        check_space(plan.folder, plan.n_bytes, "The download", remedy=CACHE_REMEDY)
    return [
        _download(entry, plan.folder / entry.file_name, progress) if path is None else path
        for entry, path in zip(entries, paths, strict=True)
    ]


@dataclass(frozen=True)
class Plan:
    """What :func:`fetch_all` would download."""

    missing: list[Entry]
    n_bytes: int
    """Bytes still to be downloaded, approximately."""
    folder: Path

    def __str__(self) -> str:
        if not self.missing:
            return "nothing has to be downloaded"
        n, licenses = len(self.missing), ", ".join(sorted({entry.license for entry in self.missing}))
        is_exact = all(entry.is_size_exact for entry in self.missing)
        return (
            f"{n} {'file' if n == 1 else 'files'} ({licenses}), {'' if is_exact else 'about '}{self.n_bytes:,} bytes "
            f"({as_size(self.n_bytes)}), to {self.folder}, which has {as_size(free_space(self.folder))} free"
        )


def plan_download(entries: Sequence[Entry], cache_dir: str | Path | None = None) -> Plan:
    """List missing files, without verifying existing ones."""
    missing = [entry for entry in entries if find_file(entry.file_name, cache_dir) is None]
    folder = writable_folder(cache_dir)
    n_bytes = 0
    for entry in missing:
        part = folder / (entry.file_name + PART_SUFFIX)
        n_bytes += max(0, entry.n_bytes - (part.stat().st_size if part.is_file() else 0))
    return Plan(missing, n_bytes, folder)


def folders(cache_dir: str | Path | None) -> list[Path]:
    """Folders to search, in this order."""
    first = cache_dir or os.environ.get(CACHE_VARIABLE)
    user = Path(pooch.os_cache("petri_scvi"))
    return [Path(first).expanduser(), user] if first else [user]


def writable_folder(cache_dir: str | Path | None) -> Path:
    """The first of the folders in which files can be created; it may not exist yet."""
    places = folders(cache_dir)
    return next((f for f in places if os.access(existing_parent(f), os.W_OK)), places[-1])


def _download(entry: Entry, path: Path, progress: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(path, lambda: warn(f"another process is downloading {path.name}; waiting for it.")):
        if path.is_file():  # the other one has downloaded it
            verify(path, entry)
            return path
        return _download_alone(entry, path, progress)


def _download_alone(entry: Entry, path: Path, progress: bool) -> Path:
    assert entry.url is not None
    resume = ResumingDownload(path, entry, progress=progress)
    if entry.sha256 is not None:
        return Path(
            pooch.retrieve(entry.url, f"sha256:{entry.sha256}", fname=path.name, path=path.parent, downloader=resume)
        )
    part = resume.download(entry.url)
    try:
        sha256 = check_first_use(part, entry)
    except ValueError:
        resume.forget()
        raise
    put_in_place(part, path)
    write_record(path, sha256)
    return path
