"""Packages and devices that may be missing."""

from __future__ import annotations

import importlib
from typing import Any

import torch


def require(module: str, extra: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{module} is missing; run pip install "petri-scvi[{extra}]"', name=module) from error


def choose_device(accelerator: str) -> torch.device:
    """Device by the name that torch or Lightning gives it; a GPU for ``"auto"`` if there is one."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
