"""Score an embedding: consistency, known gene pairs, retrieval, strength, probes, mixing, alignment, variance.

A file per score; ``_edges.py`` and ``_bootstrap.py`` have the known pairs and the confidence intervals.
Open first: ``_score_screen.py``, which calls the others, or ``_guide_consistency.py``, the simplest one.
"""

from petri_scvi.tl.scores._alignment import context_recall, foscttm
from petri_scvi.tl.scores._average_precision import mean_average_precision
from petri_scvi.tl.scores._edge_recall import edge_recall, efaar_recall
from petri_scvi.tl.scores._guide_consistency import guide_consistency
from petri_scvi.tl.scores._mixing import mixing
from petri_scvi.tl.scores._perturbation_strength import perturbation_strength
from petri_scvi.tl.scores._probe import probe
from petri_scvi.tl.scores._replicate_consistency import replicate_consistency
from petri_scvi.tl.scores._score_screen import score_screen
from petri_scvi.tl.scores._variance_shares import variance_shares

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
