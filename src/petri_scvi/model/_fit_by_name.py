"""Fit a modality of new data to a model: variables are found by name, and those that are missing are noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._constants import CHANNEL_NAMES_KEY, MASKED_KEY, UNS_KEY
from petri_scvi.common._channels import channel_names, given_channel_names
from petri_scvi.common._names import N_LISTED, first_names
from petri_scvi.modalities import ExpressionModality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from petri_scvi.modalities import Modality


def fit_by_name(
    adata: AnnData,
    name: str,
    modality_class: type[Modality],
    place: Mapping[str, Any],
    state: Mapping[str, Any],
) -> tuple[AnnData, list[str]]:
    """Select and order the variables that a model knows, and note those that are missing.

    Parameters
    ----------
    adata
        The modality in the new data.
    name
        Its name.
    modality_class
        Its kind.
    place
        Where the model reads it.
    state
        What its field recorded.

    Returns
    -------
    The modality itself if its variables fit, else a copy; and what was changed, in words.

    Raises
    ------
    ValueError
        The data cannot be fitted.
    """
    attr_name, attr_key = place["attr_name"], place["attr_key"]
    if "channels" in state and attr_key in adata.obsm:
        return _fit_channels(adata, name, int(adata.obsm[attr_key].shape[1]), [str(c) for c in state["channels"]])
    table = adata.obsm.get(attr_key) if attr_name == "obsm" else None
    if "column_names" not in state or (attr_name == "obsm" and not isinstance(table, pd.DataFrame)):
        return adata, []
    wanted = [str(column) for column in state["column_names"]]
    names = adata.var_names if table is None else table.columns.astype(str)
    if list(names) == wanted:
        return adata, []
    where = f"mdata[{name!r}]" if table is None else f"mdata[{name!r}].obsm[{attr_key!r}]"
    variables = (
        "columns" if table is not None else "genes" if issubclass(modality_class, ExpressionModality) else "variables"
    )
    _check_names(names, wanted, where, variables, modality_class)
    positions = names.get_indexer(wanted)
    present = positions[positions >= 0]
    missing = np.asarray(wanted)[positions < 0]
    if table is None:
        fitted = adata[:, present].copy()
    else:
        fitted = _with_shared_parts(adata, {attr_key: table.iloc[:, present]})
    _note_missing(fitted, missing)
    n_dropped = len(names) - len(present)
    changes = []
    if len(missing):
        changes.append(_lacks(where, missing, wanted, variables))
    if n_dropped:
        changes.append(f"{n_dropped} {variables} of {where} that the model does not know are dropped")
    return fitted, changes


def _check_names(
    names: pd.Index, wanted: Sequence[str], where: str, variables: str, modality_class: type[Modality]
) -> None:
    """Require unique names, some of which are known, and all of them if the kind cannot mask."""
    missing = sorted(set(wanted) - set(names))
    n_missing = f"{len(missing)} of the {len(wanted)} {variables} of the model, for example {missing[:N_LISTED]}"
    rename = "rename them" if "obsm" in where else f"rename them: {where}.var_names = ..."
    if len(missing) == len(wanted):
        raise ValueError(
            f"{where} lacks {n_missing}, that is all; it has {list(names[:N_LISTED])}. If they have other names, such "
            f"as identifiers, {rename}."
        )
    if missing and not modality_class.masks_missing:
        raise ValueError(
            f"{where} lacks {n_missing}, and the kind {modality_class.kind!r} cannot mask them. If they have other "
            f"names, {rename}; otherwise train a model on the {variables} that both screens have."
        )
    if not names.is_unique:
        fix = f"Rename the columns of {where}" if "obsm" in where else f"First call {where}.var_names_make_unique()"
        raise ValueError(f"{where} has several {variables} of one name. {fix}.")


def _with_shared_parts(adata: AnnData, changed: Mapping[str, Any]) -> AnnData:
    """The modality with other slots of ``obsm``; everything else is shared."""
    parts = {part: getattr(adata, part) for part in ("X", "obs", "var")}
    obsm = {**adata.obsm, **changed}
    return AnnData(**parts, uns=dict(adata.uns), obsm=obsm, layers=dict(adata.layers))


def _note_missing(fitted: AnnData, missing: NDArray[np.str_]) -> None:
    """Record which variables count as masked."""
    fitted.uns[UNS_KEY] = {**fitted.uns.get(UNS_KEY, {}), MASKED_KEY: missing}


def _lacks(where: str, missing: Sequence[str] | NDArray[np.str_], wanted: Sequence[str], variables: str) -> str:
    """What is missing, in words."""
    return (
        f"{where} lacks {len(missing)} of the {len(wanted)} {variables} of the model, which are masked "
        f"({first_names(missing)})"
    )


def _fit_channels(adata: AnnData, name: str, n_channels: int, wanted: Sequence[str]) -> tuple[AnnData, list[str]]:
    """Note the channels of the model that the crops lack; the others are found by name without a change."""
    where = f"mdata[{name!r}]"
    found = channel_names(adata, n_channels, where)
    missing = [channel for channel in wanted if channel not in found]
    if not missing:
        return adata, []
    is_named = given_channel_names(adata, n_channels) is not None
    if len(missing) == len(wanted) or not is_named:
        raise ValueError(
            f"{where} lacks {len(missing)} of the {len(wanted)} channels of the model, {missing}; it has {found}"
            f"{'' if is_named else ' without names'}. Name its channels as the model "
            f"does, {list(wanted)}, leaving out those that it does not have: "
            f"{where}.uns[{CHANNEL_NAMES_KEY!r}] = [...]. Otherwise embed the other modalities alone, without {name!r}."
        )
    fitted = _with_shared_parts(adata, {})
    _note_missing(fitted, np.asarray(missing))
    changes = [_lacks(where, missing, wanted, "channels")]
    if others := [channel for channel in found if channel not in wanted]:
        changes.append(
            f"{len(others)} channels of {where} that the model does not know are not read "
            f"({first_names(others)}); rename them if they are the missing ones"
        )
    return fitted, changes
