"""Log-normalised expression of the cells of a modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from petri_scvi.common._numbers import check_float32, check_numbers
from petri_scvi.tl._read_rows import canonical

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def log_normalised(
    adata: AnnData, layer: str | None, where: str, *, is_normalized: bool | None, rows: NDArray[np.intp] | None = None
) -> sparse.csr_matrix:
    """Log-normalise expression into a sparse float32 copy without explicit zeros.

    Counts are divided by the total of their cell, multiplied by the median total of cells that have counts, and
    ``log1p`` is taken.

    Parameters
    ----------
    adata
        Cells.
    layer
        Layer with the expression; ``X`` if ``None``.
    where
        The cells as a user would write them, for example ``"mdata['rna']"``.
    is_normalized
        Whether the expression is log-normalised already; ``None`` treats whole numbers as counts.
    rows
        Cells to read, in ascending order and without repeats; all if ``None``.

    Raises
    ------
    KeyError
        There is no such layer.
    ValueError
        There is no expression, it has values that are negative or not finite, or it has fractions although
        ``is_normalized`` is ``False``.
    """
    if layer is not None and layer not in adata.layers:
        found = sorted(filter(None, adata.layers))
        raise KeyError(f"layer={layer!r} is not in {where}.layers, which has {found}. Name one, or pass None for X.")
    array = adata.X if layer is None else adata.layers[layer]
    place = f"{where}.X" if layer is None else f"{where}.layers[{layer!r}]"
    if array is None:
        raise ValueError(f"{place} is empty; name the layer that has the expression, for example layer='counts'.")
    check_numbers(array, place, is_expression=True)
    expression = canonical(sparse.csr_matrix(_in_memory(array, rows)))
    check_float32(expression.data, place)
    expression = expression.astype(np.float32, copy=True)
    expression.eliminate_zeros()
    values = expression.data
    if (~np.isfinite(values)).any() or (values < 0).any():
        raise ValueError(
            f"{place} has negative, NaN or infinite values; expected counts or log-normalised expression. Name the "
            "layer that has it, for example layer='counts'."
        )
    fractions = values[values != np.round(values)]
    if is_normalized or (is_normalized is None and len(fractions)):
        return expression
    if len(fractions):
        raise ValueError(
            f"{place} has values that are not whole numbers, for example {fractions[0]:.4g}. Name the layer with the "
            "counts, for example layer='counts', or pass is_normalized=True for log-normalised values."
        )
    totals = np.asarray(expression.sum(axis=1, dtype=np.float64)).ravel()
    if not totals.any():
        raise ValueError(f"{place} has no counts; name the layer that has them, for example layer='counts'.")
    factors = np.median(totals[totals > 0]) / np.maximum(totals, 1)
    values *= np.repeat(factors, np.diff(expression.indptr)).astype(np.float32)
    np.log1p(values, out=values)
    return expression


def _in_memory(array: Any, rows: NDArray[np.intp] | None) -> Any:
    if rows is not None:
        array = array[rows]
    elif hasattr(array, "to_memory"):
        array = array.to_memory()
    elif not sparse.issparse(array):
        array = array[:]
    return array.compute() if hasattr(array, "compute") else array
