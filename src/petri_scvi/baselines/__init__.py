"""What PETRI is compared with, each behind PETRI's ``setup_mudata``, ``train`` and ``get_latent_representation``."""

from petri_scvi.baselines._cell_clip import CellCLIP
from petri_scvi.baselines._clip import CLIP
from petri_scvi.baselines._cross_modal_autoencoder import CrossModalAutoencoder
from petri_scvi.baselines._dinov2 import DINOv2
from petri_scvi.baselines._group_clip import GroupCLIP
from petri_scvi.baselines._image_features import ImageFeatures
from petri_scvi.baselines._mae import MAE
from petri_scvi.baselines._multivi import MULTIVI
from petri_scvi.baselines._pca_expression import PCAExpression
from petri_scvi.baselines._pca_pixels import PCAPixels
from petri_scvi.baselines._scgpt import ScGPT
from petri_scvi.baselines._scvi import SCVI

__all__ = [
    "CLIP",
    "MAE",
    "MULTIVI",
    "SCVI",
    "CellCLIP",
    "CrossModalAutoencoder",
    "DINOv2",
    "GroupCLIP",
    "ImageFeatures",
    "PCAExpression",
    "PCAPixels",
    "ScGPT",
]
