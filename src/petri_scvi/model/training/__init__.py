"""Training: the loop of scvi-tools, checkpoints to resume from, and several devices.

``_checkpoint.py`` is the state of training in a file; ``_devices.py`` has what several processes need.
Open first: ``_training.py``.
"""

from petri_scvi.model.training._training import TrainingMixin

__all__ = ["TrainingMixin"]
