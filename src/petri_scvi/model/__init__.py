"""The parts of :class:`petri_scvi.PETRI`, one file per thing that a model does."""

from petri_scvi.model._context_field import ContextField
from petri_scvi.model._fields import ModalityField
from petri_scvi.model._networks import build_modalities, build_module, check_hides_tokens, check_mask_ratio
from petri_scvi.model._reconstruction import Reconstruction, ReconstructionMixin
from petri_scvi.model._registered import RegisteredData
from petri_scvi.model._representation import EmbeddingMixin, RepresentationMixin
from petri_scvi.model._saving import SavingMixin
from petri_scvi.model._setup import SetupMixin, check_contexts
from petri_scvi.model._training import TrainingMixin

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
