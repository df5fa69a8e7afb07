"""Collect the results about each dimension of an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._constants import UNS_KEY
from petri_scvi.pl._results import read_result
from petri_scvi.pl.images._montage import Montage, find_crops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

N_PERTURBATIONS = 10
FINDINGS = {
    "genes": ("dimension_genes", "gene", "correlation"),
    "gene_sets": ("dimension_gene_sets", "gene_set", "fold"),
    "image_features": ("dimension_image_features", "feature", "correlation"),
}
"""For each kind of finding, the tool that wrote it and the columns with its name and its value."""


@dataclass(frozen=True)
class Dimension:
    """One dimension.

    ``perturbations`` has a row per perturbation and a column per modality, ``overall`` the mean of all cells.
    ``findings`` has a table per tool that was called: ``name``, ``value``, ``q_value``, the strongest first.
    """

    number: int
    active: dict[str, float]
    overall: dict[str, float]
    perturbations: pd.DataFrame
    most: list[str]
    least: list[str]
    findings: dict[str, pd.DataFrame]


class DimensionResults:
    """Results of ``petri_scvi.tl`` for one embedding.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the embedding.
    """

    def __init__(self, data: AnnData | MuData, key: str) -> None:
        call = f"dimension_activity(data, {key!r})"
        self.activity = read_result(data, f"dimension_activity_{key}", field="most", written_by=call)
        self.key, self.n_dimensions = key, int(self.activity["n_dimensions"])
        self.modalities = [str(name) for name in self.activity["mean"]]
        written = data.uns.get(UNS_KEY, {})
        self._tables = {
            kind: written[f"{result}_{key}"]["table"]
            for kind, (result, _, _) in FINDINGS.items()
            if f"{result}_{key}" in written
        }
        # Sorted by dimension: a dimension is a slice.
        self._places = {kind: table["dimension"].to_numpy() for kind, table in self._tables.items()}

    @property
    def known(self) -> list[str]:
        """Kinds of findings there are."""
        return list(self._tables)

    def is_multimodal(self, min_activity: float, max_activity: float) -> NDArray[np.bool_]:
        """Whether the share of active cells is in the range in every modality; none is if there is only one."""
        shares = np.stack([np.asarray(self.activity["active"][name]) for name in self.modalities])
        return np.asarray(((shares >= min_activity) & (shares <= max_activity)).all(axis=0) & (len(shares) > 1))

    def is_active(self) -> NDArray[np.bool_]:
        """Whether example cells, or perturbations in any modality, differ."""
        differs = np.asarray(self.activity["most"])[:, 0] != ""
        for means in self.activity["mean"].values():
            found = np.asarray(means)[np.isfinite(means).all(axis=1)]
            if len(found):
                differs = differs | (found.max(axis=0) > found.min(axis=0))
        return np.asarray(differs)

    def check(self, dimension: int) -> int:
        """Require a dimension of this embedding."""
        is_integer = isinstance(dimension, int | np.integer) and not isinstance(dimension, bool)
        if not is_integer or not 0 <= dimension < self.n_dimensions:
            raise ValueError(
                f"dimension={dimension!r} is not in obsm[{self.key!r}]; its dimensions are 0 to {self.n_dimensions - 1}"
            )
        return int(dimension)

    def read(self, dimension: int) -> Dimension:
        """All results about one dimension."""
        number = self.check(dimension)
        means = {name: np.asarray(self.activity["mean"][name])[:, number] for name in self.modalities}
        return Dimension(
            number=number,
            active={name: float(self.activity["active"][name][number]) for name in self.modalities},
            overall={name: float(self.activity["overall"][name][number]) for name in self.modalities},
            perturbations=_in_order(pd.DataFrame(means, index=np.asarray(self.activity["perturbations"]).astype(str))),
            most=[str(cell) for cell in self.activity["most"][number] if cell],
            least=[str(cell) for cell in self.activity["least"][number] if cell],
            findings={kind: self._findings(kind, number) for kind in self._tables},
        )

    def _findings(self, kind: str, number: int) -> pd.DataFrame:
        _, name, value = FINDINGS[kind]
        start, end = np.searchsorted(self._places[kind], [number, number + 1])
        rows = self._tables[kind].iloc[start:end]
        columns = {"name": rows[name].astype(str), "value": rows[value], "q_value": rows["q_value"]}
        return pd.DataFrame({column: np.asarray(values) for column, values in columns.items()})


def _in_order(means: pd.DataFrame) -> pd.DataFrame:
    """Perturbations with the highest activity first; modalities have equal weight, whatever their level."""
    spread = means.std().where(lambda s: s > 0, 1.0)
    order = ((means - means.mean()) / spread).mean(axis=1).sort_values(ascending=False, kind="stable").index
    return means.loc[order]


def example_montage(
    data: AnnData | MuData,
    examples: dict[str, list[str]],
    *,
    channels: Sequence[str | int] | None,
    modality: str,
    images_key: str,
) -> Montage | None:
    """Crops of named cells, a row per name; ``None`` if there are no images."""
    found = find_crops(data, channels=channels, modality=modality, images_key=images_key)
    if found is None:
        return None
    adata, images, positions, names = found
    rows = {name: adata.obs_names.get_indexer(cells) for name, cells in examples.items()}
    present: dict[str, Any] = {name: place[place >= 0] for name, place in rows.items() if (place >= 0).any()}
    return Montage(adata, images, present, len(present), True, positions, names) if present else None
