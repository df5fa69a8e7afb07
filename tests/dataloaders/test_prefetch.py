from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from petri_scvi.dataloaders import prefetch

if TYPE_CHECKING:
    from collections.abc import Iterator


def n_threads() -> int:
    return sum(thread.name == "petri_scvi-prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_none_is_lost() -> None:
    assert list(prefetch(iter([3, None, 1, 2]), n_ahead=1)) == [3, None, 1, 2]
    assert list(prefetch([])) == []


def test_the_next_item_is_made_while_the_current_one_is_used() -> None:
    made = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for i in range(3):
            made.release()
            yield i

    ahead = prefetch(items())
    assert next(ahead) == 0
    # Nobody asked for the second item yet.
    assert made.acquire(timeout=10)
    assert made.acquire(timeout=10)
    assert list(ahead) == [1, 2]


def test_no_more_than_n_ahead_items_wait() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(items(), n_ahead=2)
    next(ahead)
    threading.Event().wait(0.2)
    assert len(made) <= 4  # one used, two waiting, one in the hands of the thread
    ahead.close()


def test_an_error_reaches_the_caller_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert n_threads() == 0


def test_leaving_early_ends_the_thread() -> None:
    for item in prefetch(iter(range(1000))):
        if item == 3:
            break
    assert n_threads() == 0
