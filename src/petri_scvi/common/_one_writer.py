"""One of the processes of a distributed run writes a file, and the others wait for it."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from petri_scvi._compat import store_of_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME_TO_ARRIVE = timedelta(minutes=30)
TIME_TO_WRITE = timedelta(days=7)
_n_calls: Counter[str] = Counter()


def is_first_process() -> bool:
    """Whether this is the process of rank 0 of a distributed run, or the only process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    # Lightning starts the other processes of a script with their rank.
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


@contextmanager
def one_writer(path: Path, *, is_first: bool = False) -> Iterator[bool]:
    """Let one process of a distributed run write a file, while those that call with the same file wait.

    Outside a distributed run there is no waiting, and processes that write different files do not wait for each other.

    Parameters
    ----------
    path
        What is written.
    is_first
        Whether the process of rank 0 writes; otherwise the first one to call.

    Yields
    ------
    Whether this process writes. The others get ``False`` once the file has been written.

    Raises
    ------
    RuntimeError
        The process that writes failed, or did not call within half an hour.
    """
    store = store_of_run()
    if store is None:
        # Lightning runs a script from its beginning in every process that it starts, after the first one has got to
        # train(): what that one wrote before is there.
        yield is_first_process() or not path.exists()
        return
    _n_calls[str(path)] += 1
    key = f"petri_scvi/{path}/{_n_calls[str(path)]}"
    is_writer = is_first_process() if is_first else store.add(f"{key}/claims", 1) == 1
    if is_writer:
        yield from _announced(store, key)
        return
    try:
        store.wait([f"{key}/begin"], TIME_TO_ARRIVE)
    except RuntimeError as error:
        raise RuntimeError(
            f"the first process of this run did not write {path} within {TIME_TO_ARRIVE}. Call this function in every "
            "process, with the same path."
        ) from error
    store.wait([f"{key}/end"], TIME_TO_WRITE)
    if problem := store.get(f"{key}/end").decode():
        raise RuntimeError(f"another process of this run failed to write {path}: {problem}")
    yield False


def _announced(store: Any, key: str) -> Iterator[bool]:
    """Tell the others when this process begins to write, and how it ended."""
    store.set(f"{key}/begin", "")
    try:
        yield True
    except BaseException as error:
        store.set(f"{key}/end", f"{type(error).__name__}: {error}")
        raise
    store.set(f"{key}/end", "")
