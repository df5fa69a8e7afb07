"""Which cells a page shows, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from petri_scvi.common import joined_labels, rows_in_modality
from petri_scvi.common._labels import as_text, read_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL = "cells"
"""What the cells of an AnnData are called, which does not name its modality."""
SEPARATOR = "+"


@dataclass(frozen=True)
class Cells:
    """Cells in the order of the page.

    ``rows`` has the row of each cell in each modality, -1 where it was not measured, and ``places`` its row in a slot
    of the MuData. ``kind`` numbers ``kinds``, the modality of a cell or several joined by ``"+"``.
    """

    data: AnnData | MuData
    parts: dict[str, AnnData]
    names: NDArray[np.str_]  # (n,)
    rows: dict[str, NDArray[np.intp]]  # modality: (n,)
    places: NDArray[np.intp]  # (n,)
    kinds: list[str]
    kind: NDArray[np.intp]  # (n,)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: NDArray[np.intp]) -> Cells:
        """Some of the cells."""
        return replace(
            self,
            names=self.names[chosen],
            rows={name: rows[chosen] for name, rows in self.rows.items()},
            places=self.places[chosen],
            kind=self.kind[chosen],
        )

    def measured(self, modality: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Cells of a modality, as positions on the page and as rows of its table."""
        here = np.flatnonzero(self.rows[modality] >= 0)
        return here, self.rows[modality][here]

    def obs_names(self) -> list[str]:
        """Columns of any of the tables, those of the modalities first."""
        found = [str(column) for part in self.parts.values() for column in part.obs]
        if isinstance(self.data, MuData):  # mudata before 0.4 copies columns of the modalities to the top
            prefixes = tuple(f"{name}:" for name in self.parts)
            found += [str(column) for column in self.data.obs if not str(column).startswith(prefixes)]
        return list(dict.fromkeys(found))

    def column(self, name: str) -> pd.Series:
        """A column of all cells, NaN or ``None`` where it is missing: numbers if all values are, else text."""
        parts = [(self.rows[key], part.obs) for key, part in self.parts.items() if name in part.obs]
        if not parts and isinstance(self.data, MuData) and name in self.data.obs:
            parts = [(self.places, self.data.obs)]
        if not parts:
            raise KeyError(f"{name!r} is not a column of obs; it has {self.obs_names()}. Name the column to use.")
        columns = [(rows, read_column(obs, name, "obs")) for rows, obs in parts]
        if all(is_number(column) for _, column in columns):
            values: NDArray[Any] = np.full(len(self), np.nan)
            columns = [(rows, column.astype(np.float64)) for rows, column in columns]
        else:
            values = np.full(len(self), None, dtype=object)
            columns = [(rows, as_text(column)) for rows, column in columns]
        for rows, column in columns:
            here = rows >= 0
            values[here] = column.to_numpy()[rows[here]]
        return pd.Series(values, name=name)

    def labels(self, name: str) -> pd.Series:
        """A column as text, ``None`` where a label is missing."""
        return as_text(self.column(name))


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers that are no labels."""
    is_category = isinstance(column.dtype, pd.CategoricalDtype)
    return not is_category and pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def all_cells(data: AnnData | MuData, name: str | None = None) -> Cells:
    """Cells of all modalities, one row each; those of an AnnData are called ``name``."""
    if isinstance(data, AnnData):
        return _cells(data, {name or ALL: data}, {name or ALL: np.arange(data.n_obs)}, data.obs_names)
    rows = {str(name): rows_in_modality(data, name) for name in data.mod}
    return _cells(data, {str(name): part for name, part in data.mod.items()}, rows, data.obs_names)


def _cells(
    data: AnnData | MuData, parts: dict[str, AnnData], rows: dict[str, NDArray[np.intp]], names: pd.Index
) -> Cells:
    pattern = np.stack([place >= 0 for place in rows.values()], axis=1)  # (n, n_modalities)
    codes = pattern @ (1 << np.arange(len(rows)))
    distinct = sorted(set(codes.tolist()))
    together = ([[name] for i, name in enumerate(rows) if code >> i & 1] for code in distinct)
    kinds = ["" if not names_here else str(joined_labels(names_here, SEPARATOR)[0]) for names_here in together]
    kind = np.searchsorted(distinct, codes)
    return Cells(data, parts, names.to_numpy(dtype=np.str_), rows, np.arange(len(names)), kinds, kind)


def spread_evenly(groups: NDArray[np.intp], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw ``n`` rows so that small groups are kept whole and large ones get the same share each, sorted."""
    if len(groups) <= n:
        return np.arange(len(groups))
    order = rng.permutation(len(groups))
    shuffled = groups[order]
    place = np.argsort(shuffled, kind="stable")
    sizes = np.bincount(shuffled - shuffled.min())
    sizes = sizes[sizes > 0]
    # Position of each row within its group; rows of the first rounds are taken.
    within = np.empty(len(groups), dtype=np.intp)
    within[place] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[np.argsort(within, kind="stable")[:n]])
