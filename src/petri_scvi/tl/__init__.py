"""Tools: analyses of any embedding of cells, from PETRI or another method.

A sub-room per kind of analysis; ``_embedding.py``, ``_similarity.py`` and ``_results.py`` serve all of them.
Open first: ``scores/``, and ``_embedding.py``, which finds an embedding and the cells that it describes.
"""

from petri_scvi.tl.concepts import fit_sae, image_features
from petri_scvi.tl.concepts.dimensions import (
    describe_dimensions,
    dimension_activity,
    dimension_agreement,
    dimension_gene_sets,
    dimension_genes,
    dimension_image_features,
    dimension_wells,
    multimodal_dimensions,
)
from petri_scvi.tl.cross_modal import image_to_expression_r2, impute_expression, targeted_reconstruction
from petri_scvi.tl.guides import guide_model
from petri_scvi.tl.profiles import (
    aggregate_guides,
    aggregate_profiles,
    center_scale,
    late_fusion,
    profile_similarity,
    replicate_profiles,
    whiten,
)
from petri_scvi.tl.scores import (
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
    "aggregate_guides",
    "aggregate_profiles",
    "center_scale",
    "context_recall",
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
    "foscttm",
    "guide_consistency",
    "guide_model",
    "image_features",
    "image_to_expression_r2",
    "impute_expression",
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
    "variance_shares",
    "whiten",
]
