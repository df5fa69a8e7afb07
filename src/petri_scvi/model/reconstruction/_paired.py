"""Differences between two scores of the same cells, whose contexts, not cells, are independent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t
from scipy.stats import wilcoxon

if TYPE_CHECKING:
    from numpy.typing import NDArray


def paired_statistics(differences: NDArray[np.floating[Any]], contexts: NDArray[Any]) -> dict[str, float]:
    """Mean of paired differences, with an interval and a p-value between contexts.

    Cells of one context share the effect of their context, and of the companions drawn from it, on the score. As
    independent observations, they would make any such common shift significant.

    Parameters
    ----------
    differences
        Score of each cell in one condition minus that in the other, shape ``(n_cells,)``.
    contexts
        Context of each cell.

    Returns
    -------
    ``n_cells`` and ``n_contexts``; ``mean`` over cells; ``low`` and ``high``, its 95 % interval, from the variance
    between contexts and Student's distribution; ``effect_size``, Cohen's d over cells; ``share_of_cells`` with a
    positive difference; ``p_value`` of the two-sided Wilcoxon signed-rank test of the mean difference of each context.
    With a single context, the interval and the p-value are NaN.
    """
    n_cells = len(differences)
    by_context = pd.Series(differences, dtype=np.float64).groupby(np.asarray(contexts))
    sums, sizes, means = by_context.sum().to_numpy(), by_context.size().to_numpy(), by_context.mean().to_numpy()
    n_contexts, mean = len(sums), float(np.mean(differences))
    spread = float(np.std(differences, ddof=1)) if n_cells > 1 else np.nan
    half_width = p_value = np.nan
    if n_contexts > 1:
        residuals = sums - sizes * mean
        error = np.sqrt(np.square(residuals).sum() * n_contexts / (n_contexts - 1)) / n_cells
        half_width = float(student_t.ppf(0.975, n_contexts - 1) * error)
        p_value = float(wilcoxon(means).pvalue) if (means != 0).any() else 1.0
    return {
        "n_cells": n_cells,
        "n_contexts": n_contexts,
        "mean": mean,
        "low": mean - half_width,
        "high": mean + half_width,
        "effect_size": 0.0 if spread == 0 else mean / spread,
        "share_of_cells": float((np.asarray(differences) > 0).mean()),
        "p_value": p_value,
    }
