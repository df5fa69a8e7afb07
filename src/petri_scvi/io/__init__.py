"""Screens on disk: open them, write them so that they train fast, and verify them.

``_open.py`` opens any file without reading its large arrays; ``store/`` has the format of a training store.
Open first: ``_training_store.py``.
"""

from petri_scvi.io._open import open_screen
from petri_scvi.io._training_store import verify_training_store, write_training_store

__all__ = ["open_screen", "verify_training_store", "write_training_store"]
