"""Which share of the cells of each modality activates each dimension of a sparse code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from ._dimensions import check_fitted, rows_not_finite
from ._embedding import CHUNK_ROWS, find_slots, take_rows
from ._results import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._embedding import Slot


def named_slots(keys: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Model to the slot of its activations."""
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
    Slots; the modality of a cell whose activations are NaN or infinite is missing, so that nothing counts it.

    Raises
    ------
    KeyError
        There is no such slot or column.
    ValueError
        The matrix is not one of activations, or ``modality_key`` is missing or not wanted.
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
            slot.cells["modality"] = slot.cells[modality_key].map(str, na_action="ignore")
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
        modality = slot.cells["modality"].to_numpy()
        for start in range(0, slot.shape[0], CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, slot.shape[0]))
            part, names = sparse.csr_matrix(take_rows(slot.array, rows)), modality[rows]
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


def is_within(shares: pd.DataFrame, min_activity: float, max_activity: float) -> pd.DataFrame:
    """Which shares lie in the range, its ends included."""
    if not 0 <= min_activity < max_activity <= 1:
        raise ValueError(
            f"min_activity={min_activity!r}, max_activity={max_activity!r} are not accepted; pass shares of cells from "
            "0 to 1, the smaller first, for example 0.1 and 0.9"
        )
    return (shares >= min_activity) & (shares <= max_activity)


def _leave_out_bad_cells(slot: Slot) -> None:
    """Require activations, and take the modality from cells that have none."""
    is_bad = np.zeros(slot.shape[0], dtype=bool)
    for start in range(0, slot.shape[0], CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, slot.shape[0]))
        part = sparse.csr_matrix(take_rows(slot.array, rows))
        if (part.data < 0).any():
            raise ValueError(
                f"obsm[{slot.key!r}] has negative values, so it holds no activations. Fit an autoencoder to it first: "
                f"petri_scvi.tl.fit_sae(data, {slot.key!r}); its activations are then in obsm['X_sae']."
            )
        is_bad[start + rows_not_finite(part)] = True
    if is_bad.any():
        warn(f"{is_bad.sum()} of {len(is_bad)} cells of obsm[{slot.key!r}] are NaN or infinite; they are left out")
        slot.cells.loc[is_bad, "modality"] = None
