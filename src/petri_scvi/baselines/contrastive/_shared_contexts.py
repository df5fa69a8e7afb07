"""Minibatches of contexts that every modality has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.dataloaders import DocumentDataModule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from petri_scvi.dataloaders import RowReader

    RowsOf = dict[str, dict[int, NDArray[Any]]]


class SharedContextDataModule(DocumentDataModule):
    """Documents of the contexts that were measured in every modality; others have nothing to be compared with.

    Parameters
    ----------
    readers, codes, kwargs
        As in :class:`petri_scvi.dataloaders.DocumentDataModule`.

    Raises
    ------
    ValueError
        Fewer than two contexts per minibatch, or in the data.
    """

    def __init__(self, readers: Mapping[str, RowReader], codes: Mapping[str, NDArray[Any]], **kwargs: Any) -> None:
        super().__init__(readers, codes, **kwargs)
        if self.n_contexts_per_minibatch < 2:
            raise ValueError(
                f"n_contexts_per_minibatch={self.n_contexts_per_minibatch}; contrastive learning compares contexts, "
                "so a minibatch needs at least 2. More are better: try n_contexts_per_minibatch=64."
            )
        self._train_rows = _shared_only(self._train_rows)
        self._val_rows = _shared_only(self._val_rows)
        n_shared = len(next(iter(self._train_rows.values())))
        if n_shared < 2:
            raise ValueError(
                f"the modalities share {n_shared} context; contrastive learning compares contexts, so it needs at "
                "least 2. Name a column with more values: setup_mudata(mdata, context_key='perturbation')."
            )
        if len(next(iter(self._val_rows.values()))) < 2:  # nothing to distinguish, so no loss
            self._val_rows = {name: {} for name in self._val_rows}
        self.n_train, self.n_val = (
            sum(len(rows) for of_context in part.values() for rows in of_context.values())
            for part in (self._train_rows, self._val_rows)
        )


def _shared_only(rows_of: RowsOf) -> RowsOf:
    """Drop contexts that not all modalities have."""
    shared = set.intersection(*(set(rows) for rows in rows_of.values()))
    return {
        name: {context: found for context, found in rows.items() if context in shared} for name, rows in rows_of.items()
    }
