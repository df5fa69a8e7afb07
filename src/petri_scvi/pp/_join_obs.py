"""Copy ``obs`` columns of the modalities to the ``obs`` of the MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from petri_scvi._checks import check_is_mudata
from petri_scvi._constants import CONTEXT_KEY
from petri_scvi.common import joined_labels, rows_in_modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

SEPARATOR = "+"


def join_obs(mdata: MuData, columns: str | Sequence[str] = (CONTEXT_KEY,), *, modality_key: str = "modality") -> None:
    r"""Copy ``obs`` columns of the modalities to ``mdata.obs``, where plots of all cells look for them.

    :func:`build_mudata` leaves the columns in their modalities, which is all that PETRI and ``petri_scvi.tl`` need.
    The copies are not updated when a modality changes; call this function again.

    Parameters
    ----------
    mdata
        Cells of one or more modalities.
    columns
        ``obs`` columns of the modalities to copy. An empty list writes only ``modality_key``.
    modality_key
        Column to which the modality of each cell is written.

    Returns
    -------
    ``None``. Writes to ``mdata.obs``, replacing columns of the same name:

    - each of ``columns``. Text and categories become categorical, numbers and dates keep their type, and so do booleans
      unless some cells have no value. Cells whose modalities lack the column have a missing value.
    - ``modality_key``, categorical: the modality of each cell, or its modalities joined with ``"+"``. A ``+`` in the
      name of a modality is written ``\+``.

    Raises
    ------
    KeyError
        No modality has one of the columns.
    TypeError
        ``mdata`` is not a MuData.
    ValueError
        A cell has different values in several modalities, ``modality_key`` is one of ``columns``, ``mdata`` is a view,
        or a modality was changed without calling ``mdata.update()``.

    Examples
    --------
    >>> petri_scvi.pp.join_obs(mdata, ["perturbation", "batch"])
    >>> scanpy.pl.umap(mdata, color=["modality", "perturbation", "batch"])
    """
    check_is_mudata(mdata)
    if mdata.is_view:  # writing the first column would turn it into a copy with its rows in another order
        raise ValueError("mdata is a view. Copy it first: mdata = mdata.copy().")
    columns = [columns] if isinstance(columns, str) else list(columns)
    if modality_key in columns:
        raise ValueError(f"modality_key={modality_key!r} is one of columns={columns}. Choose another modality_key.")
    for column in columns:
        if not any(column in adata.obs for adata in mdata.mod.values()):
            found = {name: list(adata.obs.columns) for name, adata in mdata.mod.items()}
            raise KeyError(f"no modality has the obs column {column!r}; they have {found}. Pass some of these columns.")
    places = {name: rows_in_modality(mdata, name) for name in mdata.mod}
    # All columns are joined before the first is written, so that an error leaves obs unchanged.
    joined = {column: _joined(mdata, column, places) for column in columns}
    joined[modality_key] = _modalities(places, mdata.n_obs)
    for column, values in joined.items():
        mdata.obs[column] = values.array


def _joined(mdata: MuData, column: str, places: dict[str, NDArray[np.intp]]) -> pd.Series:
    """Values of a column, indexed by the position of the cell in the MuData."""
    parts = []
    for name, place in places.items():
        obs = mdata.mod[name].obs
        if column in obs:
            rows = np.flatnonzero(place >= 0)
            parts.append(obs[column].infer_objects().iloc[place[rows]].set_axis(rows).dropna())
    # Parts without values are left out: their dtype would change that of the joined column.
    parts = [part for part in parts if len(part)] or parts[:1]
    values = pd.concat(parts)
    # pandas joins different numeric categories to plain numbers; a column that was categorical stays categorical.
    is_category = any(isinstance(part.dtype, pd.CategoricalDtype) for part in parts)
    if not (isinstance(values.dtype, pd.CategoricalDtype) or (_is_number_or_date(values) and not is_category)):
        values = values.astype(object)
        if infer_dtype(values).startswith("mixed"):
            values = values.astype(str)
    is_repeated = values.index.duplicated(keep=False)
    if is_repeated.any():
        _check_agreement(values[is_repeated], column, mdata.obs_names)
        values = values[~values.index.duplicated()]
    # Booleans cannot be missing, and scanpy does not plot pandas' nullable booleans.
    is_plain = isinstance(values.dtype, pd.CategoricalDtype) or _is_number_or_date(values)
    if not is_plain or (is_bool_dtype(values.dtype) and len(values) < mdata.n_obs):
        values = values.astype("category")
    return values.reindex(range(mdata.n_obs))


def _is_number_or_date(values: pd.Series) -> bool:
    return is_numeric_dtype(values.dtype) or is_datetime64_any_dtype(values.dtype)


def _check_agreement(values: pd.Series, column: str, names: pd.Index) -> None:
    """Require the values of each repeated cell to agree."""
    n_values = values.groupby(level=0, observed=True).nunique()
    different = n_values.index[n_values > 1]
    if len(different):
        example: list[Any] = values.loc[different[0]].tolist()
        raise ValueError(
            f"{len(different)} cells have different values of {column!r} in their modalities, for example "
            f"{names[different[0]]!r}: {example}. Correct the values, or rename the column in one of the modalities."
        )


def _modalities(places: dict[str, NDArray[np.intp]], n_cells: int) -> pd.Series:
    """Modality of each cell; the names of several modalities are joined."""
    names = np.full(n_cells, "", dtype=object)
    labels = dict(zip(places, joined_labels([list(places)], SEPARATOR), strict=True))
    for name, place in places.items():
        is_here = place >= 0
        names[is_here] = [f"{before}{SEPARATOR}{labels[name]}" if before else labels[name] for before in names[is_here]]
    found = set(names)
    several = sorted(found - set(labels.values()) - {""})
    return pd.Series(pd.Categorical(names, categories=[label for label in labels.values() if label in found] + several))
