"""Join the tables of one modality, choose the order of its cells, and list the arrays to be stored."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from petri_scvi._checks import check_context_columns
from petri_scvi._constants import CHANNEL_NAMES_KEY, STORE_KEY, UNS_KEY
from petri_scvi.common._channels import stored_channel_names
from petri_scvi.common._numbers import check_numbers
from petri_scvi.common._storable import check_array, check_mapping, check_names, check_table
from petri_scvi.common._warn import warn
from petri_scvi.io.store._arrays import DenseArray, Images, SparseMatrix, StoredArray
from petri_scvi.io.store._channels import choose_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROW_KEY, ORIGIN_KEY = "source_row", "source"


@dataclass
class Modality:
    """One modality of the store."""

    name: str | None
    frame: AnnData
    """Tables of the store, its rows in the order of the store; without large arrays."""
    arrays: list[StoredArray]
    order: NDArray[np.integer]
    """Row of the joined sources that each row of the store comes from."""
    source_starts: NDArray[np.integer]
    """First row of each source among the joined ones."""

    def describe(self) -> list[Any]:
        """What must be equal for an interrupted call to be resumed."""
        names = zlib.crc32("\n".join(self.frame.obs_names).encode())
        return [
            self.name,
            names,
            zlib.crc32(self.order.astype(np.int64).tobytes()),
            [array.describe() for array in self.arrays],
        ]


def join_tables(
    name: str | None,
    tables: Sequence[AnnData],
    origins: Sequence[str],
    are_stores: Sequence[bool],
    *,
    context_key: Sequence[str],
    images_key: str,
    image_channels: Sequence[str | int] | None,
    seed: list[int],
) -> Modality:
    """Join the tables of one modality.

    Raises
    ------
    KeyError
        A context column is missing.
    ValueError
        A context is missing, a file cannot hold a name, column or array, or the tables do not fit together.
    """
    if name is not None:
        check_names([name], "a modality")
    where = "source" if name is None else f"source[{name!r}]"
    places = [where if len(tables) == 1 else f"{where} ({origin})" for origin in origins]
    for table, place, is_store in zip(tables, places, are_stores, strict=True):
        _check_storable(table, place)
        _check_own_columns(table, place, len(tables), is_store=is_store)
        check_context_columns(table.obs, place, context_key)
        if not table.var_names.equals(tables[0].var_names) and _expression(table) is not None:
            raise ValueError(
                f"the var_names of {place} are not those of {places[0]}. Subset and order them first: "
                "second = second[:, first.var_names].copy()."
            )
    obs = _join_obs(tables, origins, where)
    check_table(obs, f"{where}.obs")  # again: a column of files that differ in it may be of several kinds
    order = _order_by_context(obs[list(context_key)], seed)
    channels = {}
    if all(images_key in table.obsm for table in tables):
        channels = {images_key: choose_channels(tables, places, images_key, image_channels)}
    check_mapping(tables[0].uns, f"{places[0]}.uns")  # the others are not stored
    arrays, frames = _list_arrays(name, tables, channels, where, places)
    frame = AnnData(obs=obs.iloc[order], **_describe_columns(tables[0], images_key, channels))
    for key, values in frames.items():
        frame.obsm[key] = values.iloc[order].set_axis(frame.obs_names, axis=0)
    starts = np.cumsum([0, *(table.n_obs for table in tables[:-1])])
    return Modality(name, frame, arrays, order, starts)


def _check_storable(table: AnnData, place: str) -> None:
    """Require cells, and names and columns that files can hold."""
    if not table.n_obs:
        raise ValueError(f"{place} has no cells. Leave it out.")
    check_table(table.obs, f"{place}.obs")
    check_table(table.var, f"{place}.var")
    for slot in ("layers", "obsm", "varm"):
        keys = [key for key in getattr(table, slot) if key is not None]  # from anndata 0.13 on, None is X
        check_names(keys, f"a key of {place}.{slot}")
    for key, array in table.varm.items():
        check_array(array, f"{place}.varm[{key!r}]")


def _check_own_columns(table: AnnData, place: str, n_tables: int, *, is_store: bool) -> None:
    """Require that the store overwrites no column of the user; the rows of a store are counted anew."""
    for column in [ORIGIN_KEY] * (n_tables > 1) + [ROW_KEY] * (not is_store):
        if column in table.obs:
            raise ValueError(
                f"{place}.obs has a column {column!r}, which a training store writes itself. Rename it, for example "
                f"obs.rename(columns={{{column!r}: 'my_{column}'}})."
            )


def _join_obs(tables: Sequence[AnnData], origins: Sequence[str], where: str) -> pd.DataFrame:
    obs = pd.concat([table.obs.assign(**{ROW_KEY: np.arange(table.n_obs)}) for table in tables])
    if len(tables) > 1:
        labels = np.repeat(np.array(origins, dtype=object), [table.n_obs for table in tables])
        obs[ORIGIN_KEY] = pd.Categorical(labels, categories=list(origins))
        if not obs.index.is_unique:
            obs.index = pd.Index(labels + ":" + obs.index.astype(str).to_numpy(dtype=object))
    if not obs.index.is_unique:
        raise ValueError(f"the obs_names of {where} are not unique. Call its obs_names_make_unique() first.")
    return obs


def _describe_columns(table: AnnData, images_key: str, channels: dict[str, list[list[int]]]) -> dict[str, Any]:
    """``var``, ``varm`` and ``uns``, without the channels that are not kept."""
    uns, var, varm = dict(table.uns), table.var, dict(table.varm)
    if UNS_KEY in uns:
        uns[UNS_KEY] = {key: value for key, value in uns[UNS_KEY].items() if key != STORE_KEY}
    if channels:
        positions, n_channels = channels[images_key][0], table.obsm[images_key].shape[1]
        names = stored_channel_names(table)
        if names is not None and len(names) == n_channels:
            uns[CHANNEL_NAMES_KEY] = [names[i] for i in positions]
        if _expression(table) is None and not len(table.layers) and "channels" in var and len(var) == n_channels:
            var = var.iloc[positions]  # scPortrait's var lists the channels
            varm = {key: value[positions] for key, value in varm.items()}
    return {"uns": uns, "var": var.copy(), "varm": varm}


def _order_by_context(columns: pd.DataFrame, seed: list[int]) -> NDArray[np.integer]:
    """Rows sorted by the name of their context, in random order within each."""
    codes = columns.astype(str).groupby(list(columns), sort=True, observed=True).ngroup().to_numpy()
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    return shuffled[np.argsort(codes[shuffled], kind="stable")]


def _list_arrays(
    name: str | None,
    tables: Sequence[AnnData],
    channels: dict[str, list[list[int]]],
    where: str,
    places: Sequence[str],
) -> tuple[list[StoredArray], dict[str, pd.DataFrame]]:
    """Large arrays, to be copied in blocks, and tables of ``obsm``."""
    root = "" if name is None else f"mod/{name}/"
    arrays: list[StoredArray] = []
    frames: dict[str, pd.DataFrame] = {}
    left_out = [key for slot in ("obsp", "varp") for key in getattr(tables[0], slot)]
    left_out += ["raw"] if tables[0].raw is not None else []
    for slot, values in _slots(tables, left_out):
        path = root + slot
        for value, place in zip(values, places, strict=True):
            _check_stored_array(value, f"{place}.{_as_code(slot)}", is_matrix=not slot.startswith("obsm/"))
        if slot not in {f"obsm/{key}" for key in channels}:
            _check_alike(values, slot, where)
        if isinstance(values[0], pd.DataFrame):
            frames[slot.partition("/")[2]] = pd.concat(values)
        elif slot.startswith("obsm/") and slot[5:] in channels:
            arrays.append(Images(path, values, channels[slot[5:]]))
        elif not slot.startswith("obsm/") or _is_sparse(values[0]):
            arrays.append(SparseMatrix(path, values))
        else:
            arrays.append(DenseArray(path, values))
    if left_out:
        warn(
            f"{where}: {', '.join(sorted(set(left_out)))} are not kept: a training store has obs, var, uns, varm, X, "
            "layers and obsm that all sources have."
        )
    return arrays, frames


def _as_code(slot: str) -> str:
    slot, _, key = slot.partition("/")
    return f"{slot}[{key!r}]" if key else slot


def _check_stored_array(value: Any, where: str, *, is_matrix: bool) -> None:
    check_array(value, where)
    if is_matrix or _is_sparse(value):
        check_numbers(value, where, is_expression=True)


def _slots(tables: Sequence[AnnData], left_out: list[str]) -> list[tuple[str, list[Any]]]:
    """Arrays that all tables have."""
    found: list[dict[str, Any]] = []
    for table in tables:
        expression = _expression(table)
        slots = {} if expression is None else {"X": expression}
        slots |= {f"layers/{key}": table.layers[key] for key in table.layers if key is not None}
        found.append(slots | {f"obsm/{key}": value for key, value in table.obsm.items()})
    shared = [slot for slot in found[0] if all(slot in slots for slots in found)]
    left_out += [slot for slots in found for slot in slots if slot not in shared]
    return [(slot, [slots[slot] for slots in found]) for slot in shared]


def _expression(table: AnnData) -> Any:
    """``X``, or ``None``; a backed table without one has an empty dataset there, or fails to find it."""
    try:
        found = table.X
    except KeyError:
        return None
    return None if getattr(found, "shape", None) is None else found


def _check_alike(values: list[Any], slot: str, where: str) -> None:
    """Require rows of one shape and kind from all sources."""
    found = {
        (type(value).__name__, *value.columns)
        if isinstance(value, pd.DataFrame)
        else (*value.shape[1:], str(value.dtype), _is_sparse(value))
        for value in values
    }
    if len(found) > 1:
        raise ValueError(
            f"{slot} of the tables of {where} differs in shape, dtype or kind: {sorted(map(str, found))}. Files of one "
            "screen must have arrays of the same shape, dtype and kind; convert them, or drop what differs."
        )


def _is_sparse(value: Any) -> bool:
    return sparse.issparse(value) or isinstance(value, CSRDataset | CSCDataset)
