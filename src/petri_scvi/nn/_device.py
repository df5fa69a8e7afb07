"""Devices that may be missing."""

from __future__ import annotations

import torch


def choose_device(accelerator: str) -> torch.device:
    """Device by the name that torch or Lightning gives it; a GPU for ``"auto"`` if there is one."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
