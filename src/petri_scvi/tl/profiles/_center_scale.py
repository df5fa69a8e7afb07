"""Center and scale each replicate on its own controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import median_abs_deviation

from petri_scvi._constants import CONTROL
from petri_scvi.common import joined_columns
from petri_scvi.common._labels import column_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, check_files, control_names, find_slots, finite_rows
from petri_scvi.tl._results import data_to_change, one_or_several, write_result

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._embedding import Slot

FLAT = 1e-6
"""A deviation of less than this share of a replicate's median deviation counts as zero."""
BLOCK_COLUMNS = 32


@dataclass(frozen=True)
class Scaler:
    """Center and scale of each replicate; ``replicate`` says which one a row belongs to."""

    replicate: NDArray[np.intp]  # (n_rows,), -1 for rows that are not transformed
    center: NDArray[np.float64]  # (n_replicates, D)
    scale: NDArray[np.float64]
    table: pd.DataFrame

    def __call__(self, chunk: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        """Transform some rows."""
        codes = self.replicate[rows]
        scaled = (chunk - self.center[codes]) / self.scale[codes]
        scaled[codes < 0] = np.nan
        return scaled


def center_scale(
    data: AnnData | MuData,
    key: str = "X_petri",
    *,
    replicate_key: str | Sequence[str] = "replicate",
    target_key: str = "target_gene",
    control: Labels | None = CONTROL,
    key_added: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Subtract the median of each replicate's controls and divide by their median absolute deviation.

    Parameters
    ----------
    data
        Cells. In a MuData each modality is scaled on its own controls.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``: of the MuData for a space that modalities share, else of
        each modality. NumPy, dask, memory-mapped and sparse arrays and data frames are read in chunks.
    replicate_key
        ``obs`` column of the replicate, or several that define it together, for example ``("plate", "well")``.
    target_key
        ``obs`` column with the gene each cell's guide targets.
    control
        Value of ``target_key`` that marks non-targeting controls, or several; compared as text. ``None`` takes
        median and deviation of all cells of each replicate, for data without controls; ``target_key`` is not read then.
    key_added
        Slot to write; ``f"{key}_scaled"`` by default. With ``key_added=key`` a plain NumPy array is overwritten in
        place, which needs no second array.
    folder
        Where to write the result, as ``f"{key_added}.npy"`` with the modality in front if each has its own; it is then
        mapped into memory as ``obsm[key_added]``. If ``None``, the result is an array in memory.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``obsm[key_added]`` beside ``obsm[key]``, in units of the control's deviation, and
    ``uns["petri_scvi"]["center_scale_" + key_added]``: ``table``, one row per modality and replicate with ``modality``,
    ``replicate``, ``n_cells``, ``n_controls`` (with finite values, which the statistics come from) and ``n_floored``,
    and ``parameters``.

    Raises
    ------
    FileExistsError
        ``folder`` has a file of this name.
    KeyError
        A slot or column is missing.
    ValueError
        No cell has a label of ``control``, a replicate has no control, or none with finite values, or cells have no
        replicate.

    Warns
    -----
    UserWarning
        A dimension does not vary among a replicate's controls: its deviation is replaced by the median deviation of
        that replicate's other dimensions. No dimension varies, as with a single control: the replicate is centered, not
        scaled. Or cells have NaN or infinite values: they stay out of the statistics.

    Notes
    -----
    The deviation is scaled by 1.4826, so that it estimates the standard deviation of normal values
    :cite:p:`PETRI2026`.

    Cells are read in chunks of 8,192. Memory holds the controls, of one replicate if the slot is an array in memory or
    mapped, of all if it lies in HDF5 or zarr, and the result, unless that goes to a ``folder``.
    """
    data = data_to_change(data, copy)
    key_added = f"{key}_scaled" if key_added is None else key_added
    replicate_keys = column_list(replicate_key, "replicate_key")
    tables = []
    slots = find_slots(data, key, replicate_keys if control is None else [*replicate_keys, target_key])
    check_files(slots, folder, key_added)
    controls = None if control is None else control_names(slots, target_key, control)
    for slot in slots:
        scaler = fit_scaler(slot, replicate_keys, target_key, controls)
        slot.write(key_added, scaler, folder)
        tables.append(scaler.table)
    parameters: dict[str, Any] = {
        "key": key,
        "replicate_key": replicate_keys,
        "target_key": target_key,
        "control": None if controls is None else one_or_several(controls),
    }
    result = {"table": pd.concat(tables, ignore_index=True)}
    write_result(data, f"center_scale_{key_added}", result, parameters)
    return data if copy else None


def fit_scaler(slot: Slot, replicate_keys: Sequence[str], target_key: str, controls: Sequence[str] | None) -> Scaler:
    """Median and deviation of the controls of each modality and replicate; of all its cells if ``None``."""
    is_cell = slot.cells[MODALITY].notna().to_numpy()
    codes, groups = _replicate_codes(slot.cells, is_cell, list(replicate_keys))
    is_control = is_cell if controls is None else is_cell & slot.cells[target_key].isin(controls).to_numpy()
    n_controls = np.bincount(codes[is_control], minlength=len(groups))
    without = groups[n_controls == 0]
    if len(without):
        raise ValueError(
            f"{len(without)} of {len(groups)} replicates have no control cell: {_names(without)}. Drop their cells, "
            "or choose a coarser replicate_key, for example 'batch'."
        )
    order = np.argsort(codes, kind="stable")
    order = order[is_control[order]]
    center, scale, n_floored, n_finite = _statistics(slot, np.split(order, np.cumsum(n_controls)[:-1]))
    without = groups[n_finite == 0]
    if len(without):
        raise ValueError(
            f"in {len(without)} of {len(groups)} replicates all control cells have NaN or infinite values in "
            f"obsm[{slot.key!r}]: {_names(without)}. Embed or measure more controls, for example by "
            "baselines.ImageFeatures(n_control_cells=None), or choose a coarser replicate_key."
        )
    n_bad = int(n_controls.sum() - n_finite.sum())
    if n_bad:
        warn(f"{n_bad} of {int(is_control.sum())} controls are NaN or infinite; they are left out of the statistics")
    _warn_flat(n_floored, slot.shape[1], groups)
    n_cells = np.bincount(codes[is_cell], minlength=len(groups))
    table = groups.assign(n_cells=n_cells, n_controls=n_finite, n_floored=n_floored)
    return Scaler(codes, center, scale, table)


def _replicate_codes(
    cells: pd.DataFrame, is_cell: NDArray[np.bool_], keys: list[str]
) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Number of each row's replicate, -1 outside the modality, and the replicates by number."""
    n_missing = int(cells.loc[is_cell, keys].isna().any(axis=1).sum())
    if n_missing:
        raise ValueError(
            f"obs[{keys}] is missing for {n_missing} of {int(is_cell.sum())} cells. Drop these cells, or name their "
            "replicate."
        )
    name = joined_columns(cells.loc[is_cell, keys], " | ")
    modality, modalities = pd.factorize(cells.loc[is_cell, MODALITY], sort=True)
    replicate, replicates = pd.factorize(name, sort=True)
    present, place = np.unique(modality * len(replicates) + replicate, return_inverse=True)
    codes = np.full(len(cells), -1, dtype=np.intp)
    codes[is_cell] = place
    groups = {
        "modality": np.asarray(modalities)[present // len(replicates)],
        "replicate": np.asarray(replicates)[present % len(replicates)],
    }
    return codes, pd.DataFrame(groups)


def _warn_flat(n_floored: NDArray[np.intp], n_dims: int, groups: pd.DataFrame) -> None:
    is_flat = n_floored == n_dims
    some = n_floored[~is_flat]
    if some.any():
        warn(
            f"{int(some.sum())} dimensions of {int((some > 0).sum())} of {len(groups)} replicates do not vary among "
            "the controls; they are divided by the replicate's median deviation instead"
        )
    if is_flat.any():
        warn(
            f"the controls of {int(is_flat.sum())} of {len(groups)} replicates do not vary in any dimension: "
            f"{_names(groups[is_flat])}. These replicates are centered, not scaled; a coarser replicate_key gives them "
            "more controls."
        )


def _names(groups: pd.DataFrame) -> list[str]:
    """Some replicates, for a message."""
    return [f"{m}/{r}" for m, r in zip(groups["modality"], groups["replicate"], strict=True)][:10]


def _statistics(
    slot: Slot, rows_of: list[NDArray[np.intp]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Center, scale, number of floored dimensions and number of finite controls of each replicate."""
    n_groups, n_dims = len(rows_of), slot.shape[1]
    center, scale = np.empty((n_groups, n_dims)), np.empty((n_groups, n_dims))
    n_finite = np.zeros(n_groups, dtype=np.intp)
    n_floored = np.zeros(n_groups, dtype=np.intp)
    # One pass through arrays on disk; plain arrays are read one replicate at a time to save memory.
    controls = None if isinstance(slot.array, np.ndarray) else slot.take(np.concatenate(rows_of))
    start = 0
    for i, rows in enumerate(rows_of):
        values = slot.take(rows) if controls is None else controls[start : start + len(rows)]
        start += len(rows)
        is_finite = finite_rows(values)
        values = values if is_finite.all() else values[is_finite]
        n_finite[i] = len(values)
        if len(values) == 0:
            continue
        for first in range(0, n_dims, BLOCK_COLUMNS):
            block = slice(first, first + BLOCK_COLUMNS)
            part = values[:, block].astype(np.float64)
            center[i, block] = np.median(part, axis=0)
            scale[i, block] = median_abs_deviation(part, axis=0, scale="normal")
        typical = float(np.median(scale[i][scale[i] > 0])) if (scale[i] > 0).any() else 1.0
        is_flat = scale[i] <= FLAT * typical
        scale[i, is_flat] = typical
        n_floored[i] = is_flat.sum()
    return center, scale, n_floored, n_finite
