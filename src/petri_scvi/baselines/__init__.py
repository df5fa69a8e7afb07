"""Baselines that PETRI is compared with, each with its ``setup_mudata``, ``train`` and ``get_latent_representation``.

A sub-room per kind; ``_unimodal.py`` has the base class of baselines of one modality, and
``_embedding_setup.py`` that of systems that read embeddings.
Open first: ``classical/``, then ``contrastive/``.
"""

from petri_scvi.baselines.autoencoders import MAE, MULTIVI, SCVI, CrossModalAutoencoder
from petri_scvi.baselines.classical import ImageFeatures, PCAExpression, PCAPixels, PropensityScore, RandomProjection
from petri_scvi.baselines.contrastive import CLIP, CellCLIP, GroupCLIP
from petri_scvi.baselines.published import DINOv2, OpenPhenom, ScGPT

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
    "OpenPhenom",
    "PCAExpression",
    "PCAPixels",
    "PropensityScore",
    "RandomProjection",
    "ScGPT",
]
