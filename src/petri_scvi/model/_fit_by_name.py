"""Fit a modality of new data to a model: variables are found by name, and those that are missing are noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._constants import CHANNEL_NAMES_KEY, MASKED_KEY, UNS_KEY
from petri_scvi.common._channels import channel_names
from petri_scvi.modalities import ExpressionModality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from petri_scvi.modalities import Modality

N_NAMED = 5
"""Missing variables that a message names."""


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
        _check_channels(adata, name, int(adata.obsm[attr_key].shape[1]), state["channels"])
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
        parts = {part: getattr(adata, part) for part in ("X", "obs", "var", "uns")}
        obsm = {**adata.obsm, attr_key: table.iloc[:, present]}
        fitted = AnnData(**parts, obsm=obsm, layers=dict(adata.layers))
    fitted.uns[UNS_KEY] = {**fitted.uns.get(UNS_KEY, {}), MASKED_KEY: missing}
    n_dropped = len(names) - len(present)
    changes = []
    if len(missing):
        more = ", ..." if len(missing) > N_NAMED else ""
        changes.append(
            f"{where} lacks {len(missing)} of the {len(wanted)} {variables} of the model, which are masked "
            f"({', '.join(missing[:N_NAMED])}{more})"
        )
    if n_dropped:
        changes.append(f"{n_dropped} {variables} of {where} that the model does not know are dropped")
    return fitted, changes


def _check_names(
    names: pd.Index, wanted: Sequence[str], where: str, variables: str, modality_class: type[Modality]
) -> None:
    """Require unique names, some of which are known, and all of them if the kind cannot mask."""
    missing = sorted(set(wanted) - set(names))
    n_missing = f"{len(missing)} of the {len(wanted)} {variables} of the model, for example {missing[:N_NAMED]}"
    rename = "rename them" if "obsm" in where else f"rename them: {where}.var_names = ..."
    if len(missing) == len(wanted):
        raise ValueError(
            f"{where} lacks {n_missing}, that is all; it has {list(names[:N_NAMED])}. If they have other names, such "
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


def _check_channels(adata: AnnData, name: str, n_channels: int, wanted: Sequence[str]) -> None:
    """Require all channels: a patch token reads every channel, so that a missing one cannot be masked."""
    found = channel_names(adata, n_channels, f"mdata[{name!r}]")
    missing = [channel for channel in wanted if channel not in found]
    if missing:
        shared = [str(channel) for channel in wanted if channel in found]
        train = f", or train a model on the channels that both screens have, {shared}" if shared else ""
        raise ValueError(
            f"mdata[{name!r}] lacks {len(missing)} of the {len(wanted)} channels of the model, {missing}; it has "
            f"{found}. A patch is read with all its channels, so that a missing one cannot be masked. If they are "
            f"misnamed, set mdata[{name!r}].uns[{CHANNEL_NAMES_KEY!r}]; otherwise embed the other modalities alone, "
            f"without {name!r}{train}."
        )
