"""Find the cells of fields in masks, or in a table with their centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi.common._storable import check_table as check_storable
from petri_scvi.common._warn import warn
from petri_scvi.pp.crops._crop_table import check_new_columns, match_cells, require_columns
from petri_scvi.pp.crops._crop_windows import centre_pixels
from petri_scvi.pp.crops._field_planes import mask_of, read_mask
from petri_scvi.pp.crops._label_centres import label_centres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from petri_scvi.pp.crops._crop_windows import Planes

NAME_IT = "Name another one with field_key, label_key, x_key or y_key."


@dataclass
class FieldCells:
    """Cells in the order of their fields."""

    fields: NDArray[np.integer]
    """Position of the field of each cell, ascending."""
    centres: NDArray[np.float64]
    """Row and column in pixels, shape ``(n, 2)``; the first pixel spans 0 to 1."""
    obs: pd.DataFrame
    labels: NDArray[Any] | None
    """Label of each cell in the mask of its field."""


def check_table(table: Any, label_key: str) -> pd.DataFrame:
    """Require a DataFrame that files can hold, without the columns that crops add."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table is a {type(table).__name__}; expected a DataFrame with a row per cell: pandas.DataFrame(...)."
        )
    check_new_columns(list(table.columns), "table", label_key)
    check_storable(table, "table")
    return table


def cells_of_masks(
    masks: Mapping[str, Any], images: Mapping[str, Planes], table: pd.DataFrame | None, field_key: str, label_key: str
) -> FieldCells:
    """Cells of all masks, joined with a table."""
    found = {
        name: label_centres([(0, 0, read_mask(mask, name, images[name].shape))], *mask_of(mask, name))
        for name, mask in masks.items()
    }
    fields = np.repeat(np.arange(len(found)), [len(labels) for labels, _ in found.values()])
    labels = np.concatenate([labels for labels, _ in found.values()])
    centres = np.concatenate([centres for _, centres in found.values()])
    if not len(labels):
        raise ValueError("fields have no cell: all pixels of all masks are 0. Pass masks with labelled cells.")
    names = np.array(list(found), dtype=object)[fields]
    if table is None:
        index = [f"{name}:{label}" for name, label in zip(names, labels, strict=True)]
        return FieldCells(fields, centres, pd.DataFrame({field_key: names}, index=index), labels)
    require_columns(table, [field_key, label_key], "table", NAME_IT)
    cells = pd.MultiIndex.from_arrays([names, labels], names=[field_key, label_key])
    rows = pd.MultiIndex.from_arrays([table[field_key].astype(str), table[label_key]])
    kept, places = match_cells(cells, rows, "fields", "table")
    return FieldCells(fields[kept], centres[kept], table.iloc[places], labels[kept])


def cells_of_table(
    images: Mapping[str, Planes], table: pd.DataFrame, field_key: str, x_key: str, y_key: str
) -> FieldCells:
    """Rows of a table whose field is cut and whose centre is inside it."""
    require_columns(table, [field_key, x_key, y_key], "table", NAME_IT)
    places = pd.Index(list(images)).get_indexer(pd.Index(table[field_key].astype(str)))
    if not (places >= 0).any():
        raise ValueError(
            f"no row of table belongs to a field in fields: table[{field_key!r}] has for example "
            f"{table[field_key].astype(str).unique()[:3].tolist()}, and the fields are for example "
            f"{list(images)[:3]}. Write both the same way, or name another column with field_key."
        )
    rows = np.argsort(places, kind="stable")[int((places < 0).sum()) :]
    fields, obs = places[rows], table.iloc[rows]
    centres = np.column_stack([_numbers(obs, y_key, "y_key"), _numbers(obs, x_key, "x_key")]) + 0.5
    again = pd.DataFrame(centres).assign(field=fields).duplicated()
    if again.any():
        raise ValueError(
            f"table has {int(again.sum())} rows with the field and centre of another row, for example "
            f"{obs.index[np.flatnonzero(again)[0]]!r}. Keep one row per cell."
        )
    shapes = np.array([planes.shape[1:] for planes in images.values()])[fields]
    pixels = centre_pixels(centres)
    is_inside = ((pixels >= 0) & (pixels < shapes)).all(axis=1)
    if not is_inside.any():
        raise ValueError(
            f"no row of table has its centre inside its field: the first is at x={centres[0, 1] - 0.5:g}, "
            f"y={centres[0, 0] - 0.5:g}, and its field has {shapes[0, 1]} x {shapes[0, 0]} pixels (width x height). "
            "Pass the columns with positions in pixels of the field as x_key and y_key."
        )
    n_others, n_outside = len(table) - len(rows), int((~is_inside).sum())
    if n_others or n_outside:
        told = [f"{n_others} of {len(table)} rows of table belong to other fields"] if n_others else []
        told += (
            [f"{n_outside} of {len(table)} rows of table have their centre outside their field"] if n_outside else []
        )
        warn(f"{' and '.join(told)}; they are left out.")
    return FieldCells(fields[is_inside], centres[is_inside], obs[is_inside], None)


def _numbers(obs: pd.DataFrame, key: str, argument: str) -> NDArray[np.float64]:
    values = obs[key]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        raise ValueError(
            f"{argument}={key!r}: the column has dtype {values.dtype}; expected positions in pixels. Convert it: "
            f"table[{key!r}] = pandas.to_numeric(table[{key!r}])."
        )
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    n_missing = int((~np.isfinite(numbers)).sum())
    if n_missing:
        raise ValueError(
            f"{argument}={key!r}: {n_missing} rows of table have no finite number there. Drop them: "
            f"table = table.dropna(subset=[{key!r}])."
        )
    return numbers
