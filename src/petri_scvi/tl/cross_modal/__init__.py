"""Predict one modality from the other.

A trained model reconstructs cells from companions of the other modality, or a regression predicts expression.
Open first: ``_targeted_reconstruction.py``, or ``_image_to_expression.py``, which needs no model.
"""

from petri_scvi.tl.cross_modal._image_to_expression import image_to_expression_r2
from petri_scvi.tl.cross_modal._impute_expression import impute_expression
from petri_scvi.tl.cross_modal._targeted_reconstruction import targeted_reconstruction

__all__ = ["image_to_expression_r2", "impute_expression", "targeted_reconstruction"]
