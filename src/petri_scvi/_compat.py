"""The only file that imports scvi-tools names that start with an underscore."""

# scvi-tools calls rich.pretty without importing it, and rich >= 15 no longer does so by itself.
import rich.pretty  # noqa: F401
from scvi.data._constants import _FIELD_REGISTRIES_KEY as FIELD_REGISTRIES_KEY
from scvi.data._constants import _MODEL_NAME_KEY as MODEL_NAME_KEY
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY
from scvi.data._constants import _STATE_REGISTRY_KEY as STATE_REGISTRY_KEY
from scvi.model._utils import get_max_epochs_heuristic
from scvi.model.base._constants import SAVE_KEYS

__all__ = [
    "FIELD_REGISTRIES_KEY",
    "MODEL_NAME_KEY",
    "SAVE_KEYS",
    "SETUP_ARGS_KEY",
    "STATE_REGISTRY_KEY",
    "get_max_epochs_heuristic",
]
