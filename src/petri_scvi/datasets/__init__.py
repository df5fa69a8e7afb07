"""Screens to try PETRI on."""

from ._semisynthetic import semisynthetic_screen
from ._stringdb import stringdb
from ._synthetic import synthetic_screen

__all__ = ["semisynthetic_screen", "stringdb", "synthetic_screen"]
