"""Public screens, one file per source, read to the columns in ``_standard_obs.py``.

``_example_sbs.py`` and ``_papalexi.py`` have the cells of the semisynthetic screen; ``_stringdb.py`` has gene pairs;
``scgenescope/`` has several files.
Open first: ``_perturb_seq.py``.
"""

from petri_scvi.datasets.public._hepg2_screen import hepg2_screen
from petri_scvi.datasets.public._olfactory_bulb import olfactory_bulb
from petri_scvi.datasets.public._periscope import periscope
from petri_scvi.datasets.public._perturb_multi import perturb_multi
from petri_scvi.datasets.public._perturb_seq import hepg2_perturbseq, replogle
from petri_scvi.datasets.public._rosetta import rosetta
from petri_scvi.datasets.public._stringdb import stringdb
from petri_scvi.datasets.public.scgenescope import scgenescope

__all__ = [
    "hepg2_perturbseq",
    "hepg2_screen",
    "olfactory_bulb",
    "periscope",
    "perturb_multi",
    "replogle",
    "rosetta",
    "scgenescope",
    "stringdb",
]
