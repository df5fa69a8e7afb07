"""Read what ``tl.guide_model`` returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi.pl._results import read_result

if TYPE_CHECKING:
    from anndata import AnnData

CALL = "guide_model(profiles)"


def read_guide_model(genes: AnnData) -> dict[str, Any]:
    """Result of the guide model."""
    return read_result(genes, "guide_model", field="guides", written_by=CALL)
