"""Pictures of the scores that ``petri_scvi.tl`` computes, one file per score.

Those that order genes or perturbations by a value share ``_ranking.py``.
Open first: ``_score_screen.py`` for all scores at once, or ``_consistency.py``, the simplest one.
"""

from petri_scvi.pl.scores._alignment import context_recall, foscttm
from petri_scvi.pl.scores._average_precision import mean_average_precision
from petri_scvi.pl.scores._consistency import guide_consistency, replicate_consistency
from petri_scvi.pl.scores._edge_recall import edge_recall, efaar_recall
from petri_scvi.pl.scores._mixing import mixing
from petri_scvi.pl.scores._perturbation_strength import perturbation_strength
from petri_scvi.pl.scores._probe import probe
from petri_scvi.pl.scores._score_screen import score_screen
from petri_scvi.pl.scores._variance_shares import variance_shares

__all__ = [
    "context_recall",
    "edge_recall",
    "efaar_recall",
    "foscttm",
    "guide_consistency",
    "mean_average_precision",
    "mixing",
    "perturbation_strength",
    "probe",
    "replicate_consistency",
    "score_screen",
    "variance_shares",
]
