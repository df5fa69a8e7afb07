"""Cut image crops around cells from fields of view and SpatialData images, which are read block by block.

``_crop_windows.py`` cuts crops from any array; the two public functions find images, cells and tables in their sources.
Open first: ``_crops_from_fields.py``, then ``_crop_windows.py``.
"""

from petri_scvi.pp.crops._crops_from_fields import crops_from_fields
from petri_scvi.pp.crops._crops_from_spatialdata import crops_from_spatialdata

__all__ = ["crops_from_fields", "crops_from_spatialdata"]
