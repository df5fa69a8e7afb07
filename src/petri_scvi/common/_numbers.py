"""Which arrays and tables hold numbers that can be computed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMERIC = "biuf"
"""Kinds of dtypes of flags, integers and floats."""


def check_numbers(array: Any, where: str, *, is_expression: bool = False) -> None:
    """Require an array, or a table, of integers, floats or flags with at least one column.

    Only its shape and dtype are checked; see :func:`check_float32` for its values.

    Parameters
    ----------
    array
        Anything that a slot can hold, in memory or on disk.
    where
        Where it is stored, as a user would write it, for example ``"obsm['X_petri']"``.
    is_expression
        Whether it holds expression, for which half precision is too coarse: counts above 2,048 are rounded.

    Raises
    ------
    ValueError
        It holds anything else, or is empty.
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"{where} is a masked array, whose mask would be ignored. Fill in what is masked: "
            f"{where}.filled(numpy.nan), or another value."
        )
    if shape is None or (dtype is None and not isinstance(array, pd.DataFrame)):
        raise ValueError(f"{where} is a {type(array).__name__}; expected an array of numbers. Delete it or convert it.")
    if 0 in shape[1:]:
        raise ValueError(f"{where} has shape {tuple(shape)}, so there is nothing in it. Delete it: del {where}.")
    if isinstance(array, pd.DataFrame):
        _check_columns(array, where)
        return
    dtype = np.dtype(dtype)
    if dtype.kind not in NUMERIC:
        advice = (
            f"Store {where}.real and {where}.imag" if dtype.kind == "c" else f"Convert it: {where}.astype('float32')"
        )
        raise ValueError(f"{where} has dtype {dtype}; expected integers or floats. {advice}, or delete it.")
    if dtype.itemsize > 8:
        raise ValueError(f"{where} has dtype {dtype}; expected at most float64. Convert it: {where}.astype('float64').")
    if is_expression and dtype == np.float16:
        raise ValueError(
            f"{where} has dtype float16, which rounds counts above 2048 and which sparse matrices cannot have. If its "
            f"values are exact, convert it: {where}.astype('float32')."
        )


def _check_columns(table: pd.DataFrame, where: str) -> None:
    bad = {
        str(name): str(dtype)
        for name, dtype in zip(table.columns, table.dtypes, strict=True)
        if not (pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype))
    }
    if bad:
        name, dtype = next(iter(bad.items()))
        raise ValueError(
            f"{len(bad)} of {table.shape[1]} columns of {where} hold no numbers, for example {name!r} with dtype "
            f"{dtype}. Drop them: {where} = {where}.select_dtypes('number')."
        )


def number_dtype(array: Any) -> np.dtype[Any]:
    """Type of the numbers of an array, or of a table, that :func:`check_numbers` accepts."""
    if isinstance(array, pd.DataFrame):
        is_plain = all(isinstance(dtype, np.dtype) for dtype in array.dtypes)
        return np.result_type(*array.dtypes) if is_plain else np.dtype(np.float64)
    return np.dtype(array.dtype)


def check_float32(values: NDArray[Any], where: str) -> None:
    """Require that single precision, which models compute in, can hold the values; NaN and infinity are left alone.

    Raises
    ------
    ValueError
        A value becomes infinite.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize <= 4:
        return
    with np.errstate(over="ignore"):
        is_lost = np.isinf(values.astype(np.float32)) & np.isfinite(values)
    if is_lost.any():
        raise ValueError(
            f"{where} has {int(is_lost.sum())} values that are too large for float32, for example "
            f"{values[is_lost].flat[0]:.4g}. Rescale the values, or replace these."
        )
