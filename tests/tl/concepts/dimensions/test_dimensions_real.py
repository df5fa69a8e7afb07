"""The tools for dimensions run on real cells; no biological result is asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import sparse

from petri_scvi import datasets, pages, pl, tl

if TYPE_CHECKING:
    from pathlib import Path

INTERFERON = ["IFNGR1", "IFNGR2", "JAK2", "STAT1"]


@pytest.mark.real
def test_all_tools_run_on_real_cells_and_the_knocked_out_pathway_has_its_genes(tmp_path: Path) -> None:
    """A planted dimension marks cells without the interferon receptor's pathway."""
    mdata = datasets.semisynthetic_screen()
    rng = np.random.default_rng(0)
    columns = []
    for adata in mdata.mod.values():
        is_hit = adata.obs["target_gene"].isin(INTERFERON).to_numpy()
        columns.append(np.stack([is_hit, rng.random(adata.n_obs) < 0.3], axis=1))
    activations = np.vstack(columns) * rng.uniform(0.5, 1.0, size=(mdata.n_obs, 2))
    mdata.obsm["X_sae"] = sparse.csr_matrix(activations.astype(np.float32))
    tl.image_features(mdata, max_cells=300, n_jobs=1, progress=False)
    tl.dimension_image_features(mdata)
    tl.dimension_genes(mdata, batch_key="batch", rankby_abs=True, progress=False)
    genes = mdata.uns["petri_scvi"]["dimension_genes_X_sae"]["table"]
    top = genes[(genes["dimension"] == 0) & (genes["rank"] <= 10)].set_index("gene")["correlation"]
    # Interferon's targets fall in cells that cannot see it; this half of the screen is measured, not assigned.
    assert {"STAT1", "PSMB9", "UBE2L6"} <= set(top.index[top < 0])
    sets = {"DOWN": list(top.index[top < 0]), "OTHER": list(mdata["rna"].var_names[:20])}
    tl.dimension_gene_sets(mdata, sets, min_size=3)
    tl.dimension_activity(mdata)
    table = tl.describe_dimensions(mdata)
    assert table["n_genes"][0] > 10 > table["n_genes"][1]
    assert set(pl.dimension(mdata, 0)) == {"crops", "perturbations", "genes", "gene_sets", "image_features"}
    assert pages.dimension_report(mdata, tmp_path / "report.html", progress=False).stat().st_size > 10_000
