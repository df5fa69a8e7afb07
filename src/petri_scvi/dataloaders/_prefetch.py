"""Read ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

N_AHEAD = 2
POLL_SECONDS = 0.1


def prefetch(source: Iterable[T], n_ahead: int = N_AHEAD) -> Iterator[T]:
    """Items of ``source`` in order, the next ones being made while the current one is used.

    A thread, not a process: reading releases the interpreter's lock, and nothing has to be copied between processes.

    Parameters
    ----------
    source
        What to iterate over; an error in it reaches the caller in its turn.
    n_ahead
        Items that may wait.

    Yields
    ------
    The items.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=n_ahead)
    is_abandoned = threading.Event()

    def put(is_item: bool, item: Any) -> None:
        while not is_abandoned.is_set():
            try:
                waiting.put((is_item, item), timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def fill() -> None:
        try:
            for item in source:
                put(True, item)
                if is_abandoned.is_set():
                    return
            put(False, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            put(False, error)

    thread = threading.Thread(target=fill, name="petri_scvi-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = waiting.get()
            if is_item:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        is_abandoned.set()
        thread.join()


class PrefetchLoader(DataLoader[Any]):
    """A ``DataLoader`` without worker processes that reads ahead in a thread."""

    def __iter__(self) -> Any:
        """Minibatches in order."""
        return prefetch(super().__iter__())
