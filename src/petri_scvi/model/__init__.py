"""The methods of :class:`petri_scvi.PETRI`, one file or sub-room each.

``_documents.py`` runs the module on cells and their companions.
Open first: ``setup/``, then ``training/``.
"""

from petri_scvi.model._query import QueryMixin
from petri_scvi.model._representation import EmbeddingMixin, RepresentationMixin
from petri_scvi.model.reconstruction import Reconstruction, ReconstructionMixin
from petri_scvi.model.setup import RegistrationMixin, SetupMixin
from petri_scvi.model.training import TrainingMixin, UnfinishedEpoch, interrupted_model_is_kept

__all__ = [
    "EmbeddingMixin",
    "QueryMixin",
    "Reconstruction",
    "ReconstructionMixin",
    "RegistrationMixin",
    "RepresentationMixin",
    "SetupMixin",
    "TrainingMixin",
    "UnfinishedEpoch",
    "interrupted_model_is_kept",
]
