"""From the embedding of cells to one profile per guide or gene.

Cells are scaled and whitened, averaged per guide, gene or replicate, and profiles of modalities joined.
Open first: ``_center_scale.py`` and ``_aggregate.py``, in the order in which they are called.
"""

from petri_scvi.tl.profiles._aggregate import aggregate_guides, aggregate_profiles
from petri_scvi.tl.profiles._center_scale import center_scale
from petri_scvi.tl.profiles._late_fusion import late_fusion
from petri_scvi.tl.profiles._profile_similarity import profile_similarity
from petri_scvi.tl.profiles._replicate_profiles import replicate_profiles
from petri_scvi.tl.profiles._whiten import whiten

__all__ = [
    "aggregate_guides",
    "aggregate_profiles",
    "center_scale",
    "late_fusion",
    "profile_similarity",
    "replicate_profiles",
    "whiten",
]
