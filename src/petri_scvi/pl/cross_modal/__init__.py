"""Figures of predictions across modalities.

Bright patches reconstructed with and without transcriptomes, and genes predicted from images.
Open first: ``_targeted_reconstruction.py``.
"""

from petri_scvi.pl.cross_modal._gene_scores import image_to_expression_r2, impute_expression
from petri_scvi.pl.cross_modal._targeted_reconstruction import targeted_reconstruction

__all__ = ["image_to_expression_r2", "impute_expression", "targeted_reconstruction"]
