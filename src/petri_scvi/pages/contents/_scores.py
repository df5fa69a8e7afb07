"""Scores of embeddings, as :func:`petri_scvi.tl.score_screen` wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petri_scvi._constants import UNS_KEY

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

PLACE = ["key", "modality", "fusion"]


def read_scores(data: AnnData | MuData) -> dict[str, Any] | None:
    """Rows of the table, and ROC curves of results that have them; ``None`` if nothing was scored."""
    result = data.uns.get(UNS_KEY, {}).get("score_screen")
    if result is None:
        return None
    table = result["table"]
    texts = {column: table[column].astype(str) for column in [*PLACE, "metric"]}
    rows = table.assign(**texts)[[*texts, "value", "ci_low", "ci_high", "n"]].to_dict(orient="records")
    curves = []
    if "curves" in result:
        found = result["curves"]
        found = found.assign(**{column: found[column].astype(str) for column in PLACE})
        for place, curve in found.groupby(PLACE, sort=False):
            points = {axis: curve[axis].to_numpy(dtype=float).round(4).tolist() for axis in ("fpr", "tpr")}
            curves.append(dict(zip(PLACE, place, strict=True)) | points)
    return {"rows": rows, "curves": curves}
