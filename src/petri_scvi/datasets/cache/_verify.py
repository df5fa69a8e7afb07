"""Compare a file with the registered one."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pooch

from petri_scvi.common import written_whole
from petri_scvi.common._warn import warn

from ._complete import why_incomplete

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ._registry import Entry

RECORD_SUFFIX = ".sha256.json"
"""Suffix of the record of a file that was trusted on first use."""
READ_BYTES = 2**20
CACHE_REMEDY = "name a folder on another disk with cache_dir=... or the environment variable PETRI_SCVI_CACHE"
"""What to do if the disk of the cache is full."""


def verify(path: Path, entry: Entry) -> None:
    """Compare a file with its registered SHA-256, or else with the record of its first use.

    Raises
    ------
    ValueError
        The file is not the registered one, or was changed after its first use.
    """
    if entry.sha256 is not None:
        found = pooch.file_hash(str(path), alg="sha256")
        if found != entry.sha256:
            raise ValueError(
                f"SHA-256 hash mismatch: {path} has {found}, expected {entry.sha256}. It is damaged or another "
                "version; delete it and call again."
            )
        return
    check_length(path, entry)
    record = _read_record(path)
    # Hashing hundreds of gigabytes at every call is too slow; a file with the same length and time counts as unchanged.
    if record is not None and _state(path) == {key: record[key] for key in ("n_bytes", "mtime_ns")}:
        return
    if record is None:
        write_record(path, check_first_use(path, entry))
        return
    found = hash_file(path)
    if found != record["sha256"]:
        raise ValueError(
            f"SHA-256 hash mismatch: {path} has {found}; it had {record['sha256']} when it was first used. Delete it "
            f"and {path.name}{RECORD_SUFFIX} to accept what is published now."
        )
    write_record(path, found)


def check_length(path: Path, entry: Entry) -> None:
    """Compare the length of a file with the expected one; an empty file is refused."""
    n_bytes = path.stat().st_size
    if n_bytes and (n_bytes == entry.n_bytes if entry.is_size_exact else n_bytes <= entry.limit):
        return
    expected = f"expected {entry.n_bytes:,}" if entry.is_size_exact else f"expected about {entry.n_bytes:,}"
    raise ValueError(
        f"{path} has {n_bytes:,} bytes, {expected}. It is damaged or another version; delete it and call again."
    )


def check_first_use(path: Path, entry: Entry) -> str:
    """Compare a file with everything that is known about it.

    Returns
    -------
    Its SHA-256, for the record.
    """
    check_length(path, entry)
    if not entry.is_size_exact and (reason := why_incomplete(path, entry.file_name)):
        raise ValueError(f"{path} is incomplete: {reason}. Delete it and call again.")
    found = _hash(path, ["sha256", "md5"] if entry.md5 else ["sha256"])
    if entry.md5 is not None and found["md5"] != entry.md5:
        raise ValueError(
            f"MD5 hash mismatch: {path} has {found['md5']}, the publisher states {entry.md5}. It is damaged or another "
            "version; delete it and call again."
        )
    if entry.reported_sha256 not in (None, found["sha256"]):
        warn(
            f"{path} has SHA-256 {found['sha256']}; another user reported {entry.reported_sha256}. Its length is "
            "right, so it is used; if results look wrong, compare it with the published file."
        )
    return found["sha256"]


def write_record(path: Path, sha256: str) -> None:
    """Write the record of a file beside it; nothing is written in a read-only folder."""
    if not os.access(path.parent, os.W_OK):
        return
    write_whole(path.with_name(path.name + RECORD_SUFFIX), {"sha256": sha256, **_state(path)})


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content))


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    return _hash(path, ["sha256"])["sha256"]


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"n_bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _read_record(path: Path) -> dict[str, Any] | None:
    record = path.with_name(path.name + RECORD_SUFFIX)
    return json.loads(record.read_text()) if record.is_file() else None


def _hash(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Several checksums in one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            for digest in digests.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in digests.items()}
