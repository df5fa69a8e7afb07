"""Before training: build the MuData, and write it so that it trains fast."""

from petri_scvi.pp._crops_fields import crops_from_fields
from petri_scvi.pp._crops_spatialdata import crops_from_spatialdata
from petri_scvi.pp._join_obs import join_obs
from petri_scvi.pp._match_contexts import match_contexts
from petri_scvi.pp._mudata import build_mudata
from petri_scvi.pp._open import open_screen
from petri_scvi.pp._store import verify_training_store, write_training_store

__all__ = [
    "build_mudata",
    "crops_from_fields",
    "crops_from_spatialdata",
    "join_obs",
    "match_contexts",
    "open_screen",
    "verify_training_store",
    "write_training_store",
]
