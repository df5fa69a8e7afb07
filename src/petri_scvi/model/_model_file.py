"""The file of a model: weights and plain values, in the form that scvi-tools reads too."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from petri_scvi._compat import FIELD_REGISTRIES_KEY, MODEL_NAME_KEY, SAVE_KEYS
from petri_scvi.common import (
    UnreadableFileError,
    check_file_name,
    check_seal,
    check_stored,
    code_in,
    read_sealed,
    write_sealed,
)
from petri_scvi.model._values import from_json, to_json, to_plain

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "petri-scvi model 1"
ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*_")
"""Names of attributes that scvi-tools saves."""
WEIGHTS, ATTRIBUTES, VAR_NAMES = SAVE_KEYS.MODEL_STATE_DICT_KEY, SAVE_KEYS.ATTR_DICT_KEY, SAVE_KEYS.VAR_NAMES_KEY
REGISTRY, ARGUMENTS = "registry_", "init_params_"
REPLACED = ("adata", "mdata", "registry")
"""Arguments of a model that loading sets; files of older versions contain them."""
USUAL = {"numpy", "pandas", "collections", "builtins", "torch", "scvi", "_codecs", "copyreg", "petri_scvi"}
"""Packages whose names occur in pickled models."""
UNUSUAL = {f"builtins.{name}" for name in ("eval", "exec", "getattr", "compile", "open", "__import__", "breakpoint")}
"""Names from these packages that occur in no pickled model."""
COUNTS = ("_depth", "_layers")
"""Suffixes of arguments that are numbers of layers, each of which has weights."""

EARLIER_ENCODER: dict[str, Any] = {
    "embed_dim": 256,
    "n_heads": 8,
    "patch_size": 8,
    "image_encoder_depth": 6,
    "expression_encoder_depth": 4,
}
EARLIER_DECODERS: dict[str, Any] = {"image_decoder_depth": 2, "image_decoder_dim": 128, "expression_decoder_dim": 512}
"""Sizes of baselines that did not record them."""


class SavedModel(NamedTuple):
    """Content of the file of a model."""

    weights: dict[str, torch.Tensor]
    arguments: dict[str, Any]
    """Those that the model was built with, except data and registry."""
    registry: dict[str, Any]
    attributes: dict[str, Any]
    """The other attributes that end with ``_``, such as ``is_trained_``."""

    @property
    def class_name(self) -> str:
        """Name of the model's class."""
        return str(self.registry[MODEL_NAME_KEY])


def write_model(
    path: Path, attributes: dict[str, Any], weights: dict[str, torch.Tensor], var_names: Any, **save_kwargs: Any
) -> None:
    """Write a model.

    Parameters
    ----------
    path
        File to write.
    attributes
        Attributes of the model that end with ``_``.
    weights
        State of its module.
    var_names
        Names of genes and channels.
    save_kwargs
        Arguments of :func:`torch.save`.

    Raises
    ------
    ValueError
        A weight is not finite, or an attribute is not a plain value.
    """
    check_finite(weights)
    text, arrays = to_json(attributes, "model")
    # scvi-tools' own readers look for the names of these entries.
    content = {
        "format": FORMAT,
        "version": importlib.metadata.version("petri-scvi"),
        WEIGHTS: {name: tensor.detach().cpu() for name, tensor in weights.items()},
        VAR_NAMES: to_plain(var_names),
        ATTRIBUTES: {name: to_plain(attributes[name]) for name in (REGISTRY, ARGUMENTS)},
        "attributes": text,
        "arrays": arrays,
    }
    write_sealed(path, content, **save_kwargs)


def check_finite(weights: dict[str, torch.Tensor]) -> None:
    """Require weights without NaN and infinity.

    Raises
    ------
    ValueError
        A weight is not finite; the error names the first one.
    """
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(weights)} weights of the model are NaN or infinite, such as {bad[0]}, so it is not "
            "saved. Make a new model and train it with a smaller learning rate: "
            "model.train(plan_kwargs={'lr': 1e-4})."
        )


def read_model(path: Path, *, trust_file: bool) -> SavedModel:
    """Read a model.

    Parameters
    ----------
    path
        The file.
    trust_file
        Whether a file may be read with pickle, which runs whatever code it names, if it was written so.

    Raises
    ------
    ValueError
        The file does not contain a model, is incomplete, was changed, or is pickled although it is not trusted.
    """
    is_pickled = _is_pickled(path)
    if is_pickled and not trust_file:
        raise ValueError(_reason_to_refuse(path))
    try:
        return _pickled(path) if is_pickled else _plain(path)
    except UnreadableFileError as error:
        raise incomplete(path, str(error)) from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise incomplete(path, f"does not contain a model ({type(error).__name__}: {error})") from error


def _reason_to_refuse(path: Path) -> str:
    """Why a pickled file is not read."""
    names = code_in(path)
    odd = [name for name in names if name.partition(".")[0] not in USUAL or name in UNUSUAL]
    if odd:
        return (
            f"{path} was written with pickle and names code to run that no model needs: {', '.join(odd[:5])}. Do not "
            "open it; fetch another copy of the model from where it was published."
        )
    return (
        f"{path} was written with pickle, as scvi-tools and early versions of petri-scvi do. Reading it can run any "
        "code, so petri-scvi does not do so by default. If you wrote the file yourself or trust whoever did, pass "
        "trust_file=True to load(), and then save the model again: model.save(folder, overwrite=True)."
    )


def incomplete(path: Path, reason: str) -> ValueError:
    """The error for a file that holds no model."""
    return ValueError(
        f"{path} {reason}; it does not hold a complete model. Pass the folder that model.save() was given; if this is "
        "the one, save the model again or fetch another copy of the file."
    )


def _is_pickled(path: Path) -> bool:
    """Whether a file is an archive with pickled objects, and has no checksum of petri-scvi."""
    try:
        check_seal(path)
    except UnreadableFileError:
        return bool(code_in(path))
    return False


def _plain(path: Path) -> SavedModel:
    """Read the safe form."""
    content = read_sealed(path)
    found = content.get("format")
    if found != FORMAT:
        raise UnreadableFileError(f"has the format {found!r}, where this version of petri-scvi reads {FORMAT!r}")
    return _saved_model(content[WEIGHTS], from_json(content["attributes"], content["arrays"]))


def _pickled(path: Path) -> SavedModel:
    """Read the form of scvi-tools."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableFileError(f"cannot be read by torch ({type(error).__name__}: {error})") from error
    weights = dict(content[WEIGHTS])
    weights.pop("pyro_param_store", None)
    return _saved_model(weights, dict(content[ATTRIBUTES]))


def _saved_model(weights: dict[str, Any], attributes: dict[str, Any]) -> SavedModel:
    """Check what was read."""
    arguments, registry = attributes.pop(ARGUMENTS), attributes.pop(REGISTRY)
    arguments = {**arguments["non_kwargs"], **{k: v for part in arguments["kwargs"].values() for k, v in part.items()}}
    arguments = {name: value for name, value in arguments.items() if name not in REPLACED}
    deep = [name for name in arguments if name.endswith(COUNTS) and arguments[name] > len(weights)]
    if deep:
        raise UnreadableFileError(f"has {len(weights)} weights for {deep[0]}={arguments[deep[0]]}")
    if not isinstance(registry[MODEL_NAME_KEY], str) or not isinstance(registry[FIELD_REGISTRIES_KEY], dict):
        raise TypeError("the registry has no name of a class or no fields")
    odd = [name for name in attributes if not ATTRIBUTE.fullmatch(name)]
    if odd:
        raise TypeError(f"{odd[0]!r} is not an attribute of a model")
    weights = {str(name): check_stored(weight) for name, weight in weights.items()}
    return SavedModel(
        weights, {**_earlier_defaults(weights, registry[MODEL_NAME_KEY]), **arguments}, registry, attributes
    )


def _earlier_defaults(weights: dict[str, Any], class_name: str) -> dict[str, Any]:
    """Arguments that the file may not contain, with their default when such files were written."""
    if not any(name.endswith(".encoder.latents") for name in weights):
        return {}
    has_path = any(".encoder.linear_path." in name for name in weights)
    defaults = {} if has_path else {"linear_path": False}
    if class_name != "PETRI":  # which has always recorded its sizes
        defaults |= EARLIER_ENCODER
        if any(".decoder." in name for name in weights):
            defaults |= EARLIER_DECODERS
    return defaults


def file_name(prefix: str | None, name: str) -> str:
    """Name of a file of a model."""
    if prefix:
        check_file_name(f"{prefix}{name}", "prefix", prefix)
    return f"{prefix or ''}{name}"


def model_path(folder: Path, prefix: str | None) -> Path:
    """File of a model that was saved to a folder."""
    path = folder / file_name(prefix, SAVE_KEYS.MODEL_FNAME)
    if not path.exists():
        raise ValueError(f"{folder} has no file {path.name}. Pass the folder that model.save() was given.")
    return path
