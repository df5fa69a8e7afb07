"""Files that are written whole or not at all."""

from __future__ import annotations

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
"""By how much the clocks of a machine and of a disk in the network may differ."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place to write a file to, and move it to ``path`` when the block ends without an error.

    Under its name the file is always complete: readers see the old one until the new one is there, and an error or a
    full disk leaves the old one. What processes of this machine left beside ``path`` when they were killed is removed
    first.

    Parameters
    ----------
    path
        The file, or a folder that does not exist yet, such as a zarr store. Its parent folder must exist.

    Yields
    ------
    A path with the same name in a hidden folder beside ``path``; nothing is there yet.
    """
    with hidden_folder(path) as folder:
        unfinished = folder / path.name
        yield unfinished
        put_in_place(unfinished, path)


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside a path, and remove it at the end.

    What processes of this machine left there when they were killed is removed first.

    Parameters
    ----------
    path
        What the folder is for. Its parent folder must exist.

    Yields
    ------
    The folder, which is empty.
    """
    prefix = f".{path.name}.{_machine()}."
    for left in path.parent.iterdir():
        if left.name.startswith(prefix) and left.name.endswith(SUFFIX) and not _is_written(left, prefix):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{prefix}{os.getpid()}.", suffix=SUFFIX))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(unfinished: Path, path: Path) -> None:
    """Give a complete file, once the disk has it, or a complete folder its name."""
    if unfinished.is_file():
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
    os.replace(unfinished, path)


def _machine() -> str:
    """Name of this machine, as a part of a file name: process numbers of other machines mean nothing here."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _is_written(left: Path, prefix: str) -> bool:
    """Whether the process that made a hidden folder is still running."""
    number = left.name.removeprefix(prefix).split(".")[0]
    if not number.isdecimal():
        return True
    try:
        # A later process may have got the number of the one that was killed.
        return psutil.Process(int(number)).create_time() <= left.stat().st_mtime + CLOCK_SECONDS
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:  # it runs, for another user
        return True
