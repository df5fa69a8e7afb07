"""Warnings that point to the line of the user's code."""

from __future__ import annotations

import inspect
import warnings


def warn(message: str) -> None:
    """Warn at the line of the user's code that called petri-scvi."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("petri_scvi."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
