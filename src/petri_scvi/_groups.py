"""Named groups of labels, such as complexes and pathways: how they are read, and how data records those of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from petri_scvi._constants import UNS_KEY
from petri_scvi.common import user_path
from petri_scvi.common._labels import as_text

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

Groups: TypeAlias = Mapping[str, Sequence[str]] | pd.Series | str | PathLike[str]
"""Members by group, a column that lists the groups of each member, or the path of a GMT file."""

RECORD = "context_groups"
"""Slot in ``uns["petri_scvi"]`` with the groups that a model was trained with."""
SEPARATOR = ";"
"""Between the groups in one value of a column."""


def read_groups(groups: Groups, argument: str) -> dict[str, list[str]]:
    """Members of each group, as text without repetitions.

    Parameters
    ----------
    groups
        Mapping from the name of each group to its members; the path of a GMT file; or a column whose index has the
        members and whose values are the groups of each: a list, or text with semicolons between the groups.
    argument
        Name of the argument in messages.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        The groups have another form.
    ValueError
        The members of a group are one string, or the file is not a GMT file.
    """
    if isinstance(groups, str | PathLike):
        return {name: list(dict.fromkeys(members)) for name, members in read_gmt(groups).items()}
    if isinstance(groups, pd.Series):
        return _of_column(groups)
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"{argument} is a {type(groups).__name__}; pass a mapping from each group to its members, such as "
            f"{argument}={{'proteasome': ['PSMA1', 'PSMB5']}}, the path of a GMT file, or a column that lists the "
            "groups of each member."
        )
    for name, members in groups.items():
        if isinstance(members, str | bytes) or not isinstance(members, Iterable):  # letters would be taken for members
            raise ValueError(f"{argument}[{name!r}]={members!r}; pass a list of members, such as [{members!r}].")
    return {str(name): _as_labels(members) for name, members in groups.items()}


def read_gmt(path: str | PathLike[str]) -> dict[str, list[str]]:
    """Gene sets of a GMT file: per line a name, a description and genes, between tabs."""
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(user_path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if len(rest) < 2:
            raise ValueError(
                f"line {number} of {path} is {line[:60]!r}; expected a GMT file, with a name, a description and at "
                "least one gene per line, between tabs."
            )
        sets[name] = [gene for gene in rest[1:] if gene]
    return sets


def record_groups(data: AnnData | MuData, groups: Mapping[str, Sequence[str]]) -> None:
    """Record the groups that the embedding of data was trained with, in ``uns["petri_scvi"]["context_groups"]``."""
    rows = [(name, member) for name, members in groups.items() for member in members]
    table = pd.DataFrame(rows, columns=["group", "member"], dtype=object)
    data.uns[UNS_KEY] = {**data.uns.get(UNS_KEY, {}), RECORD: {"table": table}}


def recorded_groups(data: AnnData | MuData) -> dict[str, list[str]]:
    """Groups that :func:`record_groups` recorded; empty if there are none."""
    record = data.uns.get(UNS_KEY, {}).get(RECORD)
    if record is None:
        return {}
    table = record["table"].astype(str)
    return {str(name): members.tolist() for name, members in table.groupby("group", sort=False)["member"]}


def pass_on_record(sources: Iterable[AnnData | MuData], profiles: AnnData) -> None:
    """Record with profiles the groups that the data they were computed from records."""
    for source in sources:
        if groups := recorded_groups(source):
            record_groups(profiles, groups)
            return


def _of_column(column: pd.Series) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    members = as_text(pd.Series(column.index)).to_numpy()
    for member, value in zip(members, column.to_numpy(dtype=object), strict=True):
        for name in _names(value):
            found.setdefault(name, {})[member] = None
    return {name: list(of_group) for name, of_group in found.items()}


def _names(value: Any) -> list[str]:
    """Groups in one value of a column."""
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return _as_labels(sorted(value) if isinstance(value, set | frozenset) else value)
    if value is None or value is pd.NA or value != value:
        return []
    names = as_text(pd.Series([value])).iloc[0].split(SEPARATOR)
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def _as_labels(values: Iterable[Any]) -> list[str]:
    found = as_text(pd.Series(list(values), dtype=object)).dropna()
    return list(dict.fromkeys(found))
