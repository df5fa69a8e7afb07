"""Pairs of images and expression for a regression: cells measured in both modalities, or contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_context, check_finite_images, check_images
from petri_scvi._constants import IMAGE, IMAGES_KEY, RNA
from petri_scvi.common import rows_in_mdata, rows_in_modality
from petri_scvi.common._labels import read_labels
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import find_slots, finite_rows, subsample
from petri_scvi.tl._expression import log_normalised

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

MIN_CELLS = 5
"""Cells that a context needs in each modality to be a row of the regression."""
CROPS = f"mdata[{IMAGE!r}].obsm[{IMAGES_KEY!r}]"


@dataclass(frozen=True)
class RegressionRows:
    """Rows to regress on: cells, or contexts."""

    image_cells: NDArray[np.intp]
    """Rows of the imaging modality, in order, shape ``(n_images,)``."""
    row_of_image: NDArray[np.intp]
    """Row that each of them belongs to, shape ``(n_images,)``."""
    targets: NDArray[np.float64]
    """Log-normalised expression of each row, shape ``(n_rows, n_genes)``."""
    n_rna_cells: int
    reliability: NDArray[np.float64] | None
    """Share of each gene's variance over rows that is not measurement error, if known."""


def paired_places(mdata: MuData) -> NDArray[np.intp]:
    """Rows in the imaging and the expression modality of the cells that are in both, shape ``(n, 2)``."""
    rows = np.column_stack([rows_in_modality(mdata, name) for name in (IMAGE, RNA)])
    return rows[(rows >= 0).all(axis=1)]


def rows_of_cells(
    mdata: MuData, places: NDArray[np.intp], layer: str | None, max_cells: int, rng: np.random.Generator
) -> RegressionRows:
    """One row per cell that was measured in both modalities."""
    chosen = places[subsample(np.arange(len(places)), max_cells, rng)]
    chosen = chosen[np.argsort(chosen[:, 0])]
    levels = _read_levels(mdata, layer, chosen[:, 1])
    return RegressionRows(chosen[:, 0], np.arange(len(chosen)), levels, len(chosen), None)


def rows_of_contexts(
    mdata: MuData,
    is_usable: NDArray[np.bool_],
    context_key: str,
    layer: str | None,
    max_cells: int,
    rng: np.random.Generator,
) -> RegressionRows:
    """One row per context that both modalities have, with its mean expression."""
    labels = {}
    for name in (IMAGE, RNA):
        check_context(mdata, name, [context_key])
        found = read_labels(mdata.mod[name].obs, context_key, f"mdata[{name!r}].obs", argument="context_key")
        labels[name] = found.to_numpy()
    labels[IMAGE] = np.where(is_usable, labels[IMAGE], None)
    counts = [pd.Series(found).value_counts() for found in labels.values()]
    every = sorted(set(counts[0].index) | set(counts[1].index))
    names = [name for name in every if min(count.get(name, 0) for count in counts) >= MIN_CELLS]
    if len(names) < len(every):
        warn(
            f"{len(every) - len(names)} of {len(every)} contexts have fewer than {MIN_CELLS} cells in a modality; they "
            "are left out"
        )
    n_each = max(1, max_cells // max(1, len(names)))

    def draw(found: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Cells of every context, in order, and the position of their context."""
        parts = [subsample(np.flatnonzero(found == name), n_each, rng) for name in names]
        cells = np.concatenate([np.empty(0, dtype=np.intp), *parts])
        row = np.repeat(np.arange(len(names)), [len(part) for part in parts])
        order = np.argsort(cells)
        return cells[order], row[order]

    image_cells, row_of_image = draw(labels[IMAGE])
    rna_cells, row_of_rna = draw(labels[RNA])
    levels = _read_levels(mdata, layer, rna_cells)
    groups = [levels[row_of_rna == row] for row in range(len(names))]
    means = np.stack([group.mean(axis=0) for group in groups]) if names else np.empty((0, levels.shape[1]))
    reliability = None
    if n_each > 1 and len(names) > 1:
        error = np.mean([group.var(axis=0, ddof=1) / len(group) for group in groups], axis=0)
        variance = means.var(axis=0, ddof=1)
        reliability = np.clip(1 - error / np.where(variance > 0, variance, np.inf), 0, 1)
    return RegressionRows(image_cells, row_of_image, means, len(rna_cells), reliability)


def image_inputs(mdata: MuData, key: str | None) -> Any:
    """Crops ``(n, C, H, W)``, which are not read, or the embedding ``(n, D)`` of this name, of all image cells."""
    if key is not None:
        return _embedding(mdata, key)
    obsm = mdata.mod[IMAGE].obsm
    if IMAGES_KEY not in obsm:
        raise KeyError(
            f"mdata[{IMAGE!r}].obsm has no {IMAGES_KEY!r}; it has {sorted(obsm)}. Store the crops, or pass key=... "
            "with an embedding."
        )
    check_images(obsm[IMAGES_KEY], CROPS, mdata.mod[IMAGE])
    return obsm[IMAGES_KEY]


def usable_cells(inputs: Any) -> NDArray[np.bool_]:
    """Image cells whose embedding is finite; crops are checked when they are read."""
    if inputs.ndim != 2:
        return np.ones(inputs.shape[0], dtype=bool)
    is_usable = finite_rows(inputs)
    n_bad = int((~is_usable).sum())
    if n_bad:
        warn(f"{n_bad} of {len(is_usable)} cells of {IMAGE!r} are NaN or infinite; they are left out")
    return is_usable


def read_cells(inputs: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Read some rows, in ascending order, of an embedding or of crops in memory or on disk."""
    if isinstance(inputs, np.ndarray):
        found = np.asarray(inputs[rows])
    elif hasattr(inputs, "compute"):  # dask: all rows at once, so that no block is read twice
        found = np.asarray(inputs[rows].compute())
    else:
        found = np.stack([np.asarray(inputs[int(row)]) for row in rows])
    if found.ndim == 4:
        check_finite_images((found[start : start + 1000] for start in range(0, len(found), 1000)), CROPS)
    return found


def _embedding(mdata: MuData, key: str) -> NDArray[np.floating[Any]]:
    """Rows of the image cells, in the order of the modality, wherever the slot is."""
    (slot,) = find_slots(mdata, key, modality=IMAGE)
    if slot.owner is not mdata:
        return slot.take(np.arange(slot.shape[0]))
    return slot.take(rows_in_mdata(mdata, IMAGE))


def _read_levels(mdata: MuData, layer: str | None, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Log-normalised expression of some cells, in the order asked for."""
    rna = mdata.mod[RNA]
    if len(rows) == 0:
        return np.empty((0, rna.n_vars))
    distinct, inverse = np.unique(rows, return_inverse=True)
    levels = log_normalised(rna, layer, f"mdata[{RNA!r}]", is_normalized=None, rows=distinct)
    return levels.toarray().astype(np.float64)[inverse]
