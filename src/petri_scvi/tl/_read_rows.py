"""Read rows of any type that ``obsm`` can hold, in memory or on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_ROWS = 8192
"""Number of rows that are read at once."""


def read_rows(array: Any, rows: slice, dtype: type = np.float64) -> NDArray[Any]:
    """Read consecutive rows of any type that ``obsm`` can hold, as a new array."""
    part = take_rows(array, rows)
    if isinstance(part, pd.DataFrame):
        return part.to_numpy(dtype=dtype, na_value=np.nan, copy=True)
    return np.array(part.toarray() if sparse.issparse(part) else part, dtype=dtype)


def take_rows(array: Any, rows: slice) -> Any:
    """Read consecutive rows into memory; sparse if the matrix is."""
    part = array.iloc[rows] if isinstance(array, pd.DataFrame) else array[rows]
    part = part.compute() if hasattr(part, "compute") else part
    return canonical(part) if sparse.issparse(part) else part


def chosen_rows(array: Any, rows: NDArray[np.intp], dtype: type | np.dtype[Any] = np.float64) -> NDArray[Any]:
    """Read rows in any order, shape ``(len(rows), D)``; of arrays that are not in memory, chunk by chunk."""
    if isinstance(array, np.ndarray):
        return np.asarray(array[rows], dtype=dtype)
    found = np.empty((len(rows), array.shape[1]), dtype=dtype)
    order = np.argsort(rows, kind="stable")
    wanted = rows[order]
    for start in range(0, array.shape[0], CHUNK_ROWS):
        first, last = np.searchsorted(wanted, [start, start + CHUNK_ROWS])
        if first < last:
            chunk = read_rows(array, slice(start, min(start + CHUNK_ROWS, array.shape[0])))
            found[order[first:last]] = chunk[wanted[first:last] - start]
    return found


def canonical(matrix: Any) -> Any:
    """Sparse matrix with one value per position; duplicates, which some programs store, are summed."""
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix
