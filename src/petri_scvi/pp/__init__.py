"""Before training: build the MuData."""

from petri_scvi.pp._mudata import build_mudata

__all__ = ["build_mudata"]
