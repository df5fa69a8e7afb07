"""Files that are written completely or not at all, and free space for them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".unfinished"
CLOCK_SECONDS = 60
"""Largest expected difference between the clocks of a machine and of a network disk."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Provide a path to write to, and move the file to ``path`` when the block ends without an error.

    The file at ``path`` is always complete: readers see the old one until the new one replaces it, and an error or a
    full disk leaves the old one. Leftovers of killed processes of this machine are removed first.

    Parameters
    ----------
    path
        The file, or a folder that does not exist yet, such as a zarr store. Its parent folder must exist.

    Yields
    ------
    A path with the same name in a hidden folder beside ``path``, where nothing exists yet.
    """
    with hidden_folder(path) as folder:
        unfinished = folder / path.name
        yield unfinished
        put_in_place(unfinished, path)


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Create a hidden folder beside a path, and remove it at the end.

    Leftovers of killed processes of this machine are removed first.

    Parameters
    ----------
    path
        What the folder is for. Its parent folder must exist.

    Yields
    ------
    The folder, which is empty.
    """
    remove_leftovers(path)
    prefix = f"{_prefix(path)}{os.getpid()}."
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=SUFFIX))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove the hidden folders that killed processes of this machine left beside a path."""
    prefix = _prefix(path)
    for left in path.parent.iterdir():
        if left.name.startswith(prefix) and left.name.endswith(SUFFIX) and not _is_written(left, prefix):
            shutil.rmtree(left, ignore_errors=True)


def delete(path: Path) -> None:
    """Delete a file that was written whole and may be missing, with what killed processes left beside it."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        remove_leftovers(path)


def check_parent(path: Path) -> None:
    """Require that the folder of a file exists."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder. Create it first, or pass another path.")


def put_in_place(unfinished: Path, path: Path) -> None:
    """Rename a complete file, once it is on the disk, or a complete folder to its final name."""
    if unfinished.is_file():
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until a new name is on the disk, if the system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks have no such call
            raise
    finally:
        os.close(descriptor)


def _prefix(path: Path) -> str:
    """How hidden folders beside a path begin; with the machine, because process IDs are unique within one only."""
    machine = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    return f".{path.name}.{machine}."


def _is_written(left: Path, prefix: str) -> bool:
    """Whether the process that made a hidden folder is still running."""
    number = left.name.removeprefix(prefix).split(".")[0]
    if not number.isdecimal():
        return True
    try:
        # A later process may have been given the ID of the killed one.
        return psutil.Process(int(number)).create_time() <= left.stat().st_mtime + CLOCK_SECONDS
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:  # it runs, for another user
        return True


def check_space(
    folder: Path, n_bytes: int, what: str, *, remedy: str = "pass a path on another disk", note: str = ""
) -> None:
    """Require free space on a disk: a process that writes to a memory map on a full disk is killed without a message.

    Parameters
    ----------
    folder
        Folder on the disk; it need not exist yet.
    n_bytes
        Bytes to be written.
    what
        What needs them; the message begins with it.
    remedy
        What to do instead of freeing space.
    note
        What to say about the number of bytes.

    Raises
    ------
    OSError
        There is not enough free space.
    """
    free = free_space(folder)
    if n_bytes > free:
        raise OSError(
            f"{what} needs {as_size(n_bytes)}{note} in {folder}, which has {as_size(free)} free. Free some space, "
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
