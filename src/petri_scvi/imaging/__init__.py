"""Measure image crops: intensities on a common scale, a mask of the cell, and features.

Used by baselines and by ``petri_scvi.tl``.
Open first: ``_measurements.py``.
"""

from petri_scvi.imaging._intensities import channel_moments, channel_range, to_unit_range
from petri_scvi.imaging._mask import cell_mask
from petri_scvi.imaging._measurements import measure_crops
from petri_scvi.imaging._parallel import measure_rows

__all__ = [
    "cell_mask",
    "channel_moments",
    "channel_range",
    "measure_crops",
    "measure_rows",
    "to_unit_range",
]
