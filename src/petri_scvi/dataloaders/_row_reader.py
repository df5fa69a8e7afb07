"""Base class of readers of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHUNK_BYTES = 2**25


class RowReader(ABC):
    """Rows of one array.

    Parameters
    ----------
    array
        Something with ``shape`` and ``dtype`` whose first axis is cells.
    """

    advice: str | None = None
    """Why reading the array is slow and what to do, as the end of a sentence; ``None`` if it is not slow."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")  # torch reads the machine's byte order only

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Dense rows in the order asked for, with repeats; shape ``(len(rows), ...)``, the array's dtype."""

    def chunks(self, rows: NDArray[np.integer], chunk_size: int | None = None) -> Iterator[NDArray[Any]]:
        """The same rows in pieces of at most ``chunk_size``; by default of at most 32 MB."""
        if chunk_size is None:
            # In bytes, not in rows: a thousand large crops, cast to float64 for a sum, are gigabytes.
            n_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
            chunk_size = max(1, CHUNK_BYTES // max(1, n_bytes))
        for start in range(0, len(rows), chunk_size):
            yield self.read(rows[start : start + chunk_size])
