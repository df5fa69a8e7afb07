"""PETRI: one embedding space from unpaired imaging and transcriptomics screens."""

from importlib.metadata import version

from petri_scvi import baselines, datasets, io, pages, pl, pp, tl
from petri_scvi._model import PETRI
from petri_scvi._module import PETRIModule
from petri_scvi._training_plan import PETRITrainingPlan
from petri_scvi.model import Reconstruction
from petri_scvi.tl.concepts import SparseAutoencoder

__all__ = [
    "PETRI",
    "PETRIModule",
    "PETRITrainingPlan",
    "Reconstruction",
    "SparseAutoencoder",
    "__version__",
    "baselines",
    "datasets",
    "io",
    "pages",
    "pl",
    "pp",
    "tl",
]
__version__ = version("petri-scvi")
