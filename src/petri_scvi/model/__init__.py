"""The parts of :class:`petri_scvi.PETRI`, one file per thing that a model does."""

from petri_scvi.model._networks import build_module
from petri_scvi.model._reconstruction import Reconstruction, ReconstructionMixin
from petri_scvi.model._representation import RepresentationMixin
from petri_scvi.model._saving import SavingMixin
from petri_scvi.model._setup import SetupMixin
from petri_scvi.model._training import TrainingMixin

__all__ = [
    "Reconstruction",
    "ReconstructionMixin",
    "RepresentationMixin",
    "SavingMixin",
    "SetupMixin",
    "TrainingMixin",
    "build_module",
]
