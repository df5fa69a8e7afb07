"""Numbers inside a page: compressed, as text, one element per array."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MISSING_BYTE = 255
"""Code of a missing value or label; labels of more categories take two bytes, in which it is 65,535."""
N_LEVELS = 254
"""A number becomes one of 0 to 254."""
TAILS = (0.0005, 0.9995)
MAX_TAIL = 2.0
"""Where the range is more than twice that between these quantiles, numbers beyond them are drawn like these."""


class Payload:
    """Arrays by the name that the page asks for them with."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str]] = []
        self.n_bytes = 0

    def add(self, text: str, name: str | None = None) -> str:
        """Keep text that has been packed; returns its name."""
        name = name or f"a{len(self.parts)}"
        self.parts.append((name, text))
        self.n_bytes += len(text)
        return name

    def drop_last(self) -> None:
        """Forget what was kept last."""
        self.n_bytes -= len(self.parts.pop()[1])

    def split(self, first: set[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Some of the parts, and the others, both in the order in which they were kept."""
        chosen = [part for part in self.parts if part[0] in first]
        return chosen, [part for part in self.parts if part[0] not in first]

    def array(self, values: NDArray[Any]) -> str:
        """Keep an array of one of the types that a browser knows."""
        return self.add(pack(values))

    def words(self, words: Sequence[str]) -> str:
        """Keep many names."""
        return self.json([str(word) for word in words])

    def json(self, value: Any) -> str:
        """Keep lists, dictionaries, numbers and names."""
        return self.add(_deflated(json.dumps(storable(value)).encode()))


def storable(value: Any) -> Any:
    """As JSON can hold it: no number is NaN or infinite, and no array or table is left."""
    if isinstance(value, dict):
        return {str(key): storable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | pd.Series):
        return storable(value.tolist())
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def pack(values: NDArray[Any]) -> str:
    """Bytes of an array, little endian, compressed and as text."""
    return _deflated(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())


def in_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode("ascii")


def _deflated(content: bytes) -> str:
    return in_base64(zlib.compress(content, 6))


def quantised(values: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Numbers as one byte each, and what the bytes mean: ``low`` is 0 and each step adds ``step``.

    Whole numbers of a small range are kept as they are.
    """
    is_finite = np.isfinite(values)
    finite = values[is_finite]
    if len(finite) == 0:
        return np.full(len(values), MISSING_BYTE, dtype=np.uint8), {"low": 0.0, "step": 1.0}
    low, high = float(finite.min()), float(finite.max())
    if high - low <= N_LEVELS and (finite == np.round(finite)).all():
        step = 1.0
    else:
        inner = [float(end) for end in np.quantile(finite, TAILS)]
        if high - low > MAX_TAIL * (inner[1] - inner[0]) > 0:  # a few cells must not leave the others without levels
            low, high = min(inner[0], 0.0) if low == 0 else inner[0], inner[1]
        step = (high - low) / N_LEVELS
    codes = np.full(len(values), MISSING_BYTE, dtype=np.uint8)
    codes[is_finite] = np.clip(np.round((finite - low) / step), 0, N_LEVELS).astype(np.uint8)
    return codes, {"low": low, "step": step}
