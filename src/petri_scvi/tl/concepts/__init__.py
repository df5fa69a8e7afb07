"""Interpret the dimensions of an embedding with a sparse autoencoder.

The autoencoder and the measurements of crops are here; ``dimensions/`` has what is computed of each dimension.
Open first: ``_fit_sae.py``.
"""

from petri_scvi.tl.concepts._fit_sae import fit_sae
from petri_scvi.tl.concepts._image_features import image_features
from petri_scvi.tl.concepts._sparse_autoencoder import SparseAutoencoder

__all__ = ["SparseAutoencoder", "fit_sae", "image_features"]
