"""What PETRI is compared with, each behind the same three calls as PETRI."""

from petri_scvi.baselines._cell_clip import CellCLIP
from petri_scvi.baselines._clip import CLIP
from petri_scvi.baselines._cross_modal_autoencoder import CrossModalAutoencoder
from petri_scvi.baselines._group_clip import GroupCLIP
from petri_scvi.baselines._mae import MAE

__all__ = [
    "CLIP",
    "MAE",
    "CellCLIP",
    "CrossModalAutoencoder",
    "GroupCLIP",
]
