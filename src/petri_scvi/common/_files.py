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

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".unfinished"


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
    prefix = f".{path.name}.{_machine()}."
    for left in path.parent.iterdir():
        if left.name.startswith(prefix) and left.name.endswith(SUFFIX) and not _is_written(left.name, prefix):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{prefix}{os.getpid()}.", suffix=SUFFIX))
    try:
        unfinished = folder / path.name
        yield unfinished
        if unfinished.is_file():
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _machine() -> str:
    """Name of this machine, as a part of a file name: process numbers of other machines mean nothing here."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _is_written(name: str, prefix: str) -> bool:
    """Whether the process that made a hidden folder is still running."""
    number = name.removeprefix(prefix).split(".")[0]
    if not number.isdecimal():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, for another user
        return True
    return True
