"""Draw what a model or a ``tl`` function returned. One function, one Axes."""

from petri_scvi.pl._average_precision import mean_average_precision
from petri_scvi.pl._consistency import guide_consistency, replicate_consistency
from petri_scvi.pl._crops import crops
from petri_scvi.pl._dimension import dimension
from petri_scvi.pl._dimension_report import dimension_report
from petri_scvi.pl._edge_recall import edge_recall, efaar_recall
from petri_scvi.pl._expression import reconstructed_expression
from petri_scvi.pl._gene_scores import image_to_expression_r2, impute_expression
from petri_scvi.pl._gene_similarity import gene_similarity
from petri_scvi.pl._guide_efficacy import guide_efficacy
from petri_scvi.pl._history import training_history
from petri_scvi.pl._mixing import mixing
from petri_scvi.pl._multimodal_dimensions import multimodal_dimensions
from petri_scvi.pl._perturbation_strength import perturbation_strength
from petri_scvi.pl._probe import probe
from petri_scvi.pl._profile_similarity import profile_similarity
from petri_scvi.pl._reconstructed_crops import reconstructed_crops
from petri_scvi.pl._score_screen import score_screen
from petri_scvi.pl._shared_variance import shared_variance
from petri_scvi.pl._targeted_reconstruction import targeted_reconstruction
from petri_scvi.pl._umap_crops import umap_crops

__all__ = [
    "crops",
    "dimension",
    "dimension_report",
    "edge_recall",
    "efaar_recall",
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
]
