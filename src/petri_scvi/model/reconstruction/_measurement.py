"""Measured cells, in the form in which the model reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi.common import rows_from_indices
from petri_scvi.model.setup._context_field import context_codes
from petri_scvi.model.setup._registered import RegisteredData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray


class MeasurementMixin(RegisteredData):
    """Cells and contexts of registered data, to be compared with predictions of the model."""

    def get_measurement(
        self, mdata: MuData | None = None, *, modality: str, indices: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Read cells as the model reads them, to be compared with :meth:`get_reconstruction`.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        modality
            Modality to read.
        indices
            Rows of ``mdata[modality]``; all if ``None``.

        Returns
        -------
        Images ``(n, C, H, W)`` of the registered channels, or expression ``(n, n_genes)``, dense, as stored. The names
        of channels and genes are those of :meth:`get_var_names`.

        Raises
        ------
        ValueError
            The model or the data does not have the modality.
        """
        reader = self._require_modality(self._manager_of(mdata), modality)
        return reader.read(rows_from_indices(indices, len(reader)))

    def get_contexts(self, mdata: MuData | None = None, *, modality: str) -> NDArray[np.str_]:
        """Context of each cell of a modality.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        modality
            Modality whose cells are asked for.

        Returns
        -------
        Contexts, shape ``(n,)``: the values of ``context_key``, joined by ``" | "`` if it names several columns.

        Raises
        ------
        ValueError
            The model or the data does not have the modality.
        """
        manager = self._manager_of(mdata)
        self._require_modality(manager, modality)
        known = np.asarray(manager.get_state_registry(f"context_{modality}")["categories"], dtype=np.str_)
        return known[context_codes(manager, modality)]

    def get_held_out_rows(self, mdata: MuData | None = None, *, modality: str) -> NDArray[np.integer]:
        """Rows of a modality that the model may be scored on.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        modality
            Modality whose cells are asked for.

        Returns
        -------
        Validation cells of the model's own data, if there are any; otherwise all cells.

        Raises
        ------
        ValueError
            The model or the data does not have the modality.
        """
        manager = self._manager_of(mdata)
        n_cells = len(self._require_modality(manager, modality))
        held_out = (self.validation_indices if self._is_own(manager) else None) or {}
        rows = np.asarray(held_out.get(modality, ()), dtype=np.int64)
        return rows if len(rows) else np.arange(n_cells)
