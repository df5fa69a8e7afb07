"""Activations of the dimensions of an embedding: of each cell, and the share of cells that activate each dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from petri_scvi.common import rows_in_mdata
from petri_scvi.common._numbers import check_float32
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, find_slots
from petri_scvi.tl._read_rows import CHUNK_ROWS, canonical, read_rows, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

CHUNK_VALUES = 2**25
"""Numbers in a dense block of activations: 128 MB."""


@dataclass(frozen=True)
class Activations:
    """Activations of one modality.

    ``matrix``, CSC or dense, has a row per cell with finite activations, in the order of ``adata``; ``rows`` gives
    their positions there.
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
        There is no such slot or modality.
    ValueError
        The slot is not a matrix, or a cell has been measured in two modalities.
    """
    check_fitted(data, key)
    if not isinstance(data, MuData):
        modality = None
    return [part for slot in find_slots(data, key, modality=modality) for part in _modalities_of(slot)]


def check_fitted(data: AnnData | MuData, key: str) -> None:
    """Require that some cells have activations."""
    holders = [data, *data.mod.values()] if isinstance(data, MuData) else [data]
    if not any(key in holder.obsm for holder in holders if hasattr(holder, "obsm")):
        raise KeyError(
            f"there are no activations {key!r} in obsm. Fit an autoencoder to the embedding first: "
            f"petri_scvi.tl.fit_sae(data, 'X_petri', key_added={key!r})."
        )


def _modalities_of(slot: Slot) -> Iterator[Activations]:
    array = _in_memory(slot.array)
    check_float32(array.data if sparse.issparse(array) else array, f"obsm[{slot.key!r}]")
    if not isinstance(slot.owner, MuData):
        yield _finite(str(slot.cells[MODALITY].iloc[0]), slot.owner, array)
        return
    for name in pd.unique(slot.cells[MODALITY].dropna()):
        yield _finite(str(name), slot.owner.mod[name], array[rows_in_mdata(slot.owner, name)])


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
        return read_rows(array, slice(None))
    if hasattr(array, "to_memory"):  # backed sparse
        return canonical(array.to_memory().tocsr())
    if sparse.issparse(array):
        return canonical(array.tocsr())
    if hasattr(array, "compute"):
        return array.compute()
    return array[:]


def activations_of(data: AnnData | MuData, key: str, modality: str) -> Activations:
    """Activations of a modality; it must have cells with finite ones."""
    parts = find_activations(data, key, modality)
    if not parts:
        raise ValueError(f"modality={modality!r} has no cells; name another one, or add its cells.")
    check_any_cell(parts[0], key)
    return parts[0]


def check_any_cell(part: Activations, key: str) -> None:
    """Require cells with finite activations."""
    if len(part.rows) == 0:
        raise ValueError(
            f"obsm[{key!r}] is NaN or infinite in all {part.adata.n_obs} cells of modality {part.modality!r}. Compute "
            "it again, or name another modality."
        )


def named_slots(keys: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Map each model to the slot of its activations."""
    if isinstance(keys, Mapping):
        slot_of = dict(keys)
    else:
        slot_of = {key: key for key in ([keys] if isinstance(keys, str) else keys)}
    if not slot_of:
        raise ValueError("keys is empty; name the slots that petri_scvi.tl.fit_sae wrote, for example 'X_sae'")
    return slot_of


def find_codes(
    data: AnnData | MuData, key: str, columns: Sequence[str] = (), *, modality_key: str | None = None
) -> list[Slot]:
    """Activations of a sparse autoencoder, with the modality of each cell.

    Parameters
    ----------
    data
        Cells.
    key
        Slot that :func:`petri_scvi.tl.fit_sae` wrote.
    columns
        ``obs`` columns to align with the rows.
    modality_key
        ``obs`` column that names the modality; only for an AnnData, since a MuData names its modalities.

    Returns
    -------
    Slots; the modality of a cell whose activations are NaN or infinite is missing, so that it is not counted.

    Raises
    ------
    KeyError
        There is no such slot or column.
    ValueError
        The matrix does not hold activations, ``modality_key`` is missing, or it was passed with a MuData.
    """
    check_fitted(data, key)
    if isinstance(data, MuData):
        if modality_key is not None:
            raise ValueError(f"modality_key={modality_key!r} is for an AnnData; a MuData names its modalities itself")
        slots = find_slots(data, key, columns)
    elif modality_key is None:
        raise ValueError(
            "an AnnData does not say which modality a cell is from. Pass the obs column that does as modality_key=..., "
            "or a MuData"
        )
    else:
        slots = find_slots(data, key, [*columns, modality_key])
        for slot in slots:
            slot.cells[MODALITY] = slot.cells[modality_key]
    for slot in slots:
        _leave_out_bad_cells(slot)
    return slots


def activity(slots: Sequence[Slot]) -> tuple[pd.DataFrame, pd.Series]:
    """Share of cells that activate each dimension.

    Returns
    -------
    Shares from 0 to 1, one row per dimension and one column per modality; and the number of cells of each modality.

    Raises
    ------
    ValueError
        There are fewer than two modalities.
    """
    counts: dict[str, Any] = {}
    n_cells: dict[str, int] = {}
    for slot in slots:
        modality = slot.cells[MODALITY].to_numpy()
        for rows, part in sparse_chunks(slot):
            names = modality[rows]
            for name in pd.unique(names[pd.notna(names)]):
                is_here = names == name
                counts[str(name)] = counts.get(str(name), 0) + (part[is_here] > 0).sum(axis=0).A1
                n_cells[str(name)] = n_cells.get(str(name), 0) + int(is_here.sum())
    if len(counts) < 2:
        raise ValueError(
            f"the cells are of {len(counts)} modalities, {list(counts)}; at least two are needed to tell what they "
            "share. Pass the MuData with all its modalities."
        )
    shares = pd.DataFrame({name: counts[name] / n_cells[name] for name in counts})
    return shares, pd.Series(n_cells)


def sparse_chunks(slot: Slot) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """Rows in order, as sparse matrices."""
    for start in range(0, slot.shape[0], CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, slot.shape[0]))
        yield rows, sparse.csr_matrix(take_rows(slot.array, rows))


def is_within(shares: pd.DataFrame, min_activity: float, max_activity: float) -> pd.DataFrame:
    """Which shares lie in the range, its ends included."""
    if not 0 <= min_activity < max_activity <= 1:
        raise ValueError(
            f"min_activity={min_activity!r}, max_activity={max_activity!r} are not accepted; pass shares of cells from "
            "0 to 1, the smaller first, for example 0.1 and 0.9"
        )
    return (shares >= min_activity) & (shares <= max_activity)


def _leave_out_bad_cells(slot: Slot) -> None:
    """Require activations, and remove the modality of cells whose activations are not finite."""
    is_bad = np.zeros(slot.shape[0], dtype=bool)
    for rows, part in sparse_chunks(slot):
        if (part.data < 0).any():
            raise ValueError(
                f"obsm[{slot.key!r}] has negative values, so it holds no activations. Fit an autoencoder to it first: "
                f"petri_scvi.tl.fit_sae(data, {slot.key!r}); its activations are then in obsm['X_sae']."
            )
        is_bad[rows.start + rows_not_finite(part)] = True
    if is_bad.any():
        warn(f"{is_bad.sum()} of {len(is_bad)} cells of obsm[{slot.key!r}] are NaN or infinite; they are left out")
        slot.cells.loc[is_bad, MODALITY] = None
