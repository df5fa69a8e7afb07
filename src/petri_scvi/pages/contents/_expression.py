"""What genes say about cells and perturbations.

Expression is log2(1 + normalised counts) here, so that every number of a gene on the page is in units of log2.
"""

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
"""Genes that are listed up and down for a perturbation: those of the largest t, by their change."""
MIN_CELLS = 3
"""A perturbation of fewer cells is not tested."""


def log_normalised_rows(
    adata: AnnData, rows: NDArray[np.intp], layer: str | None, where: str, is_normalized: bool
) -> sparse.csr_matrix:
    """Log-normalised expression of some cells, in the order of ``rows`` and in units of log2."""
    order = np.argsort(rows)
    expression = log_normalised(adata, layer, where, is_normalized=is_normalized, rows=rows[order])
    return expression[np.argsort(order)] / np.log(2)


def top_genes(expression: sparse.csr_matrix) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """The genes of each cell that are highest above the mean of all cells.

    Returns their columns, 65,535 where there are no more, and how far in tenths of a doubling, both
    ``(n_cells, N_TOP)``.
    """
    n, n_genes = expression.shape
    mean = np.asarray(expression.mean(axis=0)).ravel()
    is_named = (expression.getnnz(axis=0) >= MIN_SHARE * n) & (np.arange(n_genes) < 2**16 - 1)
    genes = np.full((n, N_TOP), 2**16 - 1, dtype=np.uint16)
    height = np.zeros((n, N_TOP), dtype=np.uint8)
    scores = np.where(is_named[expression.indices], expression.data - mean[expression.indices], -1.0)
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
    expression: sparse.csr_matrix,
    labels: pd.Series,
    controls: Sequence[str],
    genes: NDArray[np.str_],
    targets: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """The genes that each perturbation raises and lowers most, by a t-test against the controls.

    The test overestimates the variance, so as not to list what was hardly ever seen.

    ``targets`` names the gene that a perturbation targets, if it is not called like the perturbation.

    Returns, for each perturbation of three or more cells, ``up`` and ``down``: name, difference of the mean expression,
    and Benjamini-Hochberg q-value within the perturbation, the largest difference first; and ``own``, the same of the
    gene that it targets, with the shares of its cells and of controls in which that gene was detected, or ``None`` if
    it was not measured.
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
    base, base_detected = _means(expression[is_control])
    place = {gene: i for i, gene in reversed(list(enumerate(genes.tolist())))}
    result: dict[str, dict[str, Any]] = {}
    for name in tested:
        perturbation = str(names[int(name[1:])])
        columns = found["names"][name].astype(np.intp)
        mean, detected = _means(expression[group == name])
        change, q_value = mean - base, np.empty(len(columns))
        q_value[columns] = found["pvals_adj"][name]
        result[perturbation] = {
            end: sorted(
                ([str(genes[i]), float(change[i]), float(q_value[i])] for i in listed if sign * change[i] > 0),
                key=lambda row: -abs(row[1]),
            )
            for end, sign, listed in (("up", 1, columns[:N_LISTED]), ("down", -1, columns[::-1][:N_LISTED]))
        }
        own = place.get(perturbation, place.get(targets.get(perturbation, ""), -1))
        tested_own: list[Any] | None = None
        if own >= 0:
            shares = [float(detected[own]), float(base_detected[own])]
            tested_own = [str(genes[own]), float(change[own]), float(q_value[own]), *shares]
        result[perturbation]["own"] = tested_own
    return result


def _means(expression: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each gene, and the share of cells in which it was detected."""
    return np.asarray(expression.mean(axis=0)).ravel(), np.asarray((expression > 0).mean(axis=0)).ravel()
