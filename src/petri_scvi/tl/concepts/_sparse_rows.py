"""A sparse matrix that grows row by row."""

from __future__ import annotations

import numpy as np
from scipy import sparse


class SparseRows:
    """A sparse matrix that is assembled row by row, without a second copy of all rows."""

    def __init__(self, n_rows: int, n_columns: int, expected_per_row: int) -> None:
        self.shape, self.n_done, self.n_values = (n_rows, n_columns), 0, 0
        capacity = n_rows * expected_per_row
        self.values, self.columns = np.empty(capacity, dtype=np.float32), np.empty(capacity, dtype=np.int32)
        self.ends = np.zeros(n_rows + 1, dtype=np.int64)

    def append(self, rows: sparse.csr_matrix) -> None:
        """Add rows below those that are there."""
        n_values, n_done = self.n_values + rows.nnz, self.n_done + rows.shape[0]
        if n_values > len(self.values):
            self._resize(n_values + len(self.values) // 10)
        self.values[self.n_values : n_values] = rows.data
        self.columns[self.n_values : n_values] = rows.indices
        self.ends[self.n_done + 1 : n_done + 1] = self.n_values + rows.indptr[1:]
        self.n_values, self.n_done = n_values, n_done

    def finish(self) -> sparse.csr_matrix:
        """The matrix."""
        self._resize(self.n_values)
        return sparse.csr_matrix((self.values, self.columns, self.ends), shape=self.shape)

    def _resize(self, n_values: int) -> None:
        for array in (self.values, self.columns):
            array.resize(n_values, refcheck=False)  # in place where the system can
