"""Measure many crops in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track

from ._intensities import to_unit_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from petri_scvi.dataloaders import RowReader

CELLS_PER_TASK = 16


def measure_rows(
    reader: RowReader,
    rows: NDArray[np.integer],
    scale: tuple[NDArray[np.float32], NDArray[np.float32]],
    measure: Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], list[str]]],
    *,
    n_jobs: int,
    show_progress: bool,
) -> tuple[NDArray[np.float64], list[str]]:
    """Measure chosen crops; returns the measurements and their names.

    Parameters
    ----------
    reader
        Reader of the crops.
    rows
        Crops to measure.
    scale
        Intensities of each channel that are scaled to 0 and 1.
    measure
        Maps crops, shape ``(n, C, H, W)``, to measurements, shape ``(n, n_features)``, and their names; can be pickled.
    n_jobs
        Processes; -1 is one per core.
    show_progress
        Show a progress bar.
    """
    parts = [rows[start : start + CELLS_PER_TASK] for start in range(0, len(rows), CELLS_PER_TASK)]
    # Crops are read as processes need them, so those of all cells need not fit into memory.
    tasks = (delayed(measure)(to_unit_range(reader.read(part), *scale)) for part in parts)
    results = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
    measured = list(track(results, "Measuring cells", total=len(parts), disable=not show_progress))
    return np.concatenate([values for values, _ in measured]), measured[0][1]
