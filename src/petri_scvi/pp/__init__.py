"""Preprocessing: build the MuData, match the contexts of two screens, and cut image crops.

``crops/`` cuts crops around cells; :mod:`petri_scvi.io` reads and writes screens.
Open first: ``_mudata.py``.
"""

from petri_scvi.pp._join_obs import join_obs
from petri_scvi.pp._match_contexts import match_contexts
from petri_scvi.pp._mudata import build_mudata
from petri_scvi.pp.crops import crops_from_fields, crops_from_spatialdata

__all__ = [
    "build_mudata",
    "crops_from_fields",
    "crops_from_spatialdata",
    "join_obs",
    "match_contexts",
]
