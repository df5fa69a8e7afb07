"""Draw what a model or a ``tl`` function returned. One function, one Axes."""

from petri_scvi.pl._crops import reconstructed_crops
from petri_scvi.pl._expression import reconstructed_expression
from petri_scvi.pl._history import training_history

__all__ = ["reconstructed_crops", "reconstructed_expression", "training_history"]
