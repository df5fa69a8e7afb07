"""Read and check files of published networks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from petri_scvi.common import UnreadableFileError, check_stored, code_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path
        The file.
    advice
        Where to get a valid file, for the message.

    Raises
    ------
    ValueError
        The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file, or was cut short ({error}). {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of an object with names. {advice}")
    return content


def read_weights(path: Path, advice: str) -> dict[str, torch.Tensor]:
    """Read the state of a module without running code that the file names.

    Parameters
    ----------
    path, advice
        As in :func:`read_json`.

    Raises
    ------
    ValueError
        The file is damaged, holds something else, or names code to run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - torch raises many kinds
        names = code_in(path)
        reason = f"names code to run ({', '.join(names[:3])})" if names else f"cannot be read ({type(error).__name__})"
        # Not as the cause, because torch's message suggests running the code in the file.
        raise ValueError(f"{path} {reason}: it is not a file of weights, or was cut short. {advice}") from None
    is_state = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )
    if not is_state:
        raise ValueError(f"{path} does not hold named weights. {advice}")
    check_finite(content, str(path), advice)
    return dict(content)


def check_finite(weights: Mapping[str, torch.Tensor], where: str, advice: str) -> None:
    """Require weights that are stored as a whole, without NaN and infinity.

    Raises
    ------
    ValueError
        A weight is not; the error names the first one.
    """
    for name, weight in weights.items():
        try:
            check_stored(weight)
        except UnreadableFileError as error:
            raise ValueError(f"{where} {error}, such as {name!r}. {advice}") from None
