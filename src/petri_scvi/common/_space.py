"""Room on a disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def check_space(
    folder: Path, n_bytes: int, what: str, *, remedy: str = "pass a path on another disk", note: str = ""
) -> None:
    """Require room on a disk: a process that writes to a memory map of a full one is killed without a message.

    Parameters
    ----------
    folder
        Folder on the disk; it need not exist yet.
    n_bytes
        Bytes to be written.
    what
        What needs them, to begin the message.
    remedy
        What to do other than to make room.
    note
        What to say about the number of bytes.

    Raises
    ------
    OSError
        There is not enough.
    """
    free = free_space(folder)
    if n_bytes > free:
        raise OSError(
            f"{what} needs {as_size(n_bytes)}{note} in {folder}, which has {as_size(free)} free. Make room, "
            f"or {remedy}."
        )


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    return shutil.disk_usage(existing_parent(folder)).free


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(p for p in (folder, *folder.absolute().parents) if p.exists())


def as_size(n_bytes: int) -> str:
    """For example ``"14.20 GB"``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.2f} {unit}"
    return f"{n_bytes} bytes"
