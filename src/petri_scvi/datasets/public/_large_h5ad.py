"""Read chosen rows of an ``.h5ad`` file that is larger than memory."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata.io import read_elem, sparse_dataset
from rich.progress import Progress
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

BLOCK_BYTES = 2**26
"""Rows are read in blocks of about this many bytes."""


def read_table(file: h5py.Group, name: str, needed: Sequence[str]) -> pd.DataFrame:
    """``obs`` or ``var``.

    Raises
    ------
    KeyError
        A required column is missing: the layout of the file is not the published one.
    """
    with warnings.catch_warnings():
        # Files from 2022 lack encoding metadata, but can be read.
        warnings.filterwarnings("ignore", message=".*was written without encoding metadata")
        table = read_elem(file[name])
    if len(table) and isinstance(table.index[0], bytes):
        table.index = table.index.map(bytes.decode)
    missing = [column for column in needed if column not in table]
    if missing:
        raise KeyError(
            f"{file.file.filename} has no column {missing} in {name}; it has {list(table.columns)}. It is not the file "
            "that this reader was written for; compare with the publisher's description."
        )
    return table


def read_rows(matrix: Any, rows: NDArray[np.integer], *, is_counts: bool, progress: bool) -> sparse.csr_matrix:
    """Rows of a dense or sparse matrix on disk, as CSR in single precision.

    Parameters
    ----------
    matrix
        ``h5py.Dataset`` of shape ``(n_cells, n_genes)``, or the group of a sparse matrix.
    rows
        Rows to read, in any order, each once.
    is_counts
        Whether values must be whole numbers.
    progress
        Show a progress bar.

    Raises
    ------
    ValueError
        Values are negative or not finite, or are not whole numbers although counts are expected.
    """
    where = f"{matrix.file.filename}, {matrix.name}"
    source = matrix if isinstance(matrix, h5py.Dataset) else sparse_dataset(matrix)
    n_rows, n_genes = source.shape
    step = max(1, BLOCK_BYTES // (8 * n_genes))
    order = np.argsort(rows, kind="stable")
    ascending = np.asarray(rows)[order]
    blocks = [sparse.csr_matrix((0, n_genes), dtype=np.float32)]
    with Progress(disable=not progress or n_rows <= step) as bar:
        for start in bar.track(range(0, n_rows, step), description="Reading cells"):
            stop = min(start + step, n_rows)
            first, last = np.searchsorted(ascending, [start, stop])
            if first == last:
                continue
            wanted = ascending[first:last]
            block = sparse.csr_matrix(source[wanted[0] : wanted[-1] + 1][wanted - wanted[0]])
            _check_values(block.data, where, is_counts)
            blocks.append(block.astype(np.float32))
    matrix = sparse.vstack(blocks, format="csr")
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return matrix[back]


def read_dense(matrix: h5py.Dataset | h5py.Group, rows: NDArray[np.integer], *, progress: bool) -> NDArray[np.float32]:
    """Rows of a matrix on disk of values of any sign, in memory in single precision.

    Parameters are those of :func:`read_rows`.
    """
    source = matrix if isinstance(matrix, h5py.Dataset) else sparse_dataset(matrix)
    n_rows, n_columns = source.shape
    step = max(1, BLOCK_BYTES // (8 * n_columns))
    order = np.argsort(rows, kind="stable")
    ascending = np.asarray(rows)[order]
    found = np.empty((len(rows), n_columns), dtype=np.float32)
    with Progress(disable=not progress or n_rows <= step) as bar:
        for start in bar.track(range(0, n_rows, step), description="Reading cells"):
            first, last = np.searchsorted(ascending, [start, start + step])
            if first < last:
                wanted = ascending[first:last]
                block = source[wanted[0] : wanted[-1] + 1][wanted - wanted[0]]
                found[order[first:last]] = block.toarray() if sparse.issparse(block) else block
    return found


def _check_values(values: NDArray[Any], where: str, is_counts: bool) -> None:
    is_bad = ~np.isfinite(values) | (values < 0)
    if is_counts:
        is_bad |= values != np.round(values)
    if is_bad.any():
        expected = "counts" if is_counts else "log-normalised values, which are finite and never negative"
        raise ValueError(f"{where} has {values[is_bad][0]:.4g}; expected {expected}. It is not the expected file.")
