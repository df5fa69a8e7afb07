"""Pictures of image crops.

``_montage.py`` chooses which crops to draw and reads no others; ``_crop_pictures.py`` colours them.
Open first: ``_crops.py``.
"""

from petri_scvi.pl.images._crops import crops
from petri_scvi.pl.images._umap_crops import umap_crops

__all__ = ["crops", "umap_crops"]
