"""Simulated and semisynthetic screens with known ground truth.

``_synthetic_design.py`` draws the ground truth, from which counts and images follow. The semisynthetic screen
has real cells.
Open first: ``_synthetic_screen.py``.
"""

from petri_scvi.datasets.synthetic._semisynthetic_screen import semisynthetic_screen
from petri_scvi.datasets.synthetic._synthetic_screen import synthetic_screen

__all__ = ["semisynthetic_screen", "synthetic_screen"]
