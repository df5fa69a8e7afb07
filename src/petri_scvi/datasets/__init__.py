"""Screens to try PETRI on."""

from ._semisynthetic import semisynthetic_screen
from ._synthetic import synthetic_screen

__all__ = ["semisynthetic_screen", "synthetic_screen"]
