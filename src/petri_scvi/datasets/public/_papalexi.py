"""Transcriptomes of the Papalexi 2021 ECCITE-seq screen, with the guide of each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from petri_scvi._checks import require
from petri_scvi._constants import CONTROL
from petri_scvi.datasets.cache._fetch import fetch
from petri_scvi.datasets.cache._registry import PAPALEXI

if TYPE_CHECKING:
    from pathlib import Path

MIN_GUIDE_COUNTS = 5
MIN_GUIDE_SHARE = 0.8
"""The guide of a cell is called if it has at least this many guide UMIs, more than this share of them of one guide."""


def read_transcriptomes(cache_dir: str | Path | None) -> AnnData:
    """Cells with one called guide, as counts in CSR; the replicates are the three biological ones of the study."""
    raw = _read_rda(fetch(PAPALEXI, cache_dir))
    counts, gene_names = raw["response_matrix"]  # (n_cells, n_genes)
    guide_counts, guide_names = raw["grna_matrix"]  # (n_cells, n_guides)
    called = call_guides(guide_counts)
    is_called = called >= 0
    guide = guide_names[called[is_called]]
    target_of = raw["grna_target_data_frame"].set_index("grna_id")["grna_target"].astype(str)
    target = target_of.loc[guide].replace({"non-targeting": CONTROL}).to_numpy()
    replicate = "rna_" + raw["extra_covariates"]["bio_rep"].astype(str).to_numpy()[is_called]
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(target),
            "guide": pd.Categorical(guide),
            "target_gene": pd.Categorical(target),
            "is_control": target == CONTROL,
            "replicate": pd.Categorical(replicate),
            "well": pd.Categorical(replicate),  # the lane of a cell is not recorded
            "batch": pd.Categorical(replicate),
        },
        index=[f"rna_{i:06d}" for i in range(1, int(is_called.sum()) + 1)],
    )
    return AnnData(X=counts[is_called], obs=obs, var=pd.DataFrame(index=pd.Index(gene_names)))


def call_guides(guide_counts: sparse.csr_matrix) -> np.ndarray:
    """Column of the guide each cell carries, -1 where no single guide can be called; shape ``(n_cells,)``."""
    total = np.asarray(guide_counts.sum(axis=1)).ravel()
    top = guide_counts.max(axis=1).toarray().ravel()
    is_called = (total >= MIN_GUIDE_COUNTS) & (top > MIN_GUIDE_SHARE * total)
    return np.where(is_called, np.asarray(guide_counts.argmax(axis=1)).ravel(), -1)


def _read_rda(path: Path) -> dict[str, Any]:
    """Read the R list; each sparse matrix becomes cells x rows, with the names of its rows."""
    rdata = require("rdata", "real")

    def as_csr(matrix: Any, _: Any) -> tuple[sparse.csr_matrix, np.ndarray]:
        n_rows, n_cells = matrix.Dim
        csr = sparse.csr_matrix((matrix.x.astype(np.float32), (matrix.j, matrix.i)), shape=(n_cells, n_rows))
        return csr, np.asarray(matrix.Dimnames[0], dtype=str)

    constructors = {**rdata.conversion.DEFAULT_CLASS_MAP, "dgTMatrix": as_csr}
    return rdata.read_rda(path, constructor_dict=constructors)["lowmoi_example_data"]
