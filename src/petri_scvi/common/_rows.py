"""Which row of a MuData is which row of a modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray


def rows_in_modality(mdata: MuData, modality: str) -> NDArray[np.intp]:
    """Row of each MuData cell in a modality, from ``mdata.obsmap``.

    Parameters
    ----------
    mdata
        Cells of all modalities.
    modality
        Key of ``mdata.mod``.

    Returns
    -------
    Shape ``(mdata.n_obs,)``; -1 where the modality does not have the cell.

    Raises
    ------
    ValueError
        The modality was changed after the MuData was last updated: rows were added, removed, reordered or renamed.
        ``obsmap`` would then assign values to other cells.
    """
    rows = np.asarray(mdata.obsmap[modality]).ravel().astype(np.intp) - 1  # obsmap counts from 1; 0 is absent
    names = mdata.mod[modality].obs_names
    is_here = rows >= 0
    # The numbers of rows are compared first, because names can be looked up only at rows that exist.
    is_current = (
        len(rows) == mdata.n_obs and int(is_here.sum()) == len(names) and int(rows.max(initial=-1)) < len(names)
    )
    if not (is_current and names[rows[is_here]].equals(mdata.obs_names[is_here])):
        raise ValueError(
            f"mdata[{modality!r}] has other cells, or its cells in another order, than when mdata was last "
            "updated. Call mdata.update() first; if mdata.obsm or mdata.obs then no longer match, build mdata again: "
            "mdata = petri_scvi.pp.build_mudata(**mdata.mod)."
        )
    return rows


def check_is_current(mdata: MuData, modalities: Iterable[str]) -> None:
    """Require that modalities were not changed after the MuData was last updated.

    Raises
    ------
    ValueError
        As :func:`rows_in_modality`.
    """
    for modality in modalities:
        rows_in_modality(mdata, modality)


def rows_in_mdata(mdata: MuData, modality: str) -> NDArray[np.intp]:
    """Row of each cell of a modality in a MuData, shape ``(n_cells,)``; raises as :func:`rows_in_modality`."""
    rows = rows_in_modality(mdata, modality)
    present = np.flatnonzero(rows >= 0)
    return present[np.argsort(rows[present])]


def rows_from_indices(indices: Sequence[int] | NDArray[np.bool_] | None, n_cells: int) -> NDArray[np.intp]:
    """Positions of cells, from what NumPy accepts as an index.

    Parameters
    ----------
    indices
        Positions, where negative ones count from the end, or a boolean mask of all cells; ``None`` is all cells.
    n_cells
        Number of cells there are.

    Raises
    ------
    ValueError
        A mask of another length, positions that are not whole numbers, or positions that do not exist.
    """
    if indices is None:
        return np.arange(n_cells)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise ValueError(f"indices is a boolean mask of shape {rows.shape}; there are {n_cells} cells.")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "ui"):
        raise ValueError(f"indices has shape {rows.shape} and dtype {rows.dtype}; expected a list of whole numbers.")
    rows = rows.astype(np.intp)
    if rows.size and not (-n_cells <= rows.min() and rows.max() < n_cells):
        raise ValueError(f"indices go from {rows.min()} to {rows.max()}; there are {n_cells} cells.")
    return np.where(rows < 0, rows + n_cells, rows)
