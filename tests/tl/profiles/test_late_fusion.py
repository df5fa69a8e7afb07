from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics.pairwise import cosine_similarity

from petri_scvi.tl import aggregate_guides, edge_recall, guide_consistency, late_fusion, profile_similarity

if TYPE_CHECKING:
    from pathlib import Path


def profiles(seed: int, n_dims: int, n: int = 20) -> AnnData:
    obs = pd.DataFrame({"target_gene": [f"G{i // 2}" for i in range(n)]}, index=[f"sg{i}" for i in range(n)])
    return AnnData(X=np.random.default_rng(seed).normal(size=(n, n_dims)), obs=obs)


FIRST, SECOND = profiles(0, 3), profiles(1, 5)


def test_concatenation_puts_vectors_side_by_side() -> None:
    np.testing.assert_array_equal(late_fusion([FIRST, SECOND], "concatenate").X, np.hstack([FIRST.X, SECOND.X]))


def test_mean_cosine_is_the_mean_of_the_cosines() -> None:
    fused = late_fusion([FIRST, SECOND], "mean_cosine")
    expected = (cosine_similarity(FIRST.X) + cosine_similarity(SECOND.X)) / 2
    np.testing.assert_allclose(cosine_similarity(fused.X), expected, atol=1e-12)


def test_max_cosine_is_the_larger_cosine() -> None:
    fused = late_fusion([FIRST, SECOND], "max_cosine")
    expected = np.maximum(cosine_similarity(FIRST.X), cosine_similarity(SECOND.X))
    np.testing.assert_allclose(fused.obsp["similarity"], expected, atol=1e-12)


def test_mean_embedding_is_the_mean_and_needs_one_space() -> None:
    other = profiles(2, 3)
    np.testing.assert_allclose(late_fusion([FIRST, other], "mean_embedding").X, (FIRST.X + other.X) / 2)
    with pytest.raises(ValueError, match=r"vectors have \[3, 5\] dimensions"):
        late_fusion([FIRST, SECOND], "mean_embedding")


def test_rows_are_matched_by_name_and_the_rest_is_counted() -> None:
    shuffled = SECOND[::-1][:18].copy()  # sg19 to sg2
    with pytest.warns(UserWarning, match="2 of 20 profiles are not in every table"):
        fused = late_fusion([FIRST, shuffled], "concatenate")
    assert fused.obs_names.tolist() == [f"sg{i}" for i in range(2, 20)]
    np.testing.assert_array_equal(fused.X, np.hstack([FIRST.X, SECOND.X])[2:])


def test_fused_profiles_can_be_scored() -> None:
    fused = late_fusion([FIRST, SECOND], "max_cosine")
    with pytest.raises(ValueError, match=r"profiles.X is empty; pass similarity_key, one of \['similarity'\]"):
        guide_consistency(fused, n_null=500, control=None)
    with pytest.raises(ValueError, match=r"profiles.X is empty: .*aggregate_guides each of them first"):
        aggregate_guides(fused)
    guide_consistency(fused, similarity_key="similarity", n_null=500, control=None)
    assert len(fused.uns["petri_scvi"]["guide_consistency"]["table"]) == 10
    genes = late_fusion([FIRST[::2].copy(), SECOND[::2].copy()], "max_cosine")
    edges = pd.DataFrame({"a": ["G0", "G2", "G4"], "b": ["G1", "G3", "G5"]})
    edge_recall(genes, edges, similarity_key="similarity", control=None)
    assert genes.uns["petri_scvi"]["edge_recall"]["n_positive"] == 3


def test_similarity_of_profiles_is_written_with_nan_where_there_is_no_direction() -> None:
    table = FIRST.copy()
    table.X[0] = 0
    profile_similarity(table)
    np.testing.assert_allclose(table.obsp["similarity"][1:, 1:], cosine_similarity(table.X[1:]), atol=1e-12)
    assert np.isnan(table.obsp["similarity"][0]).all()
    with (
        pytest.warns(UserWarning, match="1 of 20 profiles are NaN or zero"),
        pytest.warns(UserWarning, match="1 of 10 target genes have one guide"),
    ):
        guide_consistency(table, similarity_key="similarity", n_null=500, control=None)


def test_errors_and_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two or more AnnData, found"):
        late_fusion([FIRST], "concatenate")
    with pytest.raises(ValueError, match=r"two or more AnnData, found \['AnnData'\]"):
        late_fusion(FIRST, "concatenate")
    with pytest.raises(ValueError, match="method='sum' is not accepted"):
        late_fusion([FIRST, SECOND], "sum")  # type: ignore[arg-type]
    other = SECOND.copy()
    other.obs_names = [f"x{i}" for i in range(20)]
    with pytest.raises(ValueError, match="no row is in all 2 tables"):
        late_fusion([FIRST, other], "concatenate")
    other.obs_names = ["x"] * 20
    with pytest.raises(ValueError, match="obs_names of profiles repeat"):
        late_fusion([FIRST, other], "concatenate")
    fused = late_fusion([FIRST, SECOND], "max_cosine")
    fused.write_h5ad(tmp_path / "fused.h5ad")
    read = anndata.read_h5ad(tmp_path / "fused.h5ad")
    np.testing.assert_array_equal(read.obsp["similarity"], fused.obsp["similarity"])
    assert read.uns["petri_scvi"]["late_fusion"]["parameters"]["method"] == "max_cosine"


def test_guides_of_one_name_and_two_genes_are_refused() -> None:
    other = SECOND.copy()
    other.obs["target_gene"] = np.roll(other.obs["target_gene"], 2)
    with pytest.raises(
        ValueError, match=r"20 profiles have another target_gene .* 'sg0': \['G0', 'G9'\]\. Name guides"
    ):
        late_fusion([FIRST, other], "mean_cosine")
