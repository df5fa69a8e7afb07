"""Detect changes of registered cells without reading all of them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from petri_scvi.dataloaders import open_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

N_VALUES_READ = 1_000_000
"""Arrays in memory with at most this many values are read completely."""
N_VALUES_SUMMED = 10_000_000
"""The sum is compared for arrays in memory with at most this many stored values."""
N_ROWS_IN_MEMORY, N_ROWS_ON_DISK = 32, 4
"""Number of rows, evenly spaced, that are compared in larger arrays."""


def fingerprint(array: Any) -> dict[str, Any]:
    """Shape, sum if that is cheap, and checksum of some rows of an array with a row per cell.

    The fingerprint depends on values, not on how they are stored: a matrix that was converted to another sparse format
    or a wider type keeps it. Changes of single cells in large arrays are not detected; those of all cells, such as
    normalisation or reordering, are.
    """
    if isinstance(array, pd.DataFrame):
        array = open_rows(array).array
    is_in_memory = sparse.issparse(array) or (isinstance(array, np.ndarray) and not isinstance(array, np.memmap))
    n_rows = int(array.shape[0])
    n_read = N_ROWS_IN_MEMORY if is_in_memory else N_ROWS_ON_DISK
    if is_in_memory and np.prod(array.shape) <= N_VALUES_READ:
        n_read = n_rows
    rows = np.unique(np.linspace(0, n_rows - 1, min(n_read, n_rows)).astype(np.int64))
    values = open_rows(array).read(rows) if len(array.shape) > 1 else np.asarray(array)[rows]
    found: dict[str, Any] = {
        "shape": [int(n) for n in array.shape],
        "checksum": zlib.crc32(np.ascontiguousarray(values, dtype=np.float64).tobytes()),
    }
    stored = array.data if sparse.issparse(array) else array
    if is_in_memory and stored.size <= N_VALUES_SUMMED:
        found["sum"] = float(np.nansum(stored, dtype=np.float64))  # a missing value is NaN
    return found


def difference(known: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, as part of a sentence; empty if nothing does."""
    if tuple(known["shape"]) != tuple(found["shape"]):
        return f"it has shape {tuple(found['shape'])} and had {tuple(known['shape'])}"
    if "sum" in known and "sum" in found and not np.isclose(known["sum"], found["sum"], rtol=1e-6):
        return f"its values add up to {found['sum']:.6g} and did to {known['sum']:.6g}"
    if known["checksum"] != found["checksum"]:
        return "its values are other ones, or in another order"
    return ""
