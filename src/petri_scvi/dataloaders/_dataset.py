"""Reads the rows of documents and returns tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from petri_scvi.dataloaders._row_reader import RowReader
    from petri_scvi.dataloaders._sampler import DocumentRows


class DocumentDataset(Dataset[dict[str, Any]]):
    """Minibatches of documents by their rows.

    Parameters
    ----------
    readers
        Modality to its cells.
    """

    def __init__(self, readers: Mapping[str, RowReader]) -> None:
        self.readers = dict(readers)

    def __getitem__(self, documents: DocumentRows) -> dict[str, Any]:
        """Read a minibatch.

        Returns
        -------
        ``cells``: per modality the raw cells, shape ``(G * S, ...)`` in their own dtype, document by document;
        ``context``: the code of each document, shape ``(G,)``.
        """
        cells = {
            # Integers stay integers: they are a half or a quarter of the bytes to move to the device.
            name: torch.from_numpy(self.readers[name].read(rows.reshape(-1)))
            for name, rows in documents.rows.items()
        }
        return {"cells": cells, "context": torch.from_numpy(documents.context)}
