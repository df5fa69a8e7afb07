"""Read ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

T = TypeVar("T")

N_AHEAD = 2
POLL_SECONDS = 0.1


def prefetch(source: Iterable[T], n_ahead: int = N_AHEAD) -> Generator[T]:
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
    """A ``DataLoader`` without worker processes that reads ahead in a thread.

    Lightning saves its state with a checkpoint, so that training goes on in the middle of an epoch. Its sampler has
    ``epoch`` and ``skip``, as :class:`petri_scvi.dataloaders.DocumentSampler`.
    """

    _n_yielded = 0
    _resumed: dict[str, int] | None = None

    def __iter__(self) -> Any:
        """Minibatches in order."""
        sampler: Any = self.sampler
        resumed, self._resumed = self._resumed, None
        self._n_yielded = 0
        # The checkpoint may lie at the end of its epoch, after which the next one is drawn from its start.
        if resumed is not None and resumed["epoch"] == sampler.epoch:
            self._n_yielded = resumed["n_minibatches"]
            sampler.skip(self._n_yielded)
        with closing(prefetch(super().__iter__())) as minibatches:
            for minibatch in minibatches:
                # Not what was read ahead: that has not been used yet.
                self._n_yielded += 1
                yield minibatch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its minibatches were taken."""
        sampler: Any = self.sampler
        return {"epoch": sampler.epoch, "n_minibatches": self._n_yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration where the saved one was."""
        self._resumed = dict(state)
