"""Example screens.

``synthetic/`` simulates them, ``public/`` reads published ones, and ``cache/`` downloads and verifies files.
Open first: ``synthetic/``.
"""

from petri_scvi.datasets.public import (
    hepg2_perturbseq,
    hepg2_screen,
    olfactory_bulb,
    periscope,
    perturb_multi,
    replogle,
    rosetta,
    scgenescope,
    stringdb,
)
from petri_scvi.datasets.synthetic import semisynthetic_screen, synthetic_screen

__all__ = [
    "hepg2_perturbseq",
    "hepg2_screen",
    "olfactory_bulb",
    "periscope",
    "perturb_multi",
    "replogle",
    "rosetta",
    "scgenescope",
    "semisynthetic_screen",
    "stringdb",
    "synthetic_screen",
]
