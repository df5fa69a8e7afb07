"""The parts of :class:`petri_scvi.PETRI`, a file or a sub-room per thing that a model does.

``_networks.py`` builds the module, and ``_documents.py`` runs it on cells and their companions.
Open first: ``setup/``, then ``training/``.
"""

from petri_scvi.model._networks import build_modalities, build_module, check_hides_tokens, check_mask_ratio
from petri_scvi.model._representation import EmbeddingMixin, RepresentationMixin
from petri_scvi.model._saving import SavingMixin
from petri_scvi.model.reconstruction import Reconstruction, ReconstructionMixin
from petri_scvi.model.setup import ContextField, ModalityField, RegisteredData, SetupMixin, check_contexts
from petri_scvi.model.training import TrainingMixin

__all__ = [
    "ContextField",
    "EmbeddingMixin",
    "ModalityField",
    "Reconstruction",
    "ReconstructionMixin",
    "RegisteredData",
    "RepresentationMixin",
    "SavingMixin",
    "SetupMixin",
    "TrainingMixin",
    "build_modalities",
    "build_module",
    "check_contexts",
    "check_hides_tokens",
    "check_mask_ratio",
]
