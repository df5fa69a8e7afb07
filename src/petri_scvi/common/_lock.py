"""One writer of a file at a time."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # on Windows, which does not let a process replace or delete what another one has open
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def sole_writer(path: Path, on_wait: Callable[[], Any] | None = None) -> Iterator[None]:
    """Prevent other processes from writing a file until the block ends.

    The lock is a hidden file beside ``path`` that the system unlocks when the process ends, however it ends. On file
    systems without locks, this has no effect.

    Parameters
    ----------
    path
        The file, or the folder of a zarr store. Its parent folder must exist.
    on_wait
        Called before waiting for another process that writes the file. If ``None``, an error is raised instead.

    Raises
    ------
    BlockingIOError
        Another process writes the file.
    """
    lock = path.with_name(f".{path.name}.lock")
    descriptor = _lock(lock, path, on_wait)
    try:
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)  # before it is unlocked: whoever waits for it sees that it is gone
            os.close(descriptor)


def _lock(lock: Path, path: Path, on_wait: Callable[[], Any] | None) -> int | None:
    locks: Any = fcntl  # which mypy takes for granted on the system that it runs on
    while locks is not None:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locks.flock(descriptor, locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                os.close(descriptor)
                raise BlockingIOError(
                    f"another process is writing {path}. Wait until it has ended, or pass another path."
                ) from None
            on_wait()
            locks.flock(descriptor, locks.LOCK_EX)
        except OSError:  # no locks on this file system
            os.close(descriptor)
            lock.unlink(missing_ok=True)
            return None
        if _is_at(lock, descriptor):
            return descriptor
        os.close(descriptor)  # the one that held it has removed it
    return None


def _is_at(lock: Path, descriptor: int) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
