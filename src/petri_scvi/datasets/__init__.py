"""Screens to try PETRI on."""

from ._hepg2_screen import hepg2_screen
from ._periscope import periscope
from ._perturb_multi import perturb_multi
from ._perturb_seq import hepg2_perturbseq, replogle
from ._semisynthetic import semisynthetic_screen
from ._stringdb import stringdb
from ._synthetic import synthetic_screen

__all__ = [
    "hepg2_perturbseq",
    "hepg2_screen",
    "periscope",
    "perturb_multi",
    "replogle",
    "semisynthetic_screen",
    "stringdb",
    "synthetic_screen",
]
