"""Registration: how a MuData is registered with a model, and how the registered cells are found later.

Which row of a MuData is which row of a modality is decided in ``common/_rows.py``.
``_context_field.py`` is the registered field of contexts; those of modalities are in :mod:`petri_scvi.modalities`.
``_managers.py`` says how long data and its registration live.
Open first: ``_setup.py``, then ``_registered.py``.
"""

from petri_scvi.model.setup._context_field import ContextField
from petri_scvi.model.setup._registered import RegisteredData
from petri_scvi.model.setup._setup import RegistrationMixin, SetupMixin

__all__ = ["ContextField", "RegisteredData", "RegistrationMixin", "SetupMixin"]
