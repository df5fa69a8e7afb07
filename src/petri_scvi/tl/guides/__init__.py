"""The Bayesian guide model: which guides worked, what their genes do, and how sure this is (extra ``bayes``).

``_guide_coordinates.py`` and ``_guide_inference.py`` are all that imports JAX, and only when the model is sampled.
Open first: ``_guide_model.py``, then ``_guide_likelihood.py`` for the model itself.
"""

from petri_scvi.tl.guides._guide_model import guide_model

__all__ = ["guide_model"]
