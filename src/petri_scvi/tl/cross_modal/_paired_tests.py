"""Compare scores of the same cells under different conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def paired_tests(
    tables: Mapping[str, pd.DataFrame], scores: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Paired differences between conditions.

    Parameters
    ----------
    tables
        Condition to one row per cell; the same cells in the same order.
    scores
        Columns to compare.
    pairs
        Conditions, and the reference that each is compared with.

    Returns
    -------
    One row per score and pair: ``score``, ``condition``, ``reference``, ``n_cells``, mean ``difference`` with its 95 %
    interval (normal approximation), ``effect_size`` (Cohen's d of the differences), ``share_of_cells`` above the
    reference and ``p_value`` (two-sided Wilcoxon signed-rank test).
    """
    records = []
    for score in scores:
        for condition, reference in pairs:
            difference = tables[condition][score].to_numpy() - tables[reference][score].to_numpy()
            n_cells = len(difference)
            mean, spread = difference.mean(), difference.std(ddof=1) if n_cells > 1 else np.nan
            half_width = 1.96 * spread / np.sqrt(n_cells)
            records.append(
                {
                    "score": score,
                    "condition": condition,
                    "reference": reference,
                    "n_cells": n_cells,
                    "difference": mean,
                    "difference_low": mean - half_width,
                    "difference_high": mean + half_width,
                    "effect_size": 0.0 if spread == 0 else mean / spread,
                    "share_of_cells": float((difference > 0).mean()),
                    "p_value": wilcoxon(difference).pvalue if spread > 0 else 1.0,
                }
            )
    return pd.DataFrame(records)
