"""Rows of an embedding in random order, in memory or on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi.common import RunningMoments
from petri_scvi.common._numbers import check_float32
from petri_scvi.tl._embedding import finite_rows
from petri_scvi.tl._read_rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

BLOCK_ROWS = 1024
"""Rows that are read together, so that reads from disk are sequential."""
POOL_ROWS = 65_536
"""Rows that are shuffled together, in memory."""


def shuffled_batches(slots: Sequence[Slot], batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Yield minibatches without end; every row is used once before any is used again.

    Blocks of neighbouring rows are read in random order, and the rows of many blocks are shuffled together. An
    embedding of at most ``POOL_ROWS`` rows is thus read once and shuffled completely.

    Parameters
    ----------
    slots
        Matrices of the same width, whose rows are pooled.
    batch_size
        Rows of a minibatch.
    rng
        Source of the order.
    """
    blocks = [
        (slot, slice(start, min(start + BLOCK_ROWS, slot.shape[0])))
        for slot in slots
        for start in range(0, slot.shape[0], BLOCK_ROWS)
    ]
    n_rows = sum(slot.shape[0] for slot in slots)
    everything = _read(blocks) if n_rows <= POOL_ROWS else None
    rest = np.empty((0, slots[0].shape[1]), dtype=np.float32)
    while True:
        order = rng.permutation(len(blocks))
        n_together = POOL_ROWS // BLOCK_ROWS if everything is None else len(blocks)
        for first in range(0, len(blocks), n_together):
            if everything is None:
                pool = _read([blocks[i] for i in order[first : first + n_together]])
                rng.shuffle(pool)
            else:
                pool = everything[rng.permutation(n_rows)]
            pool = np.concatenate([rest, pool])
            n_whole = len(pool) // batch_size * batch_size
            for start in range(0, n_whole, batch_size):
                yield pool[start : start + batch_size]
            rest = pool[n_whole:].copy()


def mean_and_scale(slots: Sequence[Slot]) -> tuple[NDArray[np.float64], float, int, int]:
    """Mean, root mean square distance from it per dimension, rows, and how many of them are not finite."""
    n_rows, n_bad = 0, 0
    moments = RunningMoments(slots[0].shape[1])
    for slot in slots:
        for _, chunk in slot.chunks():
            check_float32(chunk, f"obsm[{slot.key!r}]")
            is_finite = finite_rows(chunk)
            n_rows, n_bad = n_rows + len(chunk), n_bad + int((~is_finite).sum())
            moments.update(chunk[is_finite])
    variance = moments.squares.mean() / max(moments.n, 1)
    return moments.mean, float(np.sqrt(variance)), n_rows, n_bad


def _read(blocks: Sequence[tuple[Slot, slice]]) -> NDArray[np.float32]:
    parts: list[NDArray[Any]] = [read_rows(slot.array, rows, np.float32) for slot, rows in blocks]
    return np.concatenate(parts)
