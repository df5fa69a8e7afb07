"""Baselines without a network: principal and random components, image features, propensity scores.

``_measure.py`` measures a cell with cp_measure; the rest is one file per baseline.
Open first: ``_pca_expression.py``.
"""

from petri_scvi.baselines.classical._image_features import ImageFeatures
from petri_scvi.baselines.classical._pca_expression import PCAExpression
from petri_scvi.baselines.classical._pca_pixels import PCAPixels
from petri_scvi.baselines.classical._propensity_score import PropensityScore
from petri_scvi.baselines.classical._random_projection import RandomProjection

__all__ = ["ImageFeatures", "PCAExpression", "PCAPixels", "PropensityScore", "RandomProjection"]
