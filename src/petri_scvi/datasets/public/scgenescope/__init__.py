"""scGeneScope: ``_cells.py`` chooses cells and reads tables, ``_crops.py`` reads images from the zip files of plates.

Open first: ``_scgenescope.py``.
"""

from petri_scvi.datasets.public.scgenescope._scgenescope import scgenescope

__all__ = ["scgenescope"]
