"""Attributes of a model as JSON, with arrays of numbers beside it as tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "!"
"""Key of an object in the JSON that stands for something that JSON does not have."""
NUMERIC = "biuf"


def to_json(value: Any, name: str) -> tuple[str, list[torch.Tensor]]:
    """Text from which :func:`from_json` makes an equal value, and the arrays that it refers to.

    Parameters
    ----------
    value
        Numbers, texts, ``None``, lists, tuples, dictionaries, arrays and data frames, in each other.
    name
        What the value is called in errors.

    Raises
    ------
    ValueError
        The value contains anything else.
    """
    tensors: list[torch.Tensor] = []
    return json.dumps(_encode(value, name, tensors), allow_nan=False), tensors


def from_json(text: str, tensors: list[torch.Tensor]) -> Any:
    """Reconstruct the value that :func:`to_json` was given.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError
        The text was not made by it.
    """
    return _decode(json.loads(text), tensors)


def to_plain(value: Any) -> Any:
    """Copy a value with lists in place of tuples and arrays, for readers that expect plain values."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | set | np.ndarray | pd.Index | pd.Series | pd.api.extensions.ExtensionArray):
        return [to_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _encode(value: Any, name: str, tensors: list[torch.Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {KIND: "float", "value": str(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        return [_encode(item, f"{name}[{i}]", tensors) for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {KIND: "tuple", "items": _encode(list(value), name, tensors)}
    if isinstance(value, Mapping):
        return _encode_mapping(value, name, tensors)
    if isinstance(value, pd.DataFrame):
        columns = [_encode(value[column].to_numpy(), f"{name}[{column!r}]", tensors) for column in value]
        table = {"names": _encode(list(value.columns), name, tensors), "columns": columns}
        index = _encode(value.index.to_numpy(), f"{name}.index", tensors)
        return {KIND: "table", **table, "index": index, "index_name": _encode(value.index.name, name, tensors)}
    if isinstance(value, np.ndarray | torch.Tensor | pd.Index | pd.Series | pd.api.extensions.ExtensionArray):
        return _encode_array(value, name, tensors)
    raise ValueError(
        f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which a model file cannot hold. Pass "
        "numbers, text, None, or lists, dictionaries, arrays or data frames of these."
    )


def _encode_mapping(value: Mapping[Any, Any], name: str, tensors: list[torch.Tensor]) -> Any:
    if all(isinstance(key, str) for key in value) and KIND not in value:
        return {key: _encode(item, f"{name}[{key!r}]", tensors) for key, item in value.items()}
    pairs = [[_encode(key, name, tensors), _encode(item, f"{name}[{key!r}]", tensors)] for key, item in value.items()]
    return {KIND: "dictionary", "items": pairs}


def _encode_array(value: Any, name: str, tensors: list[torch.Tensor]) -> Any:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind in NUMERIC:
        tensors.append(torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C")))
        return {KIND: "array", "tensor": len(tensors) - 1}
    items = [_encode(item, name, tensors) for item in array.ravel().tolist()]
    return {KIND: "array", "items": items, "shape": list(array.shape)}


def _decode(value: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: _decode(item, tensors) for key, item in value.items()}
    return DECODERS[value[KIND]](value, tensors)


def _decode_array(value: dict[str, Any], tensors: list[torch.Tensor]) -> np.ndarray[Any, Any]:
    if "tensor" in value:
        return tensors[value["tensor"]].numpy()
    items = _decode(value["items"], tensors)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(value["shape"])


def _decode_table(value: dict[str, Any], tensors: list[torch.Tensor]) -> pd.DataFrame:
    index = pd.Index(_decode(value["index"], tensors), name=_decode(value["index_name"], tensors))
    columns = [_decode(column, tensors) for column in value["columns"]]
    names = _decode(value["names"], tensors)
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)


DECODERS: dict[str, Callable[[dict[str, Any], list[torch.Tensor]], Any]] = {
    "float": lambda value, tensors: float(value["value"]),
    "tuple": lambda value, tensors: tuple(_decode(value["items"], tensors)),
    "dictionary": lambda value, tensors: {
        _decode(key, tensors): _decode(item, tensors) for key, item in value["items"]
    },
    "array": _decode_array,
    "table": _decode_table,
}
