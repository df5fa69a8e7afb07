"""Store results, and compute the small statistics that many of them need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy.stats import binomtest, false_discovery_control

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi._constants import UNS_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

Data = TypeVar("Data", AnnData, MuData, AnnData | MuData)

TIE = 1e-12
"""Similarities that differ by less than this count as equal."""


def data_to_change(data: Data, copy: bool) -> Data:
    """Return what a function with the argument ``copy`` writes into: the data, or a copy of it.

    Raises
    ------
    ValueError
        A copy of data on disk was asked for.
    """
    if not copy:
        return data
    for table in [data] if isinstance(data, AnnData) else data.mod.values():
        for name, array in {"X": table.X, **table.layers, **table.obsm}.items():
            if array is not None and not hasattr(array, "copy"):
                raise ValueError(
                    f"copy=True is not accepted: {name!r} lies in a file ({type(array).__name__}) and is not copied. "
                    "Leave out copy: results are written into these data in memory and not into the file."
                )
    with columns_stay_in_modalities():
        return data.copy()


def write_result(data: AnnData | MuData, name: str, result: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Store a result and the arguments it was computed with in ``uns["petri_scvi"][name]``."""
    kept = {k: _storable(v) for k, v in parameters.items() if v is not None}
    everything = dict(data.uns.get(UNS_KEY, {}))  # a copy, so that views and shared dictionaries stay as they are
    everything[name] = {**result, "parameters": kept}
    data.uns[UNS_KEY] = everything


def forget_results(data: AnnData | MuData, key: str) -> None:
    """Remove results computed from the previous content of slot ``key``: those whose arguments name it."""

    def is_about(result: dict[str, Any]) -> bool:
        arguments = result.get("parameters", {})
        return key == arguments.get("key") or key in list(arguments.get("keys", []))

    if found := data.uns.get(UNS_KEY):
        data.uns[UNS_KEY] = {name: result for name, result in found.items() if not is_about(result)}


def _storable(value: Any) -> Any:
    """Convert to a type that ``.h5ad`` and ``.h5mu`` can hold; a file does not distinguish tuples from arrays."""
    if isinstance(value, (list, tuple)):
        return np.asarray(value)
    return value


def one_or_several(names: list[str]) -> str | list[str]:
    """A single label as a string, several as a list, as arguments accept them."""
    return names[0] if len(names) == 1 else names


def adjust(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values; NaN stays NaN and does not count as a test."""
    q_values = np.full(len(p_values), np.nan)
    is_test = ~np.isnan(p_values)
    if is_test.any():
        q_values[is_test] = false_discovery_control(p_values[is_test])
    return q_values


def share(is_hit: NDArray[np.bool_]) -> dict[str, float]:
    """Share of hits as ``score``, with its 95 % Wilson interval as ``score_low`` and ``score_high``."""
    interval = binomtest(int(is_hit.sum()), len(is_hit)).proportion_ci(method="wilson")
    return {"score": float(is_hit.mean()), "score_low": float(interval.low), "score_high": float(interval.high)}


def null_p_values(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of null draws at least as large as each observation; one is added to both counts."""
    null = np.sort(null)
    # Equal values that were summed in another order count as equal.
    n_at_least = len(null) - np.searchsorted(null, observed - TIE, side="left")
    return (1 + n_at_least) / (1 + len(null))
