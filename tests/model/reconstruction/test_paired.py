from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from petri_scvi.model.reconstruction._paired import paired_statistics


def test_statistics_are_those_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    contexts = np.repeat(np.arange(8), [3, 10, 4, 7, 5, 6, 9, 2])
    differences = rng.normal(1, 0.5, size=len(contexts))
    found = paired_statistics(differences, contexts)
    means = [differences[contexts == context].mean() for context in range(8)]
    assert (found["n_cells"], found["n_contexts"]) == (46, 8)
    assert found["mean"] == pytest.approx(differences.mean())
    assert found["effect_size"] == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found["share_of_cells"] == (differences > 0).mean()
    assert found["p_value"] == pytest.approx(wilcoxon(means).pvalue)
    assert found["low"] < found["mean"] < found["high"]


@pytest.mark.parametrize("n_contexts", [6, 15, 40])
def test_what_cells_of_a_context_share_is_not_significant(n_contexts: int) -> None:
    """Of cells taken to be independent, a quarter or more would be below 0.05."""
    rng = np.random.default_rng(0)
    found, of_cells = [], []
    for _ in range(200):
        sizes = rng.integers(5, 40, size=n_contexts)
        sizes[0] = 100  # as of controls
        contexts = np.repeat(np.arange(n_contexts), sizes)
        differences = rng.normal(0, 0.3, size=n_contexts)[contexts] + rng.normal(size=len(contexts))
        found.append(paired_statistics(differences, contexts))
        of_cells.append(wilcoxon(differences).pvalue)
    assert np.mean([row["p_value"] < 0.05 for row in found]) < 0.1
    assert np.mean([row["low"] <= 0 <= row["high"] for row in found]) > 0.85
    assert np.mean(np.array(of_cells) < 0.05) > 0.2


def test_nothing_is_significant_where_nothing_differs_or_contexts_are_one() -> None:
    same = paired_statistics(np.zeros(6), np.array([0, 0, 1, 1, 2, 2]))
    assert (same["effect_size"], same["p_value"], same["low"], same["high"]) == (0, 1, 0, 0)
    one = paired_statistics(np.arange(6.0), np.zeros(6))
    assert (one["n_contexts"], one["mean"]) == (1, 2.5)
    assert np.isnan([one["p_value"], one["low"], one["high"]]).all()
    cell = paired_statistics(np.array([1.0]), np.array(["a"]))
    assert np.isnan([cell["effect_size"], cell["p_value"], cell["low"]]).all()
