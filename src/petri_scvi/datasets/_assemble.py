"""Join two unpaired modalities into one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mudata import MuData

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi._constants import IMAGE, RNA

if TYPE_CHECKING:
    from anndata import AnnData


def assemble_screen(image: AnnData, rna: AnnData, uns: dict[str, Any], **others: AnnData) -> MuData:
    """MuData with one row per cell; the columns stay in each modality's own ``obs``."""
    with columns_stay_in_modalities():
        mdata = MuData({IMAGE: image, RNA: rna, **others})
    mdata.uns.update(uns)
    return mdata
