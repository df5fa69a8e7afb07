"""Random projection of centred log counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ExpressionModel, read_sparse

from ._pca_expression import _check_counts

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader


class RandomProjection(ExpressionModel):
    """Centred ``log(1 + count)`` times a random matrix: what an encoder has before it learns anything.

    Distances are kept up to a factor near 1 :cite:p:`Johnson1984`. Genes are not scaled, so that those that only
    counting noise moves stay quiet.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    n_components
        Dimensions (D).
    is_normalized
        Whether the registered values are log-normalised already.
    seed
        Seed of the matrix, whose entries are normal with variance 1 / D.

    Raises
    ------
    ValueError
        The expression was not registered, or holds fractions although ``is_normalized`` is ``False``.
    """

    def __init__(self, mdata: MuData, *, n_components: int = 64, is_normalized: bool = False, seed: int = 0) -> None:
        super().__init__(mdata)
        check_sizes(n_components=n_components)
        check_seed(seed)
        self.n_components, self.is_normalized, self.seed = n_components, is_normalized, seed

    @no_epochs
    def train(self) -> None:
        """Draw the matrix, and find the mean of each gene."""
        reader = self._require_modality(self._manager_of(None), self.modality_)
        rng = np.random.default_rng(self.seed)
        n_genes = self._state["n_vars"]
        matrix = rng.normal(scale=1 / np.sqrt(self.n_components), size=(n_genes, self.n_components))
        self.components_ = matrix.astype(np.float32)
        """The matrix, shape ``(n_genes, D)``."""
        total = np.zeros(n_genes)
        for start in range(0, len(reader), self._batch_size):
            rows = np.arange(start, min(start + self._batch_size, len(reader)))
            total += np.asarray(self._levels(reader, rows).sum(axis=0)).ravel()
        self._offset = (total / len(reader)) @ self.components_  # (D,)
        self.is_trained_ = True

    def _levels(self, reader: RowReader, rows: NDArray[np.integer]) -> Any:
        if self.is_normalized:
            return read_sparse(reader, rows)
        _check_counts(reader, rows, self.modality_)
        return read_sparse(reader, rows).log1p()

    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        embedding = np.empty((len(rows), self.n_components), dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            levels = self._levels(reader, rows[start : start + batch_size])
            embedding[start : start + batch_size] = levels @ self.components_ - self._offset
        return embedding
