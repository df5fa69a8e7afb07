"""What a model knows about its data: how a MuData is registered, and how its rows are found again.

``_fields.py`` and ``_context_field.py`` are the registered fields of modalities and contexts.
Open first: ``_setup.py``, then ``_registered.py``.
"""

from petri_scvi.model.setup._context_field import ContextField
from petri_scvi.model.setup._fields import ModalityField
from petri_scvi.model.setup._registered import RegisteredData
from petri_scvi.model.setup._setup import SetupMixin, check_contexts

__all__ = ["ContextField", "ModalityField", "RegisteredData", "SetupMixin", "check_contexts"]
