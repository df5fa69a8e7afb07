"""Associate each dimension with modalities, perturbations, genes, gene sets, image features and wells.

All of them read cells through ``_activations.py``; ``_describe_dimensions.py`` combines their results into one table.
Open first: ``_multimodal_dimensions.py``, then ``_dimension_activity.py``.
"""

from petri_scvi.tl.concepts.dimensions._describe_dimensions import describe_dimensions
from petri_scvi.tl.concepts.dimensions._dimension_activity import dimension_activity
from petri_scvi.tl.concepts.dimensions._dimension_agreement import dimension_agreement
from petri_scvi.tl.concepts.dimensions._dimension_gene_sets import dimension_gene_sets
from petri_scvi.tl.concepts.dimensions._dimension_genes import dimension_genes
from petri_scvi.tl.concepts.dimensions._dimension_image_features import dimension_image_features
from petri_scvi.tl.concepts.dimensions._dimension_wells import dimension_wells
from petri_scvi.tl.concepts.dimensions._multimodal_dimensions import multimodal_dimensions

__all__ = [
    "describe_dimensions",
    "dimension_activity",
    "dimension_agreement",
    "dimension_gene_sets",
    "dimension_genes",
    "dimension_image_features",
    "dimension_wells",
    "multimodal_dimensions",
]
