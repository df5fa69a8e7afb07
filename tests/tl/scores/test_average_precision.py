from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import average_precision_score

from petri_scvi.tl import mean_average_precision
from petri_scvi.tl._similarity import Similarities, unit_rows
from petri_scvi.tl.scores._average_precision import (
    average_precision,
    expected_average_precision,
    guide_average_precision,
    random_average_precision,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeProfiles = Callable[..., AnnData]


def result_of(profiles: AnnData, **changes: Any) -> dict[str, Any]:
    mean_average_precision(profiles, **({"n_null": 2000} | changes))
    return profiles.uns["petri_scvi"]["mean_average_precision"]


@pytest.mark.parametrize("against_controls", [False, True])
def test_average_precision_of_a_guide_is_that_of_scikit_learn(
    make_profiles: MakeProfiles, against_controls: bool
) -> None:
    profiles = make_profiles(n_guides=4, signal=0.8)
    targets = profiles.obs["target_gene"].to_numpy()
    is_control = targets == "non-targeting"
    unit = unit_rows(profiles.X)
    found = guide_average_precision(Similarities(unit), targets, is_control, against_controls)
    for guide in range(80):
        is_ranked = is_control | (targets == targets[guide]) if against_controls else ~is_control
        is_ranked = is_ranked & (np.arange(len(targets)) != guide)
        expected = average_precision_score((targets == targets[guide])[is_ranked], (unit @ unit[guide])[is_ranked])
        assert found["average_precision"][guide] == pytest.approx(expected, abs=1e-12)


def test_perfect_retrieval_is_one_and_its_normalised_value_too() -> None:
    profiles = AnnData(np.repeat(np.eye(6), 2, axis=0), obs={"target_gene": np.repeat(list("abcdef"), 2)})
    table = result_of(profiles, control=None)["table"]
    assert (table[["mean_average_precision", "mean_normalized_average_precision"]] == 1).all(axis=None)


def test_a_ranking_counted_by_hand() -> None:
    """Siblings at ranks 1 and 3 of 4: (1 + 2 / 3) / 2."""
    similarity = np.array([[1, 0.9, 0.5, 0.7, 0.1]] * 5)
    table = guide_average_precision(
        Similarities(None, similarity), np.array(["a", "a", "a", "b", "c"]), np.zeros(5, dtype=bool), False
    )
    assert table["average_precision"][0] == pytest.approx(5 / 6)


def test_ties_count_by_their_expected_value_over_all_orders() -> None:
    similarity = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    is_relevant = np.array([False, True, True, False, False, True])
    orders = [[0, *middle, 5] for middle in permutations(range(1, 5))]
    scores = [average_precision(np.arange(6, 0, -1.0), is_relevant[order]) for order in orders]
    assert len(set(np.round(scores, 9))) > 1
    assert average_precision(similarity, is_relevant) == pytest.approx(np.mean(scores))
    noise = similarity + 1e-16 * np.arange(6)  # rounding does not break a tie
    assert average_precision(noise, is_relevant) == pytest.approx(np.mean(scores))


def test_equal_profiles_are_retrieved_as_by_chance() -> None:
    profiles = AnnData(np.ones((60, 5)), obs={"target_gene": np.repeat([f"G{i}" for i in range(20)], 3)})
    result = result_of(profiles, control=None)
    np.testing.assert_allclose(result["table"]["mean_average_precision"], expected_average_precision(2, 59))
    np.testing.assert_allclose(result["table"]["mean_normalized_average_precision"], 0, atol=1e-12)
    assert result["score"] == 0


@pytest.mark.parametrize(("n_relevant", "n_ranked"), [(1, 10), (3, 20), (4, 4)])
def test_the_expected_value_is_the_mean_of_random_rankings(n_relevant: int, n_ranked: int) -> None:
    draws = random_average_precision(n_relevant, n_ranked, 40_000, np.random.default_rng(0))
    assert expected_average_precision(n_relevant, n_ranked) == pytest.approx(draws.mean(), abs=0.006)


def test_signal_is_found_and_p_values_are_never_zero(make_profiles: MakeProfiles) -> None:
    result = result_of(make_profiles(n_dims=20, signal=3.0))
    assert result["score"] == 1
    assert result["table"]["p_value"].min() == 1 / 2001
    assert result_of(make_profiles(signal=0.0))["score"] <= 0.05


@pytest.mark.slow
def test_small_p_values_are_not_too_frequent_without_effect(make_profiles: MakeProfiles) -> None:
    tables = [result_of(make_profiles(n_genes=16, seed=seed), n_null=800, seed=seed)["table"] for seed in range(100)]
    p_values = pd.concat(tables)["p_value"]
    for level in (0.01, 0.05, 0.1):
        assert (p_values <= level).mean() <= level


def test_controls_compete_only_when_asked(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles(n_dims=20, signal=2.0, n_controls=40)
    is_target = (profiles.obs["target_gene"] != "non-targeting").to_numpy()
    profiles.X[is_target] = profiles.X[0] + np.random.default_rng(0).normal(size=(60, 20))  # all genes do the same
    assert result_of(profiles, negatives="controls")["score"] > 0.9
    assert result_of(profiles)["score"] <= 0.05


def test_genes_with_one_guide_compete_but_are_not_scored(make_profiles: MakeProfiles) -> None:
    profiles = make_profiles()[2:].copy()  # GENE0 keeps one guide
    with pytest.warns(UserWarning, match="1 of 20 target genes have one guide with a profile, for example 'GENE0'"):
        result = result_of(profiles)
    assert (result["n_genes"], result["n_single_guide"], len(result["table"])) == (19, 1, 19)
    targets = profiles.obs["target_gene"].to_numpy()
    is_target = targets != "non-targeting"
    ranked = guide_average_precision(Similarities(unit_rows(profiles.X)), targets, ~is_target, False)["n_ranked"]
    assert (ranked == is_target.sum() - 1).all()


def test_errors_and_files(make_profiles: MakeProfiles, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no gene has two guides"):
        result_of(make_profiles(n_guides=1))
    with pytest.raises(ValueError, match="nothing to compete with"):
        result_of(make_profiles(n_controls=0), negatives="controls", control=None)
    with pytest.raises(ValueError, match=r"pass one of \['other_genes', 'controls'\]"):
        result_of(make_profiles(), negatives="all")
    with pytest.raises(ValueError, match="n_null=0; it must be at least 1"):
        result_of(make_profiles(), n_null=0)
    with pytest.raises(KeyError, match="no 'target_gene'"):
        result_of(AnnData(np.ones((2, 2)), obs=pd.DataFrame(index=["0", "1"])))
    with pytest.warns(UserWarning, match="n_null=100 is too small for 20 genes; pass 400"):
        result_of(make_profiles(), n_null=100)
    profiles = make_profiles()
    result = result_of(profiles)
    profiles.write_h5ad(tmp_path / "profiles.h5ad")
    read = anndata.read_h5ad(tmp_path / "profiles.h5ad").uns["petri_scvi"]["mean_average_precision"]
    np.testing.assert_array_equal(read["table"]["q_value"], result["table"]["q_value"])
