"""Compare the effect of companions of one context on the scores of cells with that of other contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

NULL_RANGE = (0.025, 0.975)


def context_tests(
    tables: Mapping[str, pd.DataFrame],
    others: pd.DataFrame,
    compared: NDArray[np.intp],
    pairs: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """Paired differences between conditions, among those with other contexts in the place of the first condition's.

    Parameters
    ----------
    tables
        Condition to one row per cell; the same cells in the same order.
    others
        Mean scores of the compared cells next to each of the other contexts, one row per context.
    compared
        Rows of the cells that were reconstructed next to the other contexts.
    pairs
        Conditions, and the reference that each is compared with.

    Returns
    -------
    One row per score and pair: ``score``, ``condition``, ``reference``, ``n_cells``, mean ``difference``,
    ``effect_size`` (Cohen's d of the differences), ``share_of_cells`` above the reference, ``n_other_contexts``,
    ``null_low`` and ``null_high`` (the middle 95 % of the differences with other contexts) and ``p_value`` (two-sided,
    by the rank of the condition among the other contexts; NaN without any).
    """
    records = []
    for score in others:
        null = others[score].to_numpy()
        for condition, reference in pairs:
            values, base = tables[condition][score].to_numpy(), tables[reference][score].to_numpy()
            difference = values - base
            spread = difference.std(ddof=1) if len(difference) > 1 else np.nan
            low, high = np.quantile(null - base[compared].mean(), NULL_RANGE) if len(null) else (np.nan, np.nan)
            records.append(
                {
                    "score": score,
                    "condition": condition,
                    "reference": reference,
                    "n_cells": len(difference),
                    "difference": difference.mean(),
                    "effect_size": 0.0 if spread == 0 else difference.mean() / spread,
                    "share_of_cells": float((difference > 0).mean()),
                    "n_other_contexts": len(null),
                    "null_low": low,
                    "null_high": high,
                    "p_value": _rank_p_value(float(values[compared].mean()), null),
                }
            )
    return pd.DataFrame(records)


def _rank_p_value(observed: float, null: NDArray[np.float64]) -> float:
    """Two-sided p-value of one value among others, itself counted."""
    if len(null) == 0:
        return float("nan")
    smaller_tail = min(int((null >= observed).sum()), int((null <= observed).sum()))
    return min(1.0, 2 * (1 + smaller_tail) / (1 + len(null)))
