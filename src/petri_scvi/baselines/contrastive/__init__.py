"""Encoders of PETRI, trained to recognise contexts across modalities: CLIP, CellCLIP and GroupCLIP.

Each baseline is a small class over ``_contrastive.py`` and ``_contrastive_module.py``; losses are in
``nn/_contrastive_losses.py``.
Open first: ``_clip.py``.
"""

from petri_scvi.baselines.contrastive._cell_clip import CellCLIP
from petri_scvi.baselines.contrastive._clip import CLIP
from petri_scvi.baselines.contrastive._group_clip import GroupCLIP

__all__ = ["CLIP", "CellCLIP", "GroupCLIP"]
