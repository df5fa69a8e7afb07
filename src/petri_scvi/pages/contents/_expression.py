"""What genes say about cells and perturbations."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from petri_scvi.tl._expression import log_normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy import sparse

N_TOP = 5
"""Genes that are named for a cell."""
MIN_SHARE = 0.01
"""A gene that was detected in a smaller share of cells is not named: its few counts would always be on top."""
N_LISTED = 12
"""Genes that are listed up and down for a perturbation."""
MIN_CELLS = 3
"""A perturbation of fewer cells is not tested."""


def log_normalised_rows(
    adata: AnnData, rows: NDArray[np.intp], layer: str | None, where: str, is_normalized: bool
) -> sparse.csr_matrix:
    """Log-normalised expression of some cells, in the order of ``rows``."""
    order = np.argsort(rows)
    expression = log_normalised(adata, layer, where, is_normalized=is_normalized, rows=rows[order])
    return expression[np.argsort(order)]


def top_genes(expression: sparse.csr_matrix) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """The genes of each cell that are highest above the mean of all cells, in standard deviations.

    Returns their columns, 65,535 where there are no more, and the deviations in tenths, both ``(n_cells, N_TOP)``.
    """
    n, n_genes = expression.shape
    mean = np.asarray(expression.mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(expression.power(2).mean(axis=0)).ravel() - mean**2, 0))
    is_named = (expression.getnnz(axis=0) >= MIN_SHARE * n) & (spread > 0) & (np.arange(n_genes) < 2**16 - 1)
    genes = np.full((n, N_TOP), 2**16 - 1, dtype=np.uint16)
    height = np.zeros((n, N_TOP), dtype=np.uint8)
    scores = (expression.data - mean[expression.indices]) / np.where(spread > 0, spread, 1)[expression.indices]
    scores = np.where(is_named[expression.indices], scores, -1.0)
    for cell in range(n):
        start, end = expression.indptr[cell], expression.indptr[cell + 1]
        mine = scores[start:end]
        best = np.argpartition(-mine, min(N_TOP, len(mine)) - 1)[:N_TOP] if len(mine) else np.empty(0, dtype=np.intp)
        best = best[np.argsort(-mine[best], kind="stable")]
        best = best[mine[best] > 0]
        genes[cell, : len(best)] = expression.indices[start + best]
        height[cell, : len(best)] = np.clip(np.round(10 * mine[best]), 0, 255)
    return genes, height


def changed_genes(
    expression: sparse.csr_matrix, labels: pd.Series, controls: Sequence[str], genes: Sequence[str]
) -> dict[str, dict[str, list[list[Any]]]]:
    """The genes that each perturbation raises and lowers most, by a t-test against the controls.

    The test overestimates the variance, so as not to list what was hardly ever seen.

    Returns, for each perturbation of three or more cells, ``up`` and ``down``: name, difference of the mean
    log-normalised expression in units of log2, and Benjamini-Hochberg q-value within the perturbation.
    """
    is_control = labels.isin(controls).to_numpy()
    codes, names = pd.factorize(labels.where(~is_control))
    group = np.where(is_control, "control", np.where(codes >= 0, np.char.add("p", codes.astype(str)), "none"))
    sizes = pd.Series(group).value_counts()
    tested = [name for name in sizes.index[sizes >= MIN_CELLS] if name.startswith("p")]
    if sizes.get("control", 0) < MIN_CELLS or not tested:
        return {}
    obs = pd.DataFrame({"group": pd.Categorical(group)}, index=[str(i) for i in range(len(group))])
    table = AnnData(expression, obs=obs)  # named by position: names of genes may repeat
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of genes that do not vary, and of the fragmentation of scanpy's own table
        sc.tl.rank_genes_groups(table, "group", groups=tested, reference="control", method="t-test_overestim_var")
    found = table.uns["rank_genes_groups"]
    base = np.asarray(expression[is_control].mean(axis=0)).ravel()
    result = {}
    for name in tested:
        columns = found["names"][name].astype(np.intp)
        mean = np.asarray(expression[group == name].mean(axis=0)).ravel()
        change, q_value = (mean - base)[columns] / np.log(2), found["pvals_adj"][name]
        result[str(names[int(name[1:])])] = {
            end: [
                [str(genes[columns[i]]), float(change[i]), float(q_value[i])]
                for i in order[:N_LISTED]
                if sign * change[i] > 0
            ]
            for end, sign, order in (("up", 1, range(len(columns))), ("down", -1, range(len(columns))[::-1]))
        }
    return result
