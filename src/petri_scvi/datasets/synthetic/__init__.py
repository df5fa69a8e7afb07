"""Screens whose true effects are known.

``_synthetic_design.py`` says what is true; counts and images follow from it. The semisynthetic screen has real cells.
Open first: ``_synthetic_screen.py``.
"""

from petri_scvi.datasets.synthetic._semisynthetic_screen import semisynthetic_screen
from petri_scvi.datasets.synthetic._synthetic_screen import synthetic_screen

__all__ = ["semisynthetic_screen", "synthetic_screen"]
