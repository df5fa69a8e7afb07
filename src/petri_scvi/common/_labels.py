"""How labels in tables are read and compared: columns, labels as text, and which labels mark controls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Number
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from petri_scvi.common._warn import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Labels: TypeAlias = str | int | float | bool | Iterable[str | int | float | bool]
"""One label or several; numbers are compared as text."""

MISSING_WORDS = frozenset({"", "nan", "NaN", "None", "<NA>", "NaT"})
"""What missing values become when a table is written or read as text."""
CONTROL_LIKE = re.compile(
    r"non.?target|no.?target|control|ctrl|scrambled?|"
    r"(^|[^a-z0-9]|sg)(nt|ntc|neg|negative|safe|dmso|mock|vehicle|untreated|aavs1|rosa26|lacz|luciferase|luc|e?gfp|wt)"
    r"([^a-z0-9]|$)",
    re.IGNORECASE,
)
"""Labels that are named as candidates when no row has the label of the controls."""
N_EXAMPLES = 10


def column_list(columns: str | Sequence[str], argument: str) -> list[str]:
    """One column name or several, as a list without repetitions."""
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"{argument}={columns!r} is not accepted; pass the name of an obs column, or a list of different ones"
        )
    return names


def read_column(obs: pd.DataFrame, column: str, where: str, *, argument: str = "") -> pd.Series:
    """One column of a table.

    Parameters
    ----------
    obs
        Table.
    column
        Its name.
    where
        Name of the table in messages, for example ``"adata.obs"``.
    argument
        The argument that named the column.

    Raises
    ------
    KeyError
        There is no such column.
    TypeError
        Several names were passed.
    ValueError
        Several columns have this name.
    """
    named = check_one_column(column, where, argument=argument)
    if column not in obs:
        raise KeyError(f"{named} is not a column of {where}; it has {list(obs.columns)}. Name the column to use.")
    found = obs[column]
    if isinstance(found, pd.DataFrame):
        raise ValueError(
            f"{where} has {found.shape[1]} columns named {column!r}. Rename or drop one of them, for example "
            "adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()]."
        )
    return found


def check_one_column(column: Any, where: str, *, argument: str = "") -> str:
    """Require the name of one column, not several; returns how a message calls it."""
    named = f"{argument}={column!r}" if argument else repr(column)
    if isinstance(column, list | tuple | set | np.ndarray | pd.Index):
        raise TypeError(f"{named} is a {type(column).__name__}; pass the name of one column of {where}")
    return named


def as_text(values: pd.Series) -> pd.Series:
    """Labels as text, ``None`` where one is missing.

    Whole numbers become the same text whatever their dtype, because a column of integers becomes one of floats as soon
    as one of its values is missing.
    """
    try:
        codes, distinct = pd.factorize(values)
    except TypeError as error:
        raise TypeError(
            f"obs[{values.name!r}] has values that are not labels: {error}. Convert them to text."
        ) from error
    distinct = np.asarray(distinct)
    if distinct.dtype.kind == "M":
        distinct = pd.Series(distinct).astype(str)  # without the time of day if there is none
    written = np.array([*map(_text, distinct), None], dtype=object)
    return pd.Series(written[codes], index=values.index, name=values.name, dtype=object)


def warn_missing_words(labels: pd.Series, where: str) -> None:
    """Warn about labels that missing values become as text."""
    counts = labels.value_counts()
    for word in sorted(MISSING_WORDS & set(counts.index)):
        warn(
            f"{counts[word]} rows of {where} have the label {word!r}, which missing values become as text; it "
            f"counts as a label. If it means that the label is missing, replace it: "
            f"{where} = {where}.astype(object).replace({word!r}, None)"
        )


def read_labels(obs: pd.DataFrame, column: str, where: str, *, argument: str = "") -> pd.Series:
    """A column as text, ``None`` where a label is missing, with a warning if labels are words for missing values.

    Parameters and errors are those of :func:`read_column`.
    """
    labels = as_text(read_column(obs, column, where, argument=argument))
    warn_missing_words(labels, f"{where}[{column!r}]")
    return labels


def label_list(labels: Labels, argument: str) -> list[str]:
    """One label or several, as text without repetitions."""
    if isinstance(labels, str | bytes | Number | np.generic):
        labels = [labels]  # type: ignore[list-item]
    names = list(dict.fromkeys(_text(label) for label in labels)) if isinstance(labels, Iterable) else []
    if not names or isinstance(labels, dict):
        raise ValueError(f"{argument}={labels!r} is not accepted; pass a label, or a list of labels")
    return names


def check_controls(
    labels: Mapping[str, pd.Series], control: Labels, *, argument: str = "control", remedy: str = ""
) -> list[str]:
    """Require labels of controls that occur in a table, or in one of several.

    Parameters
    ----------
    labels
        Labels as text, by the name of the column in messages, for example ``"adata.obs['target_gene']"``.
    control
        Label or labels of controls.
    argument
        The argument that named them.
    remedy
        What else can be done if a label does not occur.

    Returns
    -------
    The labels, as text.

    Raises
    ------
    ValueError
        A label occurs in no table.

    Warns
    -----
    UserWarning
        One of several tables has none of the labels.
    """
    names = label_list(control, argument)
    found = {where: set(column.dropna().unique()) for where, column in labels.items()}
    absent = set(names).difference(*found.values())
    if absent:
        raise ValueError(
            f"{argument}={control!r}: no row of {' or '.join(labels)} has {', '.join(map(repr, sorted(absent)))}. "
            f"{_candidates(set().union(*found.values()))} Name the labels of the controls, one or several, with "
            f"{argument}=...{remedy}"
        )
    for where, of_table in found.items():
        if of_table and not of_table & set(names):
            warn(f"{where} has no control: none of {names}. {_candidates(of_table)}")
    return names


def control_like(labels: Iterable[str]) -> list[str]:
    """Labels that often mark controls."""
    return sorted(label for label in labels if CONTROL_LIKE.search(label))


def _candidates(found: set[str]) -> str:
    """Labels that may be those of controls, for a message."""
    alike = control_like(found)
    if alike:
        return f"These labels look like controls: {alike[:N_EXAMPLES]}."
    more = ", and more" if len(found) > N_EXAMPLES else ""
    return f"Its labels are {sorted(found)[:N_EXAMPLES]}{more}; none looks like a control."


def _text(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)
