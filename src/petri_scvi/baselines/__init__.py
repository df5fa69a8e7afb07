"""What PETRI is compared with, each behind PETRI's ``setup_mudata``, ``train`` and ``get_latent_representation``.

A sub-room per kind; ``_unimodal.py`` has what all systems of one modality have in common.
Open first: ``classical/``, then ``contrastive/``.
"""

from petri_scvi.baselines.autoencoders import MAE, MULTIVI, SCVI, CrossModalAutoencoder
from petri_scvi.baselines.classical import ImageFeatures, PCAExpression, PCAPixels
from petri_scvi.baselines.contrastive import CLIP, CellCLIP, GroupCLIP
from petri_scvi.baselines.published import DINOv2, ScGPT

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
