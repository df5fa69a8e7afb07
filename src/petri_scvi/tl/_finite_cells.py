"""Cells to compute with, of one modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._dimensions import find_activations

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ._dimensions import Activations


def activations_of(data: AnnData | MuData, key: str, modality: str) -> Activations:
    """Activations of a modality, which has cells with finite ones."""
    parts = find_activations(data, key, modality)
    if not parts:
        raise ValueError(f"modality={modality!r} has no cells; name another one, or add its cells.")
    check_any_cell(parts[0], key)
    return parts[0]


def check_any_cell(part: Activations, key: str) -> None:
    """Require cells with finite activations."""
    if len(part.rows) == 0:
        raise ValueError(
            f"obsm[{key!r}] is NaN or infinite in all {part.adata.n_obs} cells of modality {part.modality!r}. Compute "
            "it again, or name another modality."
        )
