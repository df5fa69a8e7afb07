"""How the cells of a modality are registered with scvi-tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from rich.table import Table
from scvi.data.fields import BaseAnnDataField

from petri_scvi._checks import check_different
from petri_scvi._constants import MASKED_KEY, UNS_KEY
from petri_scvi.common import in_markup
from petri_scvi.common._numbers import check_numbers
from petri_scvi.modalities._fingerprint import fingerprint

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

FINGERPRINT = "fingerprint"
"""Entry of what a field records, by which a change of the registered values is noticed."""


def field_of_kind(modality: str) -> str:
    """Name of the field of a modality that was registered with its kind."""
    return f"cells_{modality}"


def masked_variables(adata: AnnData) -> set[str]:
    """Variables of a model that a modality lacks and that count as masked, as ``prepare_query_mudata`` noted."""
    return set(np.asarray(adata.uns.get(UNS_KEY, {}).get(MASKED_KEY, ()), dtype=str).tolist())


class ModalityField(BaseAnnDataField):
    """A field of one modality, which may be missing from data that the model is applied to later.

    Parameters
    ----------
    registry_key
        Name of the field; unique, since scvi-tools lets the second of two equal names replace the first.
    modality
        Key of ``mdata.mod``.
    attr_name, attr_key
        Where in the modality the data is.
    """

    is_empty = False

    def __init__(self, registry_key: str, modality: str, attr_name: str, attr_key: str | None) -> None:
        self._registry_key = registry_key
        self.modality = modality
        self._attr_name = attr_name
        self._attr_key = attr_key

    @property
    def registry_key(self) -> str:
        return self._registry_key

    @property
    def attr_name(self) -> str:
        return self._attr_name

    @property
    def attr_key(self) -> str | None:
        return self._attr_key

    @property
    def mod_key(self) -> str:
        return self.modality

    @property
    def where(self) -> str:
        """The place of the data, as a user would write it."""
        place = self.attr_name if self.attr_key is None else f"{self.attr_name}[{self.attr_key!r}]"
        return f"mdata[{self.modality!r}].{place}"

    @property
    def is_by_kind(self) -> bool:
        """Whether the modality was registered with its kind, ``setup_mudata(modalities={"rna": "counts"})``."""
        return self.registry_key == field_of_kind(self.modality)

    def is_present(self, mdata: MuData) -> bool:
        """Whether the data has cells of this modality."""
        return self.modality in mdata.mod and mdata.mod[self.modality].n_obs > 0

    def transfer_field(self, state_registry: dict, adata_target: MuData, **kwargs: Any) -> dict:
        """Check new data against what the model was built for; a missing modality is left out."""
        if not self.is_present(adata_target):
            return dict(state_registry)
        return self.transfer_present(state_registry, adata_target)

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Transfer to data that has the modality."""
        raise NotImplementedError

    def fingerprint(self, mdata: MuData) -> dict[str, Any]:
        """What tells later that the registered values changed."""
        return {FINGERPRINT: fingerprint(self.get_field_data(mdata))}

    def view_state_registry(self, state_registry: dict) -> Table | None:
        """A two-column table of the state."""
        table = Table(title=f"{in_markup(self.registry_key)} State Registry")
        table.add_column("Property")
        table.add_column("Value")
        for name, value in state_registry.items():
            if name == FINGERPRINT:
                continue
            table.add_row(in_markup(name), in_markup(value))
        return table


class MatrixField(ModalityField):
    """A matrix of cells by named variables, in ``X``, a layer or ``obsm``."""

    variables: ClassVar[str] = "variables"
    """Name of the columns in messages."""

    def validate_field(self, adata: MuData) -> None:
        """Check that there is something to read."""
        self.check_slot(adata)
        values = self.get_field_data(adata)
        if values is None or 0 in values.shape:
            raise ValueError(f"{self.where} is empty; expected values of shape (n_cells, n_{self.variables}).")
        if len(values.shape) != 2:
            raise ValueError(
                f"{self.where} has shape {tuple(values.shape)}; expected two axes, (n_cells, n_{self.variables})."
            )
        check_numbers(values, self.where)

    def check_slot(self, adata: MuData) -> None:
        """Require that the layer or slot exists."""
        if self.attr_key is None:
            return
        found = getattr(adata.mod[self.modality], self.attr_name)
        if self.attr_key not in found:
            argument = {"layers": "layer"}.get(self.attr_name, self.attr_name)
            raise KeyError(
                f"{argument}={self.attr_key!r} is not in mdata[{self.modality!r}].{self.attr_name}; it has "
                f"{[key for key in found if key is not None]}. Name the one with the {self.variables}, or leave "
                f"{argument} out if they are in X."
            )

    def names(self, mdata: MuData) -> pd.Index:
        """Names of the columns: those of a table, of the variables of the modality, or numbers after the slot."""
        if self.attr_name != "obsm":
            return mdata.mod[self.modality].var_names
        values = self.get_field_data(mdata)
        columns = values.columns if isinstance(values, pd.DataFrame) else range(values.shape[1])
        prefix = "" if isinstance(values, pd.DataFrame) else f"{self.attr_key}_"
        return pd.Index([f"{prefix}{column}" for column in columns])

    def register_field(self, adata: MuData) -> dict:
        """Record the names of the variables."""
        super().register_field(adata)
        names, cells = self.names(adata), f"mdata[{self.modality!r}]"
        if self.attr_name == "obsm":
            check_different(names, f"columns of {self.where}", f"Rename the columns of {self.where}")
        else:
            check_different(names, f"{self.variables} of {cells}", f"Call {cells}.var_names_make_unique() first")
        shape = {"n_obs": adata.mod[self.modality].n_obs, "n_vars": len(names)}
        return {**shape, "column_names": np.asarray(names), **self.fingerprint(adata)}

    def transfer_present(self, state_registry: dict, mdata: MuData) -> dict:
        """Require the same variables in the same order, except for those that were declared missing."""
        expected = list(state_registry["column_names"])
        self.check_slot(mdata)
        found = list(self.names(mdata))
        if found != expected:
            missing = sorted(set(expected) - set(found))
            if missing and set(missing) <= masked_variables(mdata.mod[self.modality]):
                return self._transfer_by_name(state_registry, mdata)
            if missing:
                reason = f"{len(missing)} {self.variables} of the model are missing, for example {missing[0]!r}"
            elif len(found) != len(expected):
                reason = f"it has {len(found)} {self.variables} where the model has {len(expected)}"
            else:
                reason = f"the {self.variables} are in another order"
            where, advice = f"mdata[{self.modality!r}]", "which selects and orders them by name"
            if missing:
                advice = "which masks them; if they have other names, first rename them"
            fix = f"Call mdata = model.prepare_query_mudata(mdata, model), {advice}"
            if self.attr_name == "obsm":
                where = self.where
                fix = f"Subset and order them as model.get_var_names()[{self.modality!r}] has them"
            raise ValueError(f"the {self.variables} of {where} are not those of the model: {reason}. {fix}.")
        return self.register_field(mdata)

    def _transfer_by_name(self, state_registry: dict, mdata: MuData) -> dict:
        """Find the variables of the model by name; position -1 stands for those that are missing."""
        self.validate_field(mdata)
        positions = self.names(mdata).get_indexer(list(state_registry["column_names"]))
        n_obs = mdata.mod[self.modality].n_obs
        return {**state_registry, "n_obs": n_obs, "positions": positions.tolist(), **self.fingerprint(mdata)}

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of cells and variables."""
        counts = {"cells": state_registry["n_obs"], self.variables: state_registry["n_vars"]}
        return {f"n_{self.modality}_{name}": count for name, count in counts.items()}
