"""After training: numbers computed from embeddings, ours or anyone's."""

from petri_scvi.tl._center_scale import center_scale
from petri_scvi.tl._guide_consistency import guide_consistency
from petri_scvi.tl._profiles import aggregate_guides, aggregate_profiles
from petri_scvi.tl._whiten import whiten

__all__ = ["aggregate_guides", "aggregate_profiles", "center_scale", "guide_consistency", "whiten"]
