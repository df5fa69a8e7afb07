"""Training: the loop of scvi-tools, checkpoints to resume from, and several devices.

``_checkpoint.py`` is the state of training in a file; ``_devices.py`` has what several processes need;
``_interrupt.py`` is what Ctrl-C does.
Open first: ``_training.py``.
"""

from petri_scvi.model.training._interrupt import interrupted_model_is_kept
from petri_scvi.model.training._training import TrainingMixin

__all__ = ["TrainingMixin", "interrupted_model_is_kept"]
