"""Access to the data that a model was given."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import numpy as np
import pandas as pd

from petri_scvi._checks import check_is_mudata
from petri_scvi._compat import (
    FIELD_REGISTRIES_KEY,
    SCVI_UUID_KEY,
    SETUP_ARGS_KEY,
    STATE_REGISTRY_KEY,
    forget_data,
    forget_with_data,
    forget_with_model,
    known_manager,
)
from petri_scvi.common import check_is_current
from petri_scvi.modalities import FINGERPRINT, MODALITIES, difference, fingerprint
from petri_scvi.model.setup._context_field import context_codes, has_other_labels
from petri_scvi.model.setup._places import registered_modalities
from petri_scvi.model.setup._saved_registry import SavedRegistry

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi._module import PETRIModule
    from petri_scvi.dataloaders import RowReader
    from petri_scvi.modalities import Modality


class RegisteredData(SavedRegistry):
    """Access to registered modalities; the base of the parts of :class:`petri_scvi.PETRI`."""

    module: PETRIModule
    n_cells_per_context_: int
    _modality_classes: ClassVar[tuple[type[Modality], ...]] = MODALITIES
    """Kinds of modality that the model reads."""
    _masks_missing: ClassVar[bool] = True
    """Whether the model can do without variables that were not measured in other data."""

    @classmethod
    def register_manager(cls, adata_manager: AnnDataManager) -> None:
        """Keep the registration of data until the data is deleted."""
        super().register_manager(adata_manager)
        forget_with_data(cls, adata_manager)

    def _register_manager_for_instance(self, adata_manager: AnnDataManager) -> None:
        super()._register_manager_for_instance(adata_manager)
        forget_with_data(self, adata_manager)
        forget_with_model(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was pickled; scvi-tools finds the data of a model by the model's identifier."""
        self.__dict__.update(state)
        self.id = str(uuid4())
        if self.adata_manager is not None:
            self._register_manager_for_instance(self.adata_manager)

    def _registered_modalities(self) -> dict[str, tuple[type[Modality], str]]:
        """Modality to its class and the name of its field."""
        return registered_modalities(self._modality_classes, self.registry_)

    def _modality_states(self) -> dict[str, tuple[type[Modality], dict[str, Any]]]:
        """Modality to its class and what its field recorded."""
        fields = self.registry_[FIELD_REGISTRIES_KEY]
        return {
            modality: (modality_class, fields[field][STATE_REGISTRY_KEY])
            for modality, (modality_class, field) in self._registered_modalities().items()
        }

    def _readers(self, manager: AnnDataManager) -> dict[str, RowReader]:
        """Readers of the modalities that the data has cells of."""
        readers = {}
        for modality, (modality_class, field) in self._registered_modalities().items():
            if modality in manager.adata.mod and manager.adata.mod[modality].n_obs > 0:
                cells, state = manager.get_from_registry(field), manager.get_state_registry(field)
                readers[modality] = modality_class.open_cells(cells, state)
                if min(state.get("positions", ()), default=0) < 0:
                    self._mask_missing(modality, modality_class)
        return readers

    def _mask_missing(self, modality: str, modality_class: type[Modality]) -> None:
        """Look for values that were not measured from now on."""
        if not (self._masks_missing and modality_class.masks_missing):
            raise ValueError(
                f"mdata[{modality!r}] lacks variables that {type(self).__name__} was trained on, and it cannot mask "
                f"them. Train it on the variables that both screens have: {type(self).__name__}.setup_mudata(mdata)."
            )
        self.module.modality(modality).lacks_values = True

    def _numbered_cells(self, manager: AnnDataManager) -> dict[str, NDArray[np.integer]] | None:
        """Number of the cell of each row, by modality, if partners are hidden."""
        if not self.registry_[SETUP_ARGS_KEY].get("hide_partners"):
            return None
        names = {name: manager.adata.mod[name].obs_names for name in self._readers(manager)}
        numbers = pd.factorize(np.concatenate(list(names.values())))[0]
        parts = np.split(numbers, np.cumsum([len(found) for found in names.values()])[:-1])
        return dict(zip(names, parts, strict=True))

    def _codes(self, manager: AnnDataManager) -> dict[str, NDArray[np.integer]]:
        """Context codes of the cells of each modality that the data has."""
        return {modality: context_codes(manager, modality) for modality in self._readers(manager)}

    def _manager_of(self, mdata: MuData | None) -> AnnDataManager:
        """Manager of data that the model computes with; of its own if ``None``."""
        if mdata is None:
            self._require_data()
        has_data = self.adata is not None
        manager = self._attach(self.adata if mdata is None else mdata)
        if not has_data:
            # scvi-tools treats the first data that is passed to such a model as its training data.
            self._adata = self._adata_manager = None
        return manager

    def _attach(self, mdata: MuData) -> AnnDataManager:
        """Check data, and make it that of the model if the model has none."""
        check_is_mudata(mdata)
        check_is_current(mdata, [name for name in self._modality_states() if name in mdata.mod])
        is_own = mdata is self.adata
        if not is_own:
            known = known_manager(self, mdata)
            is_copy = known is not None and known.adata is not mdata
            if known is not None and not is_copy:
                known.validate()
            if known is None or is_copy or self._changed_values(known) or self._changed_labels(known):
                # All checks come before the first write: data that is refused stays as it was.
                self._check_modalities(mdata)
                self._check_cells(mdata)
                if not is_copy:  # changed data is registered again
                    forget_data(self, mdata)
                elif self.adata is None and not mdata.is_view:
                    mdata.uns[SCVI_UUID_KEY] = str(uuid4())
        mdata = self._validate_anndata(mdata)
        manager = self.get_anndata_manager(mdata, required=True)
        if is_own and (changed := self._changed_values(manager)):
            raise ValueError(changed)
        return manager

    def _changed_values(self, manager: AnnDataManager) -> str:
        """Describe what has changed since registration, and the fix; empty if nothing has."""
        for modality, (_, cells_field) in self._registered_modalities().items():
            if modality not in manager.adata.mod or manager.adata.mod[modality].n_obs == 0:
                continue
            for field in (cells_field, f"context_{modality}"):
                known = manager.get_state_registry(field).get(FINGERPRINT)  # models of other data may have none
                try:
                    changed = known and difference(known, fingerprint(manager.get_from_registry(field)))
                except KeyError:
                    changed = "it is missing"
                if not changed:
                    continue
                place = manager.data_registry[field]
                cells = f"mdata[{modality!r}]"
                where = f"{cells}.{place['attr_name']}"
                where += "" if place["attr_key"] is None else f"[{place['attr_key']!r}]"
                is_matrix = place["attr_name"] in ("X", "layers")
                layer = (
                    "To keep raw counts beside normalised ones, register a layer that is never changed: "
                    f"{cells}.layers['counts'] = {cells}.X.copy(), then {type(self).__name__}.setup_mudata(mdata) and "
                    "a new model. "
                )
                return (
                    f"{where} has changed since it was registered: {changed}. Put the registered values back. "
                    f"{layer if is_matrix else ''}Other cells, or cells in another order, are other data: pass "
                    "mdata.copy()."
                )
        return ""

    def _changed_labels(self, manager: AnnDataManager) -> bool:
        return any(has_other_labels(manager, name) for name in self._readers(manager))

    def _require_data(self) -> None:
        if self.adata is None:
            name = type(self).__name__
            raise ValueError(f"the model was loaded without data; pass a MuData, or {name}.load(folder, mdata).")

    def _is_own(self, manager: AnnDataManager) -> bool:
        """Whether this is the data whose split into training and validation cells the model knows.

        Raises
        ------
        ValueError
            It replaces the training data, and its cells have other names or another order.
        """
        if manager is not self.adata_manager:
            return False
        known = getattr(self, "split_names_", {})
        changed = [name for name, found in names_of_cells(manager.adata).items() if known.get(name, found) != found]
        if changed:
            raise ValueError(
                f"the cells of mdata[{changed[0]!r}] are not those that the model was trained on, or are in another "
                "order, so it is not known which of them were held out. Load the model with its training data, "
                f"{type(self).__name__}.load(folder, mdata), or without data, {type(self).__name__}.load(folder, "
                "adata=False), and pass these cells as other data: model.get_reconstruction_error(mdata)."
            )
        return True

    def _require_modality(self, manager: AnnDataManager, modality: str) -> RowReader:
        readers = self._readers(manager)
        if modality not in readers:
            raise ValueError(
                f"modality={modality!r}; the model knows {list(self._modality_states())}, of which the data has "
                f"{list(readers)}."
            )
        return readers[modality]

    def _check_modalities(self, mdata: MuData) -> None:
        known = list(self._modality_states())
        if not any(name in mdata.mod and mdata.mod[name].n_obs for name in known):
            raise ValueError(
                f"mdata has the modalities {list(mdata.mod)}; the model knows {known}. Use "
                "the same names: mdata = petri_scvi.pp.build_mudata(image=..., rna=...)."
            )

    def _check_cells(self, mdata: MuData) -> None:
        """Require cells that suit the model; what is missing is left to the fields."""
        for modality, (_, field) in self._registered_modalities().items():
            if modality in mdata.mod:
                place = self.registry_[FIELD_REGISTRIES_KEY][field]["data_registry"]
                cells = getattr(mdata.mod[modality], place["attr_name"])
                cells = cells if place["attr_key"] is None else cells.get(place["attr_key"])
                if cells is not None:
                    self._check_modality(modality, cells)

    def _check_modality(self, modality: str, cells: Any) -> None:
        """Require cells that the loss of a modality is made for."""
        self.module.modality(modality).check_cells(cells, modality)


def names_of_cells(mdata: MuData) -> dict[str, int]:
    """Checksum of the names of the cells of each modality, in order."""
    return {name: zlib.crc32("\0".join(adata.obs_names).encode()) for name, adata in mdata.mod.items()}
