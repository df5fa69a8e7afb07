"""What PETRI is compared with, each behind PETRI's ``setup_mudata``, ``train`` and ``get_latent_representation``."""

from petri_scvi.baselines._dinov2 import DINOv2
from petri_scvi.baselines._image_features import ImageFeatures
from petri_scvi.baselines._pca_expression import PCAExpression
from petri_scvi.baselines._pca_pixels import PCAPixels
from petri_scvi.baselines._scgpt import ScGPT
from petri_scvi.baselines._scvi import SCVI

__all__ = [
    "SCVI",
    "DINOv2",
    "ImageFeatures",
    "PCAExpression",
    "PCAPixels",
    "ScGPT",
]
