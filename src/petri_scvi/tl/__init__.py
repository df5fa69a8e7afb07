"""After training: numbers computed from embeddings, ours or anyone's."""

from petri_scvi.tl._average_precision import mean_average_precision
from petri_scvi.tl._center_scale import center_scale
from petri_scvi.tl._describe_dimensions import describe_dimensions
from petri_scvi.tl._dimension_activity import dimension_activity
from petri_scvi.tl._dimension_agreement import dimension_agreement
from petri_scvi.tl._dimension_gene_sets import dimension_gene_sets
from petri_scvi.tl._dimension_genes import dimension_genes
from petri_scvi.tl._dimension_image_features import dimension_image_features
from petri_scvi.tl._dimension_wells import dimension_wells
from petri_scvi.tl._edge_recall import edge_recall, efaar_recall
from petri_scvi.tl._fit_sae import fit_sae
from petri_scvi.tl._guide_consistency import guide_consistency
from petri_scvi.tl._guide_model import guide_model
from petri_scvi.tl._image_features import image_features
from petri_scvi.tl._image_to_expression import image_to_expression_r2
from petri_scvi.tl._impute_expression import impute_expression
from petri_scvi.tl._late_fusion import late_fusion
from petri_scvi.tl._mixing import mixing
from petri_scvi.tl._multimodal_dimensions import multimodal_dimensions
from petri_scvi.tl._perturbation_strength import perturbation_strength
from petri_scvi.tl._probe import probe
from petri_scvi.tl._profile_similarity import profile_similarity
from petri_scvi.tl._profiles import aggregate_guides, aggregate_profiles
from petri_scvi.tl._replicate_consistency import replicate_consistency
from petri_scvi.tl._replicate_profiles import replicate_profiles
from petri_scvi.tl._score_screen import score_screen
from petri_scvi.tl._targeted_reconstruction import targeted_reconstruction
from petri_scvi.tl._whiten import whiten

__all__ = [
    "aggregate_guides",
    "aggregate_profiles",
    "center_scale",
    "describe_dimensions",
    "dimension_activity",
    "dimension_agreement",
    "dimension_gene_sets",
    "dimension_genes",
    "dimension_image_features",
    "dimension_wells",
    "edge_recall",
    "efaar_recall",
    "fit_sae",
    "guide_consistency",
    "guide_model",
    "image_to_expression_r2",
    "impute_expression",
    "image_features",
    "late_fusion",
    "mean_average_precision",
    "mixing",
    "multimodal_dimensions",
    "perturbation_strength",
    "probe",
    "profile_similarity",
    "replicate_consistency",
    "replicate_profiles",
    "score_screen",
    "targeted_reconstruction",
    "whiten",
]
