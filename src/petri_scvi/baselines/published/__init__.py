"""Networks with published weights, used without fine-tuning: DINOv2, OpenPhenom and scGPT.

The weights are files that the user passes; nothing is downloaded.
Open first: ``_dinov2.py``.
"""

from petri_scvi.baselines.published._dinov2 import DINOv2
from petri_scvi.baselines.published._open_phenom import OpenPhenom
from petri_scvi.baselines.published._scgpt import ScGPT

__all__ = ["DINOv2", "OpenPhenom", "ScGPT"]
