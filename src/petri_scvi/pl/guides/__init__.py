"""Pictures of profiles and of the guide model: similarity, efficacy, shared variance.

``_guide_model.py`` reads what ``tl.guide_model`` returned.
Open first: ``_guide_efficacy.py``.
"""

from petri_scvi.pl.guides._gene_similarity import gene_similarity
from petri_scvi.pl.guides._guide_efficacy import guide_efficacy
from petri_scvi.pl.guides._profile_similarity import profile_similarity
from petri_scvi.pl.guides._shared_variance import shared_variance

__all__ = ["gene_similarity", "guide_efficacy", "profile_similarity", "shared_variance"]
