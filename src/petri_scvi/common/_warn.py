"""Warnings that point to the line of the user."""

from __future__ import annotations

import inspect
import warnings


def warn(message: str) -> None:
    """Warn where the user called, not here."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("petri_scvi."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
