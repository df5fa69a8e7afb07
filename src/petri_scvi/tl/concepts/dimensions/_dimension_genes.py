"""Genes whose expression correlates with a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import track
from scipy import sparse

from petri_scvi._checks import check_different, check_sizes
from petri_scvi._constants import RNA, SAE_KEY
from petri_scvi.tl._expression import log_normalised
from petri_scvi.tl._results import data_to_change, write_result

from ._activations import activations_of
from ._correlation import MIN_CELLS, Strata, adjust_listed, skewed_p_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._activations import Activations

CONSTANT = 1e-6
"""A column does not vary if its variance is less than this share of its mean square."""


def dimension_genes(
    data: AnnData | MuData,
    key: str = SAE_KEY,
    *,
    modality: str = RNA,
    layer: str | None = None,
    is_normalized: bool = False,
    batch_key: str | None = None,
    n_genes: int = 100,
    rankby_abs: bool = False,
    min_cells: int = MIN_CELLS,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Rank genes by the correlation of their log-normalised expression with each dimension of an embedding.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the activations, sparse or dense, shape ``(n_cells, D)``; of a sparse autoencoder, or any
        embedding.
    modality
        Modality of a MuData that has the expression.
    layer
        Layer with the counts; ``X`` if ``None``.
    is_normalized
        Whether the expression is log-normalised already. Counts are scaled to the median total per cell and ``log1p``
        is taken, in a sparse copy.
    batch_key
        ``obs`` column of a group, such as the batch, whose means are removed first. By default nothing is removed.
    n_genes
        Genes to list per dimension.
    rankby_abs
        Whether to rank by the absolute correlation, as in :func:`scanpy.tl.rank_genes_groups`. By default only genes
        with a positive correlation are listed, the strongest first.
    min_cells
        A dimension is tested if its activation is not zero in this many cells, and a gene if it was detected in as
        many.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_genes_" + key]``: ``table``, one row per dimension and
    listed gene: ``dimension``, ``rank`` (from 1), ``gene``, ``correlation`` (-1 to 1), ``p_value`` (two-sided, of
    shuffled cells, approximated from the skewness of both), ``q_value`` (Benjamini-Hochberg over all tested dimensions
    and genes; those not listed count as tests with a p-value of 1, so that no q-value is too small); ``background``,
    the names of the tested genes; ``n_dimensions``; ``parameters``.

    Raises
    ------
    KeyError
        A slot, layer or column is missing.
    ValueError
        The expression is negative or, although ``is_normalized`` is ``False``, has fractions; or no dimension and no
        gene can be tested.

    Notes
    -----
    Memory holds one block of activations (128 MB) and one of correlations, in addition to the sparse matrices and the
    listed genes, whatever the number of dimensions.
    """
    data = data_to_change(data, copy)
    check_sizes(n_genes=n_genes, min_cells=min_cells)
    activations = activations_of(data, key, modality)
    adata = activations.adata
    where = "adata" if adata is data else f"mdata[{modality!r}]"
    check_different(adata.var_names, f"genes of {where}", f"Call {where}.var_names_make_unique() first")
    expression = log_normalised(adata, layer, where, is_normalized=is_normalized)[activations.rows]
    tested_genes = np.flatnonzero(expression.getnnz(axis=0) >= min_cells)
    tested = np.flatnonzero(activations.n_nonzero() >= min_cells)
    if not (len(tested) and len(tested_genes)):
        raise ValueError(
            f"{len(tested)} of {activations.n_dimensions} dimensions and {len(tested_genes)} of {adata.n_vars} genes "
            f"are nonzero in min_cells={min_cells} of {len(activations.rows)} cells; pass a smaller min_cells."
        )
    ranking = _Ranking(expression[:, tested_genes], Strata(adata, batch_key, activations.rows), n_genes, rankby_abs)
    parts = ranking.run(activations, tested, progress)
    table = pd.concat(parts, ignore_index=True)
    table["q_value"] = adjust_listed(table["p_value"].to_numpy(), ranking.n_tests)
    background = adata.var_names[tested_genes].to_numpy(dtype=np.str_)
    table["gene"] = pd.Categorical.from_codes(table["gene"].to_numpy(), categories=list(background))
    parameters: dict[str, Any] = {"key": key, "modality": modality, "layer": layer, "is_normalized": is_normalized}
    parameters |= {"batch_key": batch_key, "n_genes": n_genes, "rankby_abs": rankby_abs, "min_cells": min_cells}
    result = {"table": table, "background": background, "n_dimensions": activations.n_dimensions}
    write_result(data, f"dimension_genes_{key}", result, parameters)
    return data if copy else None


class _Ranking:
    """Correlate blocks of dimensions with all genes, and keep the genes at the top."""

    def __init__(self, expression: sparse.csr_matrix, strata: Strata, n_genes: int, rankby_abs: bool) -> None:
        self.strata, self.rankby_abs = strata, rankby_abs
        self.n_genes = min(n_genes, expression.shape[1])
        self._length, self._skewness = _length_and_skewness(expression, strata)  # (n_genes,) each
        self._expression = expression  # (n, n_genes)
        self._sums = strata.counts[:, None] * strata.means(expression)  # (n_groups, n_genes)
        self.n_tests = 0

    def run(self, activations: Activations, tested: NDArray[np.intp], progress: bool) -> list[pd.DataFrame]:
        """One table per block of dimensions."""
        parts = track(activations.parts(tested), "Ranking genes", disable=not progress)
        return [self._rank(part, *self._correlate(activations.matrix[:, part])) for part in parts]

    def _correlate(self, block: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Correlation of each dimension with each gene, ``(d, n_genes)``, NaN where one is constant; and skewnesses."""
        block = block if sparse.issparse(block) else np.array(block, dtype=np.float64)
        length, skewness = _length_and_skewness(block, self.strata)
        if sparse.issparse(block):
            # Both matrices stay sparse; the means are subtracted from the products.
            product = (block.T @ self._expression).toarray() - self.strata.means(block).T @ self._sums
        else:
            self.strata.center(block)
            product = np.asarray(self._expression.T @ block.astype(np.float32), dtype=np.float64).T
        return np.asarray(product / length[:, None] / self._length), skewness

    def _rank(
        self, dimensions: NDArray[np.intp], correlation: NDArray[np.float64], skewness: NDArray[np.float64]
    ) -> pd.DataFrame:
        self.n_tests += int(np.isfinite(correlation).sum())
        size = np.abs(correlation) if self.rankby_abs else correlation
        size = np.where(np.isfinite(size), size, -np.inf)
        top = np.argpartition(-size, self.n_genes - 1, axis=1)[:, : self.n_genes]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(size, top, axis=1), axis=1), axis=1)
        found = np.clip(np.take_along_axis(correlation, top, axis=1), -1, 1).ravel()
        of_both = (skewness[:, None] * self._skewness[top]).ravel()
        table = pd.DataFrame(
            {
                "dimension": np.repeat(dimensions, self.n_genes).astype(np.int32),
                "rank": np.tile(np.arange(1, self.n_genes + 1, dtype=np.int32), len(dimensions)),
                "gene": top.ravel().astype(np.int32),
                "correlation": found.astype(np.float32),
                "p_value": skewed_p_values(found, of_both, self.strata.freedom),
            }
        )
        is_listed = np.isfinite(found) if self.rankby_abs else found > 0
        return table[is_listed]


def _length_and_skewness(values: Any, strata: Strata) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length and skewness of each column after its means have been removed; NaN if it does not vary."""
    is_sparse = sparse.issparse(values)
    squares = values.power(2) if is_sparse else np.square(values, dtype=np.float64)
    total = np.asarray(squares.sum(axis=0, dtype=np.float64)).ravel()
    mean = strata.means(values)
    rest = total - strata.counts @ np.square(mean)
    length = np.sqrt(np.where(rest > CONSTANT * total, rest, np.nan))
    cubes = strata.means(squares.multiply(values) if is_sparse else squares * values)
    cubes = strata.counts @ (cubes - 3 * mean * strata.means(squares) + 2 * mean**3)
    return length, np.sqrt(len(strata.codes)) * cubes / length**3
