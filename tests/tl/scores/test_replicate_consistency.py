from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pytest
from scipy.stats import kstest

from petri_scvi.tl import replicate_consistency

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    MakeCells = Callable[..., AnnData]


def result_of(data: AnnData | MuData, **changes: Any) -> dict[str, Any]:
    replicate_consistency(data, "X_emb", **({"n_null": 2000} | changes))
    return data.uns["petri_scvi"]["replicate_consistency_X_emb"]


def test_similarity_is_the_cosine_between_replicates(make_cells: MakeCells) -> None:
    adata = make_cells()
    table = result_of(adata)["table"].set_index("perturbation")
    means = {
        name: adata.obsm["X_emb"][rows].astype(float).mean(axis=0)
        for name, rows in adata.obs.groupby(["perturbation", "replicate"]).indices.items()
    }
    for gene in table.index:
        a, b = means[gene, "r0"], means[gene, "r1"]
        assert table.loc[gene, "similarity"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)
    assert table["n_replicates"].eq(2).all()
    assert "non-targeting" not in table.index


def test_a_batch_effect_alone_is_no_agreement(make_cells: MakeCells) -> None:
    """All profiles of a replicate share a large shift; perturbations do nothing."""
    adata = make_cells(n_genes=30, signal=0.0)
    adata.obsm["X_emb"][:] += 20  # replicates now agree nearly perfectly, for any pair of perturbations
    result = result_of(adata)
    assert result["table"]["similarity"].min() > 0.9
    assert result["score"] <= 0.05


def test_effects_that_replicate_are_found(make_cells: MakeCells) -> None:
    adata = make_cells(n_genes=30, n_dims=20)
    adata.obsm["X_emb"][(adata.obs["replicate"] == "r1").to_numpy()] -= 6.0
    assert result_of(adata)["score"] > 0.9


@pytest.mark.slow
def test_p_values_are_uniform_without_effect(make_cells: MakeCells) -> None:
    p_values = []
    for seed in range(200):
        adata = make_cells(n_genes=20, n_guides=1, n_per_guide=4, signal=0.0, seed=seed)
        p_values.append(result_of(adata, n_null=500, seed=seed)["table"]["p_value"].iloc[0])
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_what_cannot_be_scored_is_counted(make_cells: MakeCells) -> None:
    adata = make_cells()
    is_lost = (adata.obs["perturbation"] == "GENE0") & (adata.obs["replicate"] == "r1")
    adata = adata[~is_lost].copy()
    with pytest.warns(UserWarning, match="1 perturbations have too few replicates"):
        result = result_of(adata)
    assert len(result["table"]) == 5
    adata.obs["replicate"] = "only"
    with pytest.raises(ValueError, match=r"no perturbation was seen in two values of obs\['replicate'\]"):
        result_of(adata)


def test_modalities_are_scored_apart_and_survive_a_file(make_mudata: Callable[..., MuData], tmp_path: Path) -> None:
    mdata = make_mudata()
    result = result_of(mdata)
    assert result["table"].groupby("modality").size().to_dict() == {"image": 6, "rna": 6}
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["replicate_consistency_X_emb"]
    np.testing.assert_array_equal(read["table"]["p_value"], result["table"]["p_value"])
    assert read["parameters"]["replicate_key"] == "replicate"


def test_numbers_out_of_range_are_refused(make_cells: MakeCells) -> None:
    with pytest.raises(ValueError, match="n_null=0; it must be at least 1"):
        result_of(make_cells(), n_null=0)
    with pytest.raises(ValueError, match="alpha=1 is not accepted"):
        result_of(make_cells(), alpha=1)


def test_nan_cells_are_counted(make_cells: MakeCells) -> None:
    adata = make_cells()
    adata.obsm["X_emb"][0] = np.nan
    with pytest.warns(UserWarning, match="1 cells are NaN"):
        result = result_of(adata)
    assert result["table"]["similarity"].notna().all()
