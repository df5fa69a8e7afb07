"""Reconstruct masked cells, and measure what their companions contribute.

``_cross_modal.py`` compares contexts, ``_trivial.py`` has the predictions that a model has to beat.
Open first: ``_reconstruction.py``.
"""

from petri_scvi.model.reconstruction._reconstruction import Reconstruction, ReconstructionMixin

__all__ = ["Reconstruction", "ReconstructionMixin"]
