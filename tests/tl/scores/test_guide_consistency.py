from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest
from sklearn.metrics.pairwise import cosine_similarity

from petri_scvi.tl import guide_consistency, profile_similarity
from petri_scvi.tl._similarity import Similarities, unit_rows
from petri_scvi.tl.scores._guide_consistency import draw_distinct

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

    MakeProfiles = Callable[..., AnnData]


def score(profiles: AnnData, **changes: object) -> dict:
    guide_consistency(profiles, **({"n_null": 2000} | changes))  # type: ignore[arg-type]
    return profiles.uns["petri_scvi"]["guide_consistency"]


def test_similarity_is_the_mean_cosine_of_distinct_pairs(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_guides=4, signal=1.0)
    table = score(profiles)["table"].set_index("target_gene")
    for gene, rows in (
        profiles.obs[profiles.obs["target_gene"] != "non-targeting"].groupby("target_gene").groups.items()
    ):
        cosines = cosine_similarity(profiles[rows].X)
        assert table.loc[gene, "similarity"] == pytest.approx(cosines[np.triu_indices(4, k=1)].mean(), abs=1e-12)
    assert "non-targeting" not in table.index


def test_orthogonal_and_equal_guides_have_the_similarities_they_should() -> None:
    similarities = Similarities(unit_rows(np.array([[1.0, 0], [0, 2], [3, 0], [-1, 0]])))
    sets = np.array([[0, 1], [0, 2], [0, 3]])
    np.testing.assert_allclose(similarities.of_sets(sets), [0, 1, -1], atol=1e-15)


def test_consistent_genes_are_found_and_others_are_not(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_genes=40, n_dims=20, signal=2.0)
    noise = make_profiles(n_genes=40, n_dims=20, signal=0.0, seed=1)
    is_noise = profiles.obs["target_gene"].isin([f"GENE{i}" for i in range(20)]).to_numpy()
    profiles.X[is_noise] = noise.X[is_noise]
    result = score(profiles)
    table = result["table"].set_index("target_gene")
    assert table.loc[[f"GENE{i}" for i in range(20, 40)], "is_consistent"].all()
    assert table.loc[[f"GENE{i}" for i in range(20)], "is_consistent"].sum() <= 2
    assert result["score"] == table["is_consistent"].mean()
    assert result["score_low"] < result["score"] < result["score_high"]


def test_p_values_are_never_zero_and_q_values_are_benjamini_hochberg(make_profiles: MakeProfiles) -> None:
    table = score(make_profiles(signal=50.0), n_null=499)["table"]
    assert (table["p_value"] == 1 / 500).all()
    table = score(make_profiles())["table"]
    np.testing.assert_allclose(table["q_value"], false_discovery_control(table["p_value"]))
    np.testing.assert_array_equal(table["is_consistent"], table["q_value"] < 0.05)


def test_the_null_takes_guides_of_different_genes() -> None:
    """Guides of one gene are equal here, so a null that mixed them in would have cosines of 1."""
    genes = np.eye(6)
    obs_genes = np.repeat([f"g{i}" for i in range(6)], 3)
    profiles = anndata.AnnData(X=np.repeat(genes, 3, axis=0), obs={"target_gene": obs_genes})
    result = score(profiles, control=None)
    assert result["null_quantiles"]["3"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert (result["table"]["null_mean"].abs() < 1e-12).all()
    assert result["score"] == 1


def test_every_number_of_guides_has_its_own_null(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_genes=30, n_guides=4)
    profiles = profiles[[i for i in range(profiles.n_obs) if not (i < 40 and i % 4 > 1)]].copy()
    result = score(profiles, n_null=20_000)
    spread = result["null_quantiles"].loc["0.95"] - result["null_quantiles"].loc["0.05"]
    assert list(spread.index) == ["2", "4"]
    # The variance of a mean of all pairs is that of one pair over the number of pairs.
    assert spread["2"] / spread["4"] == pytest.approx(np.sqrt(6), rel=0.15)


def test_draws_never_repeat_and_are_uniform() -> None:
    drawn = draw_distinct([np.arange(5)] * 3, 60_000, np.random.default_rng(0))
    assert all(len(set(row)) == 3 for row in drawn[:2000].tolist())
    codes, counts = np.unique(drawn @ [25, 5, 1], return_counts=True)
    assert len(codes) == 5 * 4 * 3
    assert np.abs(counts / 1000 - 1).max() < 0.15
    assert len(draw_distinct([np.arange(4)] * 4, 10, np.random.default_rng(0))) == 10  # as many as there are


def test_seed_decides_and_is_not_cached(make_profiles: MakeProfiles) -> None:
    tables = [score(make_profiles(), seed=seed)["table"]["p_value"].to_numpy() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


def test_genes_with_one_guide_are_drawn_but_not_scored(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_genes=10, n_guides=2)
    profiles = profiles[1:].copy()  # GENE0 keeps one guide
    with pytest.warns(UserWarning, match="1 of 10 target genes have one guide with a profile, for example 'GENE0'"):
        result = score(profiles)
    assert (result["n_genes"], result["n_single_guide"]) == (9, 1)
    assert "GENE0" not in set(result["table"]["target_gene"])
    assert result["table"]["p_value"].notna().all()


def test_nan_and_zero_profiles_are_left_out_and_counted(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_genes=10, n_guides=3)
    profiles.X[0, 2] = np.nan
    profiles.X[4] = 0
    with pytest.warns(UserWarning, match="2 of 30 profiles are NaN or zero"):
        result = score(profiles)
    assert result["table"].set_index("target_gene").loc[["GENE0", "GENE1"], "n_guides"].tolist() == [2, 2]


def test_a_similarity_matrix_gives_the_numbers_of_the_vectors(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(signal=1.0)
    vectors = score(profiles)["table"]
    profile_similarity(profiles)
    matrix = score(profiles, similarity_key="similarity")["table"]
    np.testing.assert_allclose(matrix["similarity"], vectors["similarity"], atol=1e-12)
    np.testing.assert_allclose(matrix["p_value"], vectors["p_value"])


def test_too_few_draws_are_reported(make_profiles: MakeProfiles) -> None:
    """569 genes need more than 11,379 draws: with one fewer a lone hit has a q-value of 0.05 or more."""
    with pytest.warns(UserWarning, match="n_null=399 is too small for 20 genes.*Pass n_null=400"):
        score(make_profiles(n_genes=20), n_null=399)
    score(make_profiles(n_genes=20), n_null=400)


def test_errors_say_what_to_pass(make_profiles: MakeProfiles) -> None:
    with pytest.raises(ValueError, match="none of the 20 target genes has two guides.*level='guide'"):
        score(make_profiles(n_guides=1))
    with pytest.raises(ValueError, match="n_null=0; it must be at least 1"):
        score(make_profiles(), n_null=0)
    with pytest.raises(ValueError, match="alpha=5 is not accepted; pass a rate between 0 and 1"):
        score(make_profiles(), alpha=5)
    with pytest.raises(ValueError, match="a target gene has 6 guides, but there are only 3 target genes"):
        score(make_profiles(n_genes=3, n_guides=6))
    profiles = make_profiles()
    with pytest.raises(KeyError, match="layer='rna' is not in profiles.layers"):
        score(profiles, layer="rna")
    with pytest.raises(KeyError, match="similarity_key='similarity' is not in profiles.obsp"):
        score(profiles, similarity_key="similarity")
    del profiles.obs["target_gene"]
    with pytest.raises(KeyError, match="no 'target_gene'.*aggregate_profiles"):
        score(profiles)


def test_the_result_survives_a_file_with_its_parameters(make_profiles: MakeProfiles, tmp_path: Path) -> None:
    profiles = make_profiles(signal=1.0)
    result = score(profiles, seed=3, key_added="guide_consistency")
    profiles.write_h5ad(tmp_path / "profiles.h5ad")
    read = anndata.read_h5ad(tmp_path / "profiles.h5ad").uns["petri_scvi"]["guide_consistency"]
    assert read["parameters"]["seed"] == 3
    assert read["score"] == result["score"]
    for name in ("similarity", "q_value", "is_consistent", "n_guides"):
        np.testing.assert_array_equal(read["table"][name], result["table"][name])
    np.testing.assert_array_equal(read["null_quantiles"]["3"], result["null_quantiles"]["3"])


@pytest.mark.slow
def test_p_values_are_uniform_over_simulated_screens_without_effect(make_profiles: MakeProfiles) -> None:
    """One p-value from each of 200 screens, so that they are independent."""
    p_values, n_consistent = [], 0
    for seed in range(200):
        result = score(make_profiles(n_genes=24, n_guides=3, n_dims=16, seed=seed), n_null=1000, seed=seed)
        p_values.append(result["table"]["p_value"].iloc[0])
        n_consistent += int(result["table"]["is_consistent"].sum())
        assert result["score_low"] <= 0.0 + 1e-12 or result["score"] > 0
    assert kstest(p_values, "uniform").pvalue > 0.01
    # The rate of false calls over all screens: 0 within one per cent.
    assert n_consistent / (200 * 24) < 0.01


def test_consistency_of_noise_is_zero_within_its_stated_error(make_profiles: MakeProfiles) -> None:
    result = score(make_profiles(n_genes=300, n_guides=4, n_dims=64), n_null=20_000)
    assert result["score"] < 0.01
    assert result["score_low"] <= 0.001
    assert result["score_high"] < 0.02


def test_a_loop_over_genes_gives_the_same_similarities_and_null(make_profiles: MakeProfiles) -> None:
    """A plain loop with the same definitions; the nulls differ by chance only."""
    profiles = make_profiles(n_genes=12, n_guides=3, signal=0.7)
    result = score(profiles, n_null=20_000)["table"]
    unit = unit_rows(profiles.X)[:36]
    rng = np.random.default_rng(5)
    null = []
    for _ in range(4000):
        guides = [3 * gene + rng.integers(3) for gene in rng.choice(12, size=3, replace=False)]
        null.append(np.mean([unit[a] @ unit[b] for a, b in combinations(guides, 2)]))
    p_values = [(1 + np.sum(np.array(null) >= s)) / 4001 for s in result["similarity"]]
    order = [int(gene.removeprefix("GENE")) for gene in result["target_gene"]]
    direct = [np.mean([unit[3 * g + a] @ unit[3 * g + b] for a, b in combinations(range(3), 2)]) for g in order]
    np.testing.assert_allclose(result["similarity"], direct, atol=1e-12)
    np.testing.assert_allclose(result["p_value"], p_values, atol=0.035)
