"""Interpret the dimensions of an embedding with a sparse autoencoder.

``_sae_training.py`` trains the autoencoder and sets its threshold, ``_sparse_autoencoder.py`` encodes, saves and loads,
``_image_features.py`` measures crops, and ``dimensions/`` describes each dimension. Open first: ``_fit_sae.py``.
"""

from petri_scvi.tl.concepts._fit_sae import fit_sae
from petri_scvi.tl.concepts._image_features import image_features
from petri_scvi.tl.concepts._sparse_autoencoder import SparseAutoencoder

__all__ = ["SparseAutoencoder", "fit_sae", "image_features"]
