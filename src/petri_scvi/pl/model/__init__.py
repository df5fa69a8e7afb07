"""Pictures of a trained model: its loss curves, and what it reconstructs.

They draw what the model returned, such as ``model.history`` and ``model.get_reconstruction()``.
Open first: ``_training_history.py``.
"""

from petri_scvi.pl.model._reconstructed_crops import reconstructed_crops
from petri_scvi.pl.model._reconstructed_expression import reconstructed_expression
from petri_scvi.pl.model._training_history import training_history

__all__ = ["reconstructed_crops", "reconstructed_expression", "training_history"]
