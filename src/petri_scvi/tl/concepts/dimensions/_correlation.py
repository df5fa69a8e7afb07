"""Correlations of many dimensions with many measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import pearson3
from scipy.stats import t as student_t

from petri_scvi.common._labels import read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

MIN_CELLS = 10
"""Smallest number of cells that a correlation is computed from."""


class Strata:
    """Groups of cells whose means are removed before correlating, such as batches; one group if there is no column.

    Parameters
    ----------
    adata
        Cells.
    batch_key
        ``obs`` column of the group.
    rows
        Cells to use.
    """

    def __init__(self, adata: AnnData, batch_key: str | None, rows: NDArray[np.intp]) -> None:
        if batch_key is None:
            codes = np.zeros(len(rows), dtype=np.intp)
        else:
            codes = _codes(adata, batch_key, rows)
        self.codes = codes
        self.counts = np.bincount(codes)
        ones = np.ones(len(codes), dtype=np.float32)
        self._indicator = sparse.csr_matrix((ones, (codes, np.arange(len(codes)))))  # (n_groups, n)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a correlation."""
        return len(self.codes) - len(self.counts) - 1

    def means(self, values: Any) -> NDArray[np.float64]:
        """Mean of each group, shape ``(n_groups, k)``."""
        sums = self._indicator @ values
        return np.asarray(sums.toarray() if sparse.issparse(sums) else sums, np.float64) / self.counts[:, None]

    def center(self, values: NDArray[np.floating[Any]]) -> None:
        """Subtract the mean of its group from each row, in place."""
        values -= self.means(values).astype(values.dtype)[self.codes]


def _codes(adata: AnnData, batch_key: str, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    values = read_labels(adata.obs, batch_key, "obs", argument="batch_key").iloc[rows]
    if values.isna().any():
        raise ValueError(
            f"obs[{batch_key!r}] is missing for {int(values.isna().sum())} of {len(values)} cells. Name their batch or "
            "drop these cells."
        )
    return np.asarray(pd.factorize(values)[0], dtype=np.intp)


def correlation_p_values(correlation: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """Two-sided p-values of correlations under Student's distribution; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(correlation) * np.sqrt(freedom / np.maximum(1 - correlation**2, 0))
    return np.asarray(2 * student_t.sf(statistic, freedom))


def skewed_p_values(
    correlation: NDArray[np.float64], skewness: NDArray[np.float64], freedom: int
) -> NDArray[np.float64]:
    """Two-sided p-values of correlations of skewed values.

    A correlation of sparse values depends on few cells: a single cell with both a rare activation and a rare gene gives
    a strong correlation without being evidence. Under shuffling of cells, the skewness of a correlation is the product
    of both skewnesses over the square root of the number of cells. The p-value comes from the Pearson type III
    distribution with that skewness.

    Parameters
    ----------
    correlation
        Pearson's.
    skewness
        Product of the skewnesses of the two variables, of the same shape.
    freedom
        Degrees of freedom of a correlation.
    """
    statistic = correlation * np.sqrt(freedom + 1)
    skew = skewness / np.sqrt(freedom + 1)
    upper, lower = pearson3.sf(statistic, skew), pearson3.cdf(statistic, skew)
    return np.asarray(np.minimum(2 * np.minimum(upper, lower), 1))


def adjust_listed(p_values: NDArray[np.float64], n_tests: int) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values of some of ``n_tests`` tests, the others of which count as if their p-value were 1.

    The q-values are conservative: each is at least as large as if all tests were listed.
    """
    order = np.argsort(p_values)
    raised = p_values[order] * n_tests / np.arange(1, len(p_values) + 1)
    q_values = np.empty(len(p_values))
    q_values[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return q_values
