"""Counts of antibodies of a synthetic screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from ._synthetic_design import cell_effects

if TYPE_CHECKING:
    from ._synthetic_design import ScreenDesign

DISPERSION = 8.0
"""Inverse dispersion of the counts, as of :data:`DISPERSION` of the transcripts, which vary more."""
PROTEINS_PER_PROGRAM = 3
"""Proteins that a program changes, or fewer if there are fewer than twice as many."""


def draw_proteins(
    design: ScreenDesign, obs: pd.DataFrame, n_proteins: int, strength: float, rng: np.random.Generator
) -> tuple[AnnData, pd.DataFrame]:
    """Draw antibody counts of cells, and the effect of each program on each protein.

    Every program changes some proteins, whichever of the other modalities shows it.

    Returns
    -------
    Cells x proteins, integer-valued ``float32``, and the loadings, proteins x pathways, log fold change.
    """
    names = pd.Index([f"PROTEIN{i:03d}" for i in range(1, n_proteins + 1)])
    n_changed = min(PROTEINS_PER_PROGRAM, max(1, n_proteins // 2))
    loadings = np.zeros((len(design.programs), n_proteins))
    for row in loadings:
        chosen = rng.choice(n_proteins, size=n_changed, replace=False)
        row[chosen] = strength * rng.choice([-1.0, 1.0], size=n_changed) * rng.uniform(0.6, 1.5, size=n_changed)
    of_target = pd.Index(design.programs["pathway"]).get_indexer(design.targets["pathway"])
    own = strength * rng.normal(0.0, 0.2, size=(len(design.targets), n_proteins))
    effects = design.targets["strength"].to_numpy()[:, None] * loadings[of_target] + own
    log_mean = rng.normal(np.log(40.0), 1.0, size=n_proteins) + cell_effects(effects, design, obs)
    for key, scale in (("batch", 0.2), ("replicate", 0.1)):
        codes = obs[key].cat.codes.to_numpy()
        log_mean += rng.normal(0.0, scale, size=(codes.max() + 1, n_proteins))[codes]
    mean = np.exp(log_mean) * rng.lognormal(-0.08, 0.4, size=(len(obs), 1))  # antibodies that stick to a cell
    counts = rng.poisson(mean * rng.gamma(DISPERSION, 1 / DISPERSION, size=mean.shape))
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    counts[empty, mean[empty].argmax(axis=1)] = 1
    adata = AnnData(counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=names))
    return adata, pd.DataFrame(loadings.T, index=names, columns=pd.Index(design.programs["pathway"]))
