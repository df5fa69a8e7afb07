"""Choose a device that exists."""

from __future__ import annotations

import torch


def choose_device(accelerator: str) -> torch.device:
    """Device by the name that torch or Lightning gives it.

    Parameters
    ----------
    accelerator
        ``"cpu"``, ``"gpu"``, a name of torch such as ``"cuda:0"`` or ``"mps"``, or ``"auto"`` for a CUDA GPU if there
        is one, else the CPU.

    Returns
    -------
    The device; a tensor was put on it to try it.

    Raises
    ------
    ValueError
        This machine has no such device.
    """
    name = accelerator
    if accelerator == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device({"gpu": "cuda"}.get(name, name))
        torch.empty(0, device=device)  # torch may know the name of a device that this machine does not have
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"accelerator={accelerator!r} is not a device that torch can use here. Pass 'auto', 'cpu' or, if there is "
            "a GPU, 'gpu' or its name, such as 'cuda:0'."
        ) from error
    return device
