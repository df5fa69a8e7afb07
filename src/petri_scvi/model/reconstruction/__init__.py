"""Reconstruct masked cells, and measure what their companions contribute.

``_cross_modal.py`` compares contexts, ``_measurement.py`` reads what was measured.
Open first: ``_reconstruction.py``.
"""

from petri_scvi.model.reconstruction._reconstruction import Reconstruction, ReconstructionMixin

__all__ = ["Reconstruction", "ReconstructionMixin"]
