"""Baselines without a network: principal components and image features.

``_measure.py`` measures a cell with cp_measure; the rest is one file per baseline.
Open first: ``_pca_expression.py``.
"""

from petri_scvi.baselines.classical._image_features import ImageFeatures
from petri_scvi.baselines.classical._pca_expression import PCAExpression
from petri_scvi.baselines.classical._pca_pixels import PCAPixels

__all__ = ["ImageFeatures", "PCAExpression", "PCAPixels"]
