"""Managers of scvi-tools that do not keep the data alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from scvi.data import AnnDataManager

from petri_scvi._compat import FIELD_REGISTRIES_KEY, MANAGER_UUID_KEY, STATE_REGISTRY_KEY
from petri_scvi.model.setup._context_field import ContextField

if TYPE_CHECKING:
    from mudata import MuData


class DataManager(AnnDataManager):
    """A manager that refers to its data weakly.

    scvi-tools keeps every manager, and with it the data, until the process ends. Here the data is kept alive only by
    the user, or by the model that was built with it.
    """

    _data: weakref.ref[MuData] | None = None

    @property
    def adata(self) -> Any:
        """The data; ``None`` before it is registered and after it was deleted."""
        return None if self._data is None else self._data()

    @adata.setter
    def adata(self, adata: MuData | None) -> None:
        self._data = None if adata is None else weakref.ref(adata)

    def validate(self) -> None:
        """Write the codes of the contexts again if the data was set up for another model since.

        scvi-tools would check all values again. Changed values are detected by their fingerprint.
        """
        adata = self.adata
        if adata.uns[MANAGER_UUID_KEY] == self.id:
            return
        for field in self.fields:
            if isinstance(field, ContextField):
                field.transfer_field(self.registry[FIELD_REGISTRIES_KEY][field.registry_key][STATE_REGISTRY_KEY], adata)
        adata.uns[MANAGER_UUID_KEY] = self.id

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle, which does not support weak references."""
        return {**vars(self), "_data": self.adata}

    def __setstate__(self, state: dict[str, Any]) -> None:
        data = state.pop("_data")
        self.__dict__.update(state)
        self.adata = data
