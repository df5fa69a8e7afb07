"""Check that an ``.h5ad``, ``.h5mu`` or zarr file can hold names, arrays and columns of tables."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from pandas.api.types import infer_dtype
from scipy import sparse

from petri_scvi.common._numbers import check_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

FORBIDDEN = ("/", "\\", "\0")
"""Characters that HDF5 or zarr would read as a path separator or as the end of a name."""
RESERVED = ("", ".", "..")
NUMBERS, AS_TEXT = "pandas.to_numeric({})", "{}.map(str, na_action='ignore').astype('category')"
NULLS = "text with null characters"
CONVERSIONS = dict.fromkeys(["integer", "integer-na", "mixed-integer-float"], NUMBERS) | {
    "boolean": "{}.astype('boolean')",
    "empty": "{}.astype(float)",
    "floating": "{}.astype(float)",
    "string": "{}.astype(object).astype('category')",
    "sparse": "{}.sparse.to_dense()",
    NULLS: "{}.astype(str).str.replace('\\0', ' ')",
}
"""How to convert columns, by the kind of their values, so that files can hold them; others become text."""
TABLE_RESERVED = "_index"
"""Column in which anndata stores the names of the rows."""


def check_names(names: Iterable[Any], what: str) -> None:
    """Require names that files store unchanged.

    Parameters
    ----------
    names
        Keys of a slot, or columns of a table.
    what
        What error messages call one of them, for example ``"a key of source.obsm"``.
    """
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{what} is {name!r}, a {type(name).__name__}; files hold text only. Rename it.")
        if name in RESERVED or any(character in name for character in FORBIDDEN):
            raise ValueError(
                f"{what} is {name!r}, which would be another place in the file. Rename it; names must not be empty, "
                "'.' or '..', and not contain '/', '\\' or a null character."
            )


def check_table(table: pd.DataFrame, where: str) -> None:
    """Require columns that files can hold.

    Raises
    ------
    ValueError
        A name or the values of a column cannot be stored; both are named.
    """
    check_names(table.columns, f"a column of {where}")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique().tolist()
        raise ValueError(f"{where} has several columns {twice}. Rename or drop all but one of each.")
    if table.index.name is not None:
        check_names([table.index.name], f"the name of the index of {where}")
    if _has_nulls(table.index):
        raise ValueError(f"the index of {where} has names with null characters, which files cannot hold. Rename them.")
    if TABLE_RESERVED in table.columns:
        raise ValueError(
            f"a column of {where} is {TABLE_RESERVED!r}, which files reserve for the row names. Rename it."
        )
    for name in table.columns:
        column = table[name]
        if found := _unstorable_kind(column):
            code = f"{where}[{name!r}]"
            raise ValueError(
                f"{code} has dtype {column.dtype} with values of kind {found}, which files cannot hold. Convert it: "
                f"{code} = {CONVERSIONS.get(found, AS_TEXT).format(code)}; or drop it."
            )


def check_array(array: Any, where: str) -> None:
    """Require an array of numbers, or a table that files can hold, with at least one column."""
    if isinstance(array, pd.DataFrame) and array.shape[1]:
        check_table(array, where)
    else:
        check_numbers(array, where)


def check_mapping(values: Mapping[str, Any], where: str) -> None:
    """Require entries of ``uns``, and of the mappings in it, that files can hold."""
    check_names(values, f"a key of {where}")
    for key, value in values.items():
        place = f"{where}[{key!r}]"
        if isinstance(value, Mapping):
            check_mapping(value, place)
        elif isinstance(value, pd.DataFrame):
            check_table(value, place)
        elif not _is_plain(value) and (error := _error_of(value)):
            raise ValueError(
                f"{place} is a {type(value).__name__} that files cannot hold: {error}. Delete it: del {place}."
            )


def _is_plain(value: Any) -> bool:
    """Whether files certainly can hold the value; writing is tried for other values."""
    if isinstance(value, str | bool | int | float | np.bool_ | np.integer | np.floating):
        return True
    return (isinstance(value, np.ndarray) or sparse.issparse(value)) and value.dtype.kind in "biuf"


def _has_nulls(text: Iterable[Any]) -> bool:
    """Whether a text has a null character, where HDF5 ends it."""
    return any("\0" in value for value in text if isinstance(value, str))


def _unstorable_kind(column: pd.Series) -> str:
    """Kind of the values of a column that files cannot hold; empty if they can."""
    values = column.cat.categories.to_series() if isinstance(column.dtype, pd.CategoricalDtype) else column
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufc":
        return ""
    found = "sparse" if isinstance(values.dtype, pd.SparseDtype) else str(infer_dtype(values, skipna=True))
    if found == "string" and _has_nulls(values.unique()):
        return NULLS
    # anndata makes categories of text that repeats, and of objects that are text.
    if found == "string" and (values.dtype == object or values.nunique() < len(values)):
        return ""
    with suppress(TypeError):  # of lists and the like
        values = values.drop_duplicates()
    return found if _error_of(values.reset_index(drop=True).to_frame("column")) else ""


def _error_of(value: Any) -> str:
    """Error of anndata when it writes a value to a file in memory; empty if there is none."""
    with (
        h5py.File("trial", "w", driver="core", backing_store=False) as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            write_elem(file, "trial", value)
        except Exception as error:  # noqa: BLE001 - whatever it is, the value cannot be stored
            return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""
