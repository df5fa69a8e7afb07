"""Training: the loop of scvi-tools, checkpoints to resume from, and several devices.

``_checkpoint.py`` is the state of training in a file; ``_devices.py`` has what several processes need;
``_interrupt.py`` is what Ctrl-C does; ``_arguments.py`` says what takes the place of arguments of scvi-tools.
Open first: ``_training.py``.
"""

from petri_scvi.model.training._interrupt import interrupted_model_is_kept
from petri_scvi.model.training._training import TrainingMixin
from petri_scvi.model.training._unfinished_epoch import UnfinishedEpoch

__all__ = ["TrainingMixin", "UnfinishedEpoch", "interrupted_model_is_kept"]
