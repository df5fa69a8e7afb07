"""Counts of a synthetic screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ._synthetic_design import cell_effects
from ._synthetic_realism import shift_genes

if TYPE_CHECKING:
    import pandas as pd

    from ._synthetic_design import ScreenDesign
    from ._synthetic_realism import Realism

MEAN_LIBRARY_SIZE = 110.0
"""Mean number of UMIs per cell for 300 genes; scales with the number of genes."""
DISPERSION = 3.0
"""Inverse dispersion of the negative binomial: variance is ``mean + mean**2 / DISPERSION``."""


def draw_counts(
    design: ScreenDesign, obs: pd.DataFrame, rng: np.random.Generator, realism: Realism, of_realism: np.random.Generator
) -> sparse.csr_matrix:
    """Draw UMI counts, shape ``(n_cells, n_genes)``, as integer-valued ``float32`` (what scanpy normalises).

    Notes
    -----
    ``log_mean = base + program effect + cell cycle + batch + replicate``; the softmax over genes times the library size
    is the mean of a negative binomial. Batches shift genes by normal deviates with standard deviation 0.3, replicates
    by 0.1.
    """
    n_cells, n_genes = len(obs), len(design.gene_names)
    effects = cell_effects(design.target_loadings, design, obs)  # (n_cells, n_genes)
    log_mean = design.base_log_mean + effects
    cycle = np.sin(np.pi * np.clip((obs["true_cell_cycle"].to_numpy() - 0.2) / 0.8, 0, 1) / 2)
    log_mean += cycle[:, None] * design.cell_cycle_loadings
    for key, scale in (("batch", 0.3), ("replicate", 0.1)):
        codes = obs[key].cat.codes.to_numpy()
        log_mean += rng.normal(0.0, scale, size=(codes.max() + 1, n_genes))[codes]
    log_mean = shift_genes(log_mean, effects, obs, realism, of_realism)

    share = np.exp(log_mean - log_mean.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    library_size = MEAN_LIBRARY_SIZE * n_genes / 300 * rng.lognormal(-0.08, 0.4, size=n_cells)
    mean = library_size[:, None] * share
    counts = rng.poisson(mean * rng.gamma(DISPERSION, 1 / DISPERSION, size=mean.shape))
    # With few genes, a cell may have no counts, and no pipeline would call it a cell, so it gets one molecule.
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    counts[empty, share[empty].argmax(axis=1)] = 1
    return sparse.csr_matrix(counts.astype(np.float32))
