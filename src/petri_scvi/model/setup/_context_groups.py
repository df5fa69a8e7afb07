"""Groups of contexts whose cells may share a document: read when data is set up, resolved when a model is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._compat import SETUP_ARGS_KEY
from petri_scvi._groups import read_groups, record_groups
from petri_scvi.common import joined_columns, split_labels
from petri_scvi.common._labels import column_list
from petri_scvi.common._warn import warn
from petri_scvi.model.setup._context_field import CONTEXT_SEPARATOR

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi._groups import Groups

ARGUMENT = "context_groups"


def find_groups(
    mdata: MuData, source: Groups | Sequence[str] | None, context_key: Sequence[str], modalities: Sequence[str]
) -> dict[str, list[str]] | list[str] | None:
    """Groups as they are saved with the setup.

    Parameters
    ----------
    mdata
        Data whose contexts were checked.
    source
        ``context_groups`` of ``setup_mudata``.
    context_key
        Columns that define a context.
    modalities
        Modalities that are registered.

    Returns
    -------
    Members of each group that the data has, or columns of ``context_key``: contexts with the same values in these form
    a group.

    Raises
    ------
    KeyError
        A column is missing in every modality.
    TypeError, ValueError
        The groups cannot be read, or none of them has two members in the data.

    Warns
    -----
    UserWarning
        Members are not in the data, or groups have fewer than two that are.
    """
    if source is None:
        return None
    present = [name for name in modalities if name in mdata.mod]
    contexts = pd.concat([mdata.mod[name].obs[list(context_key)] for name in present]).drop_duplicates()
    names = joined_columns(contexts, CONTEXT_SEPARATOR).tolist()
    if isinstance(columns := _columns(source), list):
        if set(columns) <= set(context_key):
            _check_nesting(columns, context_key, contexts)
            return columns
        groups = _of_columns(mdata, columns, context_key, present)
    else:
        groups = read_groups(source, ARGUMENT)
    known = set(_codes_of_members(dict(enumerate(names)), len(context_key)))
    return _known_groups(groups, known)


def group_codes(manager: AnnDataManager) -> list[NDArray[np.integer]]:
    """Context codes of each group of registered data; empty if it was set up without groups."""
    setup = manager.registry[SETUP_ARGS_KEY]
    groups = setup.get(ARGUMENT)
    if groups is None:
        return []
    name = next(iter(manager.adata.mod.keys() & _modalities_with_contexts(manager)))
    state = manager.get_state_registry(f"context_{name}")
    context_key, labels = list(state["context_key"]), dict(enumerate(state["categories"]))
    if isinstance(groups, Mapping):
        codes = _codes_of_members(labels, len(context_key))
        found = [[code for member in members for code in codes.get(member, [])] for members in groups.values()]
    else:
        places = [context_key.index(column) for column in groups]
        nested: dict[tuple[str, ...], list[int]] = {}
        for code, label in labels.items():
            parts = split_labels(label, CONTEXT_SEPARATOR)
            nested.setdefault(tuple(parts[place] for place in places), []).append(code)
        found = list(nested.values())
    unique = [np.unique(np.array(of_group, dtype=np.int64)) for of_group in found]
    return [of_group for of_group in unique if len(of_group) > 1]


def note_groups(registry: Mapping[str, Any], mdata: Any) -> None:
    """Record in ``uns`` of embedded data with which groups the model was trained, for scores of the same groups.

    Nesting is not recorded: it says nothing about which perturbations are related.
    """
    groups = registry[SETUP_ARGS_KEY].get(ARGUMENT)
    if not isinstance(groups, Mapping) or mdata.is_view:
        return
    n_columns = len(_as_columns(registry[SETUP_ARGS_KEY]["context_key"]))
    known = {
        name: list(dict.fromkeys(_perturbation(member, n_columns) for member in members))
        for name, members in groups.items()
    }
    known = {name: members for name, members in known.items() if len(members) > 1}
    for data in (mdata, *getattr(mdata, "mod", {}).values()):  # an embedding may be stored in either
        record_groups(data, known)


def _columns(source: Any) -> list[str] | None:
    """Columns that the argument names, if it is not a mapping, a column or a file."""
    if isinstance(source, PathLike | Mapping | pd.Series) or (isinstance(source, str) and source.endswith(".gmt")):
        return None
    if isinstance(source, str) or (isinstance(source, list | tuple) and all(isinstance(one, str) for one in source)):
        return column_list(source, ARGUMENT)
    return None


def _check_nesting(columns: Sequence[str], context_key: Sequence[str], contexts: pd.DataFrame) -> None:
    n_contexts = len(contexts)
    n_groups = len(contexts[list(columns)].drop_duplicates())
    if n_groups == n_contexts:
        raise ValueError(
            f"context_groups={list(columns)} gives each of {n_contexts} contexts a group of its own. With "
            f"context_key={list(context_key)}, name fewer of these columns than it takes to tell contexts apart, for "
            "example context_key=['perturbation', 'background'], context_groups='perturbation'."
        )


def _of_columns(
    mdata: MuData, columns: Sequence[str], context_key: Sequence[str], present: Sequence[str]
) -> dict[str, list[str]]:
    """Groups in a column of ``obs``, whose members are contexts, or of ``var``, whose members are variables."""
    if len(columns) > 1:
        raise ValueError(
            f"context_groups={list(columns)}: several columns are accepted if all are in context_key, which is "
            f"{list(context_key)}. Name one column that lists groups, or columns of context_key."
        )
    (column,) = columns
    found = []
    for name in present:
        obs, var = mdata.mod[name].obs, mdata.mod[name].var
        if column in obs:
            found.append(_column_of_contexts(obs, column, context_key))
        elif column in var:
            found.append(var[column])
    if not found:
        have = {name: [*mdata.mod[name].obs, *mdata.mod[name].var] for name in present}
        raise KeyError(
            f"context_groups={column!r} is not a column of obs or var of any modality; they have {have}. Name a column "
            "that lists the groups of each cell's perturbation, or of the gene, or pass a mapping or the path of a "
            "GMT file (.gmt)."
        )
    groups: dict[str, dict[str, None]] = {}
    for one in found:
        for group, members in read_groups(one, ARGUMENT).items():
            groups.setdefault(group, {}).update(dict.fromkeys(members))
    return {group: list(members) for group, members in groups.items()}


def _column_of_contexts(obs: pd.DataFrame, column: str, context_key: Sequence[str]) -> pd.Series:
    """Groups by context, each combination once if the values are text."""
    read = pd.Series(obs[column].to_numpy(), index=joined_columns(obs[list(context_key)], CONTEXT_SEPARATOR))
    try:
        return read[~read.reset_index().duplicated().to_numpy()]
    except TypeError:  # lists
        return read


def _known_groups(groups: Mapping[str, list[str]], known: set[str]) -> dict[str, list[str]]:
    """Members that are known, in groups that have two of them."""
    written = {member for members in groups.values() for member in members}
    unknown = sorted(written - known)
    kept = {name: [member for member in members if member in known] for name, members in groups.items()}
    kept = {name: members for name, members in kept.items() if len(members) > 1}
    n_dropped = len(groups) - len(kept)
    missing = f"{len(unknown)} of {len(written)} perturbations in context_groups are not contexts of the data"
    missing += f", for example {unknown[:3]}" if unknown else ""
    if not kept:
        raise ValueError(
            f"none of {len(groups)} groups of context_groups has two perturbations of the data: {missing}. The data "
            f"has {sorted(known)[:5]}{' and more' if len(known) > 5 else ''}; groups need these names."
        )
    parts = [missing] if unknown else []
    if n_dropped:
        parts.append(f"{n_dropped} of {len(groups)} groups have fewer than two that are, and are left out")
    if parts:
        warn(f"{'; '.join(parts)}. Documents are drawn from {len(kept)} groups.")
    return kept


def _codes_of_members(labels: Mapping[int, str], n_columns: int) -> dict[str, list[int]]:
    """Codes of the contexts that a member names: by its whole name, or by the label of its first column."""
    found: dict[str, list[int]] = {}
    for code, label in labels.items():
        found.setdefault(label, []).append(code)
        if (first := _perturbation(label, n_columns)) != label:
            found.setdefault(first, []).append(code)
    return found


def _perturbation(label: str, n_columns: int) -> str:
    """Label of the first column of a context."""
    return split_labels(label, CONTEXT_SEPARATOR)[0] if n_columns > 1 else label


def _as_columns(context_key: str | Sequence[str]) -> list[str]:
    return [context_key] if isinstance(context_key, str) else list(context_key)


def _modalities_with_contexts(manager: AnnDataManager) -> set[str]:
    fields = manager.data_registry
    return {field.removeprefix("context_") for field in fields if field.startswith("context_")}
