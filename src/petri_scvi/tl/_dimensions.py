"""Activations of the dimensions of an embedding, cell by cell of each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from ._embedding import find_slots, rows_of_modality
from ._results import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from ._embedding import Slot

CHUNK_VALUES = 2**25
"""Numbers in a dense block of activations: 128 MB."""


@dataclass(frozen=True)
class Activations:
    """Activations of one modality.

    ``matrix``, CSC or dense, has a row per cell with finite activations, in the order of ``adata``, where ``rows`` says
    which they are.
    """

    modality: str
    adata: AnnData
    rows: NDArray[np.intp]
    matrix: Any

    @property
    def n_dimensions(self) -> int:
        """Dimensions of the embedding."""
        return int(self.matrix.shape[1])

    def n_active(self) -> NDArray[np.intp]:
        """Cells with a positive activation, per dimension."""
        return np.asarray((self.matrix > 0).sum(axis=0), dtype=np.intp).ravel()

    def n_nonzero(self) -> NDArray[np.intp]:
        """Cells with an activation other than zero, per dimension."""
        return np.asarray((self.matrix != 0).sum(axis=0), dtype=np.intp).ravel()

    def sums(self, codes: NDArray[np.intp], n_groups: int) -> NDArray[np.float64]:
        """Sum of the activations of each group of cells, shape ``(n_groups, D)``; -1 is no group."""
        return group_sums(self.matrix, codes, n_groups)

    def blocks(
        self, dimensions: NDArray[np.intp], rows: NDArray[np.intp] | slice = slice(None)
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Some dimensions at a time, with their activations in the chosen rows, dense, shape ``(n_rows, d)``."""
        chosen = self.matrix[rows]
        for part in self.parts(dimensions):
            block = chosen[:, part]
            yield part, np.array(block.toarray() if sparse.issparse(block) else block, dtype=np.float32)

    def parts(self, dimensions: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """As many dimensions at a time as make a dense block of at most ``CHUNK_VALUES``."""
        step = max(1, CHUNK_VALUES // max(1, len(self.rows)))
        return [dimensions[start : start + step] for start in range(0, len(dimensions), step)]


def group_sums(matrix: Any, codes: NDArray[np.intp], n_groups: int) -> NDArray[np.float64]:
    """Sum of the rows of each group, shape ``(n_groups, D)``; -1 is no group."""
    is_used = np.flatnonzero(codes >= 0)
    ones = np.ones(len(is_used), dtype=np.float32)
    indicator = sparse.csr_matrix((ones, (codes[is_used], is_used)), shape=(n_groups, len(codes)))
    found = indicator @ matrix
    return np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float64)


def find_activations(data: AnnData | MuData, key: str, modality: str | None = None) -> list[Activations]:
    """Activations of each modality, or of one of them.

    Parameters
    ----------
    data
        Cells; of an AnnData, ``modality`` is ignored.
    key
        ``obsm`` slot of the MuData or of its modalities, sparse or dense.
    modality
        Leave out the cells of every other modality.

    Raises
    ------
    KeyError
        No such slot or modality.
    ValueError
        The slot is not a matrix, or a cell has been measured in two modalities.
    """
    check_fitted(data, key)
    if not isinstance(data, MuData):
        modality = None
    return [part for slot in find_slots(data, key, modality=modality) for part in _modalities_of(slot)]


def check_fitted(data: AnnData | MuData, key: str) -> None:
    """Require activations somewhere in the cells."""
    holders = [data, *data.mod.values()] if isinstance(data, MuData) else [data]
    if not any(key in holder.obsm for holder in holders if hasattr(holder, "obsm")):
        raise KeyError(
            f"there are no activations {key!r} in obsm. Fit an autoencoder to the embedding first: "
            f"petri_scvi.tl.fit_sae(data, 'X_petri', key_added={key!r})."
        )


def _modalities_of(slot: Slot) -> Iterator[Activations]:
    array = _in_memory(slot.array)
    if not isinstance(slot.owner, MuData):
        yield _finite(str(slot.cells["modality"].iloc[0]), slot.owner, array)
        return
    for name in pd.unique(slot.cells["modality"].dropna()):
        yield _finite(str(name), slot.owner.mod[name], array[rows_of_modality(slot.owner, name)])


def _finite(modality: str, adata: AnnData, matrix: Any) -> Activations:
    """Leave out cells whose activations are not all finite."""
    if sparse.issparse(matrix):
        matrix = matrix.tocsr()
        bad = rows_not_finite(matrix)
    else:
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    rows = np.setdiff1d(np.arange(adata.n_obs), bad)
    if len(bad):
        warn(f"{len(bad)} of {adata.n_obs} cells of {modality!r} are NaN or infinite; they are left out")
        matrix = matrix[rows]
    return Activations(modality, adata, rows, matrix.tocsc() if sparse.issparse(matrix) else matrix)


def rows_not_finite(matrix: sparse.csr_matrix) -> NDArray[np.intp]:
    """Rows with a stored value that is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    return np.unique(np.searchsorted(matrix.indptr, bad, side="right") - 1)


def _in_memory(array: Any) -> Any:
    if isinstance(array, pd.DataFrame):
        return array.to_numpy()
    if hasattr(array, "to_memory"):  # backed sparse
        return array.to_memory().tocsr()
    if sparse.issparse(array):
        return array.tocsr()
    if hasattr(array, "compute"):
        return array.compute()
    return array[:]
