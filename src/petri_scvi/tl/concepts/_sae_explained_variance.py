"""Variance of an embedding that a sparse code explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Fidelity:
    """Explained variance by modality, accumulated over chunks of cells.

    Parameters
    ----------
    mean
        Mean of all cells, shape ``(D,)``; sums are taken around it, so that they do not lose digits.
    """

    def __init__(self, mean: NDArray[np.float64]) -> None:
        self.mean = mean
        self.sums: dict[str, dict[str, Any]] = {}

    def add(
        self, modality: NDArray[Any], values: NDArray[Any], decoded: NDArray[Any], n_active: NDArray[np.integer]
    ) -> None:
        """Add cells: their modality, embedding, reconstructed embedding, and number of active dimensions."""
        centered = values - self.mean  # (n, D)
        squares, errors = np.square(centered).sum(axis=1), np.square(values - decoded, dtype=np.float64).sum(axis=1)
        for name in pd.unique(modality):
            rows = modality == name
            of_cells = {"n_cells": rows.sum(), "sum": centered[rows].sum(axis=0), "squares": squares[rows].sum()}
            of_cells |= {"errors": errors[rows].sum(), "n_active": n_active[rows].sum()}
            known = self.sums.get(str(name))
            self.sums[str(name)] = of_cells if known is None else {k: known[k] + v for k, v in of_cells.items()}

    def table(self) -> pd.DataFrame:
        """One row per modality; its variance is that around its own mean."""
        rows = [
            {
                "modality": name,
                "n_cells": int(of["n_cells"]),
                "explained_variance": _explained(of),
                "n_active": float(of["n_active"] / of["n_cells"]),
            }
            for name, of in self.sums.items()
        ]
        return pd.DataFrame(rows)

    def explained_variance(self) -> float:
        """Share of the variance of all cells around their mean."""
        sums = list(self.sums.values())
        return _explained({name: sum(of[name] for of in sums) for name in sums[0]})


def _explained(of: dict[str, Any]) -> float:
    variance = of["squares"] - of["sum"] @ of["sum"] / of["n_cells"]
    return float(1 - of["errors"] / variance) if variance > 0 else float("nan")
