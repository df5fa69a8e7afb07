"""Draw what a model or a ``tl`` function returned. One function, one Axes.

Sub-rooms are named after what they draw; ``_axes.py``, ``_labels.py``, ``_colours.py`` and ``_results.py`` serve all.
Open first: ``_axes.py``, then ``scores/``.
"""

from petri_scvi.pl.concepts import dimension, multimodal_dimensions
from petri_scvi.pl.cross_modal import image_to_expression_r2, impute_expression, targeted_reconstruction
from petri_scvi.pl.guides import gene_similarity, guide_efficacy, profile_similarity, shared_variance
from petri_scvi.pl.images import crops, umap_crops
from petri_scvi.pl.model import reconstructed_crops, reconstructed_expression, training_history
from petri_scvi.pl.scores import (
    context_recall,
    edge_recall,
    efaar_recall,
    foscttm,
    guide_consistency,
    mean_average_precision,
    mixing,
    perturbation_strength,
    probe,
    replicate_consistency,
    score_screen,
    variance_shares,
)

__all__ = [
    "context_recall",
    "crops",
    "dimension",
    "edge_recall",
    "efaar_recall",
    "foscttm",
    "gene_similarity",
    "guide_consistency",
    "guide_efficacy",
    "image_to_expression_r2",
    "impute_expression",
    "mean_average_precision",
    "mixing",
    "multimodal_dimensions",
    "perturbation_strength",
    "probe",
    "profile_similarity",
    "reconstructed_crops",
    "reconstructed_expression",
    "replicate_consistency",
    "score_screen",
    "shared_variance",
    "targeted_reconstruction",
    "training_history",
    "umap_crops",
    "variance_shares",
]
