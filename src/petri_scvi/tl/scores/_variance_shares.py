"""How much of an embedding's variance labels of the cells explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from petri_scvi._constants import ALL
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, find_slots, finite_rows
from petri_scvi.tl._results import data_to_change, write_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

COMPARED = "modality"
"""What the row of a shared space is called that compares modalities."""


def variance_shares(
    data: AnnData | MuData,
    key: str = "X_petri",
    *,
    obs_keys: str | Sequence[str] = ("perturbation", "batch", "well"),
    copy: bool = False,
) -> AnnData | MuData | None:
    """Measure the share of an embedding's variance that contexts, batches, wells and the modality explain.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``.
    obs_keys
        ``obs`` columns whose groups are compared, within each modality.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["variance_shares_" + key]``: ``table`` with a row per modality and
    column and, in a space that modalities share, one for the modality (of the cells ``"all"``): ``modality``,
    ``explained_by``, ``share``, ``share_adjusted``, ``n_cells``, ``n_groups``; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        No column was given, a column has fewer than two groups or one group per cell, or all cells are equal.

    Warns
    -----
    UserWarning
        Cells have NaN or infinite values and are left out.

    Notes
    -----
    ``share`` is the sum of squares between groups over the total sum of squares, summed over all dimensions (eta
    squared; the R squared of a permutational analysis of variance with Euclidean distances :cite:p:`Anderson2001`).
    Groups of few cells explain variance by chance, on average ``(n_groups - 1) / (n_cells - 1)``. ``share_adjusted``
    is 0 on average then: ``1 - (1 - share) (n_cells - 1) / (n_cells - n_groups)`` (epsilon squared
    :cite:p:`Kelley1935`). Shares of columns that are related, such as a batch and its wells, overlap and do not sum
    to one.
    """
    data = data_to_change(data, copy)
    columns = [obs_keys] if isinstance(obs_keys, str) else list(obs_keys)
    if not columns:
        raise ValueError("obs_keys is empty; pass at least one column, such as obs_keys=['perturbation']")
    rows: list[dict[str, Any]] = []
    for slot in find_slots(data, key, columns):
        for column in columns:
            rows += _shares_in_modalities(slot, column)
        if slot.cells[MODALITY].nunique() > 1:
            groups = slot.cells[MODALITY].to_numpy()
            rows.append({"modality": ALL, "explained_by": COMPARED} | _shares(slot, groups, COMPARED))
    write_result(data, f"variance_shares_{key}", {"table": pd.DataFrame(rows)}, {"key": key, "obs_keys": columns})
    return data if copy else None


def _shares_in_modalities(slot: Slot, column: str) -> list[dict[str, Any]]:
    rows = []
    for name in pd.unique(slot.cells[MODALITY].dropna()):
        labels = slot.cells[column].where(slot.cells[MODALITY] == name).to_numpy()
        rows.append({"modality": name, "explained_by": column} | _shares(slot, labels, column))
    return rows


def _shares(slot: Slot, labels: NDArray[Any], column: str) -> dict[str, float]:
    """Shares of one grouping; cells without a label are left out."""
    codes, names = pd.factorize(labels)
    sums, counts, n_bad = slot.sum_groups(codes, len(names))
    n_cells, n_groups = int(counts.sum()), int((counts > 0).sum())
    if n_bad:
        warn(f"{n_bad} of {n_cells + n_bad} cells are NaN or infinite; they are left out")
    if not 2 <= n_groups < n_cells:
        raise ValueError(
            f"{n_cells} cells have {n_groups} different {column!r} ({[str(name) for name in names[:5]]}); pass a "
            "column with at least two groups of cells"
        )
    mean = sums.sum(axis=0) / n_cells
    counts, sums = counts[counts > 0], sums[counts > 0]
    between = float((counts[:, None] * (sums / counts[:, None] - mean) ** 2).sum())
    total = 0.0
    for rows, chunk in slot.chunks():
        chosen = chunk[(codes[rows] >= 0) & finite_rows(chunk)]
        total += float(((chosen - mean) ** 2).sum())
    if total == 0:
        raise ValueError(f"all {n_cells} cells have the same vector in {slot.key!r}; there is no variance to explain")
    share = min(between / total, 1.0)
    adjusted = 1 - (1 - share) * (n_cells - 1) / (n_cells - n_groups)
    return {"share": share, "share_adjusted": adjusted, "n_cells": n_cells, "n_groups": n_groups}
