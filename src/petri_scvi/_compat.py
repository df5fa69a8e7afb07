"""What differs between the supported versions of scverse packages.

The only file that imports scvi-tools names that start with an underscore.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import mudata

# scvi-tools calls rich.pretty without importing it, and rich >= 15 no longer does so by itself.
import rich.pretty  # noqa: F401
from scvi.data._constants import _FIELD_REGISTRIES_KEY as FIELD_REGISTRIES_KEY
from scvi.data._constants import _MODEL_NAME_KEY as MODEL_NAME_KEY
from scvi.data._constants import _SCVI_UUID_KEY as SCVI_UUID_KEY
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY
from scvi.data._constants import _STATE_REGISTRY_KEY as STATE_REGISTRY_KEY
from scvi.model._utils import get_max_epochs_heuristic
from scvi.model.base._constants import SAVE_KEYS
from scvi.train._logger import SimpleLogger

__all__ = [
    "FIELD_REGISTRIES_KEY",
    "MODEL_NAME_KEY",
    "SAVE_KEYS",
    "SCVI_UUID_KEY",
    "SETUP_ARGS_KEY",
    "STATE_REGISTRY_KEY",
    "SimpleLogger",
    "columns_stay_in_modalities",
    "get_max_epochs_heuristic",
]


def columns_stay_in_modalities() -> AbstractContextManager:
    """Make, read or write a MuData without copying ``obs`` columns of the modalities to the top.

    There they would have gaps for the cells of other modalities. From mudata 0.4 on, nothing is copied anyway.
    """
    return mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
