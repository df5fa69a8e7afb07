"""Differences between the supported versions of scverse packages.

The only file that imports scvi-tools names that start with an underscore.
"""

from __future__ import annotations

import os
import warnings
import weakref
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import anndata
import mudata

# scvi-tools calls rich.pretty without importing it, and rich >= 15 no longer does so by itself.
import rich.pretty  # noqa: F401
import torch
from scvi.data._constants import _FIELD_REGISTRIES_KEY as FIELD_REGISTRIES_KEY
from scvi.data._constants import _MANAGER_UUID_KEY as MANAGER_UUID_KEY
from scvi.data._constants import _MODEL_NAME_KEY as MODEL_NAME_KEY
from scvi.data._constants import _SCVI_UUID_KEY as SCVI_UUID_KEY
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY
from scvi.data._constants import _STATE_REGISTRY_KEY as STATE_REGISTRY_KEY
from scvi.data._download import _download as download_if_missing
from scvi.model._utils import parse_device_args
from scvi.model.base._constants import SAVE_KEYS
from scvi.train._logger import SimpleLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FIELD_REGISTRIES_KEY",
    "MANAGER_UUID_KEY",
    "MODEL_NAME_KEY",
    "SAVE_KEYS",
    "SCVI_UUID_KEY",
    "SETUP_ARGS_KEY",
    "STATE_REGISTRY_KEY",
    "SimpleLogger",
    "columns_stay_in_modalities",
    "download_if_missing",
    "forget_data",
    "forget_setup",
    "forget_with_data",
    "forget_with_model",
    "known_manager",
    "parse_device_args",
    "store_of_run",
    "tables_in_zarr_v3",
]


def columns_stay_in_modalities() -> AbstractContextManager:
    """Create, read or write a MuData without copying ``obs`` columns of the modalities to its own ``obs``.

    There they would have gaps for the cells of other modalities. From mudata 0.4 on, nothing is copied anyway.
    """
    return mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()


@contextmanager
def tables_in_zarr_v3() -> Iterator[None]:
    """Write AnnData and MuData to zarr v3; anndata 0.12 writes v2 unless asked.

    Automatic sharding is switched off in releases that have it. The warnings that it will become the default, and that
    anndata 0.13 will remove the setting, which mudata 0.4 reads, are suppressed.
    """
    settings = {"zarr_write_format": 3, "auto_shard_zarr_v3": False}
    known = dir(anndata.settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This setting will be removed", DeprecationWarning)
        with anndata.settings.override(**{name: value for name, value in settings.items() if name in known}):
            yield


def known_manager(model: Any, data: Any) -> Any:
    """Manager in which a model of scvi-tools keeps the data with this identifier, or ``None``."""
    return model._per_instance_manager_store.get(model.id, {}).get(data.uns.get(SCVI_UUID_KEY))


def forget_with_data(owner: Any, manager: Any) -> None:
    """Remove a manager from a class or a model of scvi-tools when its data is deleted.

    scvi-tools keeps managers until the process ends.
    """
    is_class = isinstance(owner, type)
    store = owner._setup_adata_manager_store if is_class else owner._per_instance_manager_store[owner.id]
    weakref.finalize(manager.adata, _forget, store, weakref.ref(manager)).atexit = False


def _forget(store: dict[str, Any], manager: weakref.ref[Any]) -> None:
    for key in [key for key, found in store.items() if found is manager()]:
        del store[key]


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_with_model(model: Any) -> None:
    """Remove the managers of a model of scvi-tools when it is deleted."""
    if model not in _watched:
        _watched.add(model)
        weakref.finalize(model, model._per_instance_manager_store.pop, model.id, None).atexit = False


def forget_data(model: Any, data: Any) -> None:
    """Remove data from a model of scvi-tools that it was applied to.

    Its own ``deregister_manager`` knows only data that was set up with the class.
    """
    model._per_instance_manager_store.get(model.id, {}).pop(data.uns.get(SCVI_UUID_KEY), None)


def forget_setup(model: Any) -> None:
    """Let the class of a model of scvi-tools forget the data of the model, of which no other model will be made."""
    model._setup_adata_manager_store.pop(model.adata.uns[SCVI_UUID_KEY], None)
    forget_with_model(model)


def store_of_run() -> Any:
    """Key-value store that the processes of a distributed run share; ``None`` outside one.

    It is there once training has joined the processes, and with torchrun from the beginning.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if torch.distributed.get_world_size() == 1:
            return None
        return torch.distributed.distributed_c10d._get_default_store()
    is_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("WORLD_SIZE") != "1"
    return _store_of_torchrun() if is_torchrun else None


@cache
def _store_of_torchrun() -> Any:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(
        f"petri_scvi/attempt_{attempt}", torch.distributed.TCPStore(host, port, is_master=False)
    )
