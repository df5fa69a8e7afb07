"""Cut image crops around cells, out of arrays that are read block by block.

``_crop_windows.py`` cuts from any array; the two callers find image, cells and table in their kind of source.
Open first: ``_crops_from_fields.py``, then ``_crop_windows.py``.
"""

from petri_scvi.pp.crops._crops_from_fields import crops_from_fields
from petri_scvi.pp.crops._crops_from_spatialdata import crops_from_spatialdata

__all__ = ["crops_from_fields", "crops_from_spatialdata"]
