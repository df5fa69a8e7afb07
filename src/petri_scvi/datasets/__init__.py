"""Screens to try PETRI on."""

from ._synthetic import synthetic_screen

__all__ = ["synthetic_screen"]
