"""Pictures of the dimensions of an embedding.

``_dimension_results.py`` collects the results about a dimension; :mod:`petri_scvi.pages` shows the same in a browser.
Open first: ``_dimension.py``.
"""

from petri_scvi.pl.concepts._dimension import dimension
from petri_scvi.pl.concepts._multimodal_dimensions import multimodal_dimensions

__all__ = ["dimension", "multimodal_dimensions"]
