"""The likelihood without effects is that of the model with them, and effects come back with the right distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import dblquad
from scipy.stats import multivariate_normal, norm

from petri_scvi.tl.guides._guide_likelihood import Parameters, effects_given, marginal_log_likelihood
from petri_scvi.tl.guides._guide_statistics import GuideStatistics, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODALITIES = ("image", "rna")


@pytest.fixture
def rows() -> pd.DataFrame:
    """Three genes with three, two and one guides, unequal replicates and missing modalities."""
    design = {
        ("A", "A1"): {"image": [30, 50], "rna": [20]},
        ("A", "A2"): {"image": [10], "rna": [25, 70, 5]},
        ("A", "A3"): {"rna": [40]},
        ("B", "B1"): {"image": [15, 15]},
        ("B", "B2"): {"image": [60], "rna": [33]},
        ("C", "C1"): {"image": [12, 48]},
    }
    return pd.DataFrame(
        [
            {
                "target_gene": gene,
                "guide": guide,
                "modality": m,
                "replicate": f"r{i}",
                "n_cells": n,
                "is_control": False,
            }
            for (gene, guide), seen in design.items()
            for m, cells in seen.items()
            for i, n in enumerate(cells)
        ]
    )


@pytest.fixture
def parameters(rng: np.random.Generator) -> Parameters:
    efficacy = rng.beta(2, 1, size=(3, 3))
    return Parameters(
        efficacy=efficacy,
        shared=np.array([0.7, 1.3, 0.2]),
        specific=rng.uniform(0.1, 0.9, size=(3, 2)),
        off_target=np.array([0.2, 0.4]),
        noise=np.array([3.0, 2.0]),
    )


def statistics_of(rows: pd.DataFrame, values: NDArray[np.float64]) -> GuideStatistics:
    return summarise(rows, values, scale=1.0)


def place(rows: pd.DataFrame, statistics: GuideStatistics) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gene, guide and modality number of each row."""
    gene = np.array([list(statistics.genes).index(name) for name in rows["target_gene"]])
    guide = np.array([list(statistics.guides[g]).index(name) for g, name in zip(gene, rows["guide"], strict=True)])
    return gene, guide, np.array([statistics.modalities.index(name) for name in rows["modality"]])


def full_covariance(p: Parameters, rows: pd.DataFrame, statistics: GuideStatistics) -> NDArray[np.float64]:
    """Covariance of all rows in one dimension, entry by entry as the model says."""
    gene, guide, modality = place(rows, statistics)
    covariance = np.zeros((len(rows), len(rows)))
    for a in range(len(rows)):
        for b in range(len(rows)):
            if gene[a] != gene[b]:
                continue
            g, is_same = gene[a], modality[a] == modality[b]
            of_gene = p.shared[g] ** 2 + (p.specific[g, modality[a]] ** 2 if is_same else 0)
            covariance[a, b] = p.efficacy[g, guide[a]] * p.efficacy[g, guide[b]] * of_gene
            if is_same and guide[a] == guide[b]:
                covariance[a, b] += p.off_target[modality[a]] ** 2
        covariance[a, a] += p.noise[modality[a]] ** 2 / rows["n_cells"][a]
    return covariance


def test_it_is_the_density_of_the_full_normal_distribution_of_all_rows(
    rows: pd.DataFrame, parameters: Parameters, rng: np.random.Generator
) -> None:
    values = rng.normal(size=(len(rows), 4))
    statistics = statistics_of(rows, values)
    joint = multivariate_normal(cov=full_covariance(parameters, rows, statistics))
    np.testing.assert_allclose(
        marginal_log_likelihood(parameters, statistics), sum(map(joint.logpdf, values.T)), rtol=1e-10
    )


def test_it_is_the_joint_density_over_the_conditional_one_at_any_effects(
    rows: pd.DataFrame, parameters: Parameters, rng: np.random.Generator
) -> None:
    """``p(y) = p(y, effects) / p(effects | y)``; the joint density is written as in the model, row by row."""
    n_dims = 2
    values = rng.normal(size=(len(rows), n_dims))
    statistics = statistics_of(rows, values)
    theta = rng.normal(size=(3, n_dims))
    delta = rng.normal(size=(3, 2, n_dims))
    gene, guide, modality = place(rows, statistics)
    p = parameters
    joint = norm.logpdf(theta, scale=p.shared[:, None]).sum() + norm.logpdf(delta, scale=p.specific[..., None]).sum()
    for g, j, m in set(zip(gene, guide, modality, strict=True)):  # replicates share what their guide does beside
        of_guide = np.flatnonzero((gene == g) & (guide == j) & (modality == m))
        covariance = np.diag(p.noise[m] ** 2 / rows["n_cells"].to_numpy()[of_guide]) + p.off_target[m] ** 2
        centred = values[of_guide] - p.efficacy[g, j] * (theta[g] + delta[g, m])
        joint += multivariate_normal.logpdf(centred.T, cov=covariance).sum()
    effects = effects_given(p, statistics)
    conditional = norm.logpdf(theta, effects.shared_mean, effects.shared_sd[:, None]).sum()
    mean, sd = effects.specific(theta)
    conditional += norm.logpdf(delta, mean, sd[..., None]).sum()
    np.testing.assert_allclose(marginal_log_likelihood(p, statistics), joint - conditional, rtol=1e-10)


@pytest.mark.slow
def test_it_is_the_integral_over_effects_of_one_guide() -> None:
    rows = pd.DataFrame(
        {"target_gene": "A", "guide": "A1", "modality": "rna", "n_cells": [9], "is_control": False}, index=[0]
    )
    statistics = statistics_of(rows, np.array([[0.8]]))
    p = Parameters(np.array([[0.6]]), np.array([1.1]), np.zeros(1), np.array([0.5]), np.array([1.5]))

    def density(off_target: float, theta: float) -> float:
        at = norm.pdf(0.8, 0.6 * theta + off_target, 1.5 / 3)
        return float(at * norm.pdf(theta, scale=1.1) * norm.pdf(off_target, scale=0.5))

    integral, _ = dblquad(density, -7, 7, -3.5, 3.5, epsabs=1e-8)
    np.testing.assert_allclose(np.exp(marginal_log_likelihood(p, statistics)), integral, rtol=1e-6)


def test_drawn_effects_have_the_mean_and_variance_of_the_conditioned_normal(
    rows: pd.DataFrame, parameters: Parameters, rng: np.random.Generator
) -> None:
    values = rng.normal(size=(len(rows), 3))
    statistics = statistics_of(rows, values)
    gene, guide, modality = place(rows, statistics)
    inverse = np.linalg.inv(full_covariance(parameters, rows, statistics))
    effects = effects_given(parameters, statistics)
    for g in range(3):
        loading = np.where(gene == g, parameters.efficacy[gene, guide], 0) * parameters.shared[g] ** 2
        np.testing.assert_allclose(effects.shared_mean[g], loading @ inverse @ values, rtol=1e-9, atol=1e-12)
        variance = parameters.shared[g] ** 2 - loading @ inverse @ loading
        np.testing.assert_allclose(effects.shared_sd[g] ** 2, variance, rtol=1e-9)


def test_no_effect_and_no_specific_effect_are_finite(rows: pd.DataFrame, parameters: Parameters) -> None:
    statistics = statistics_of(rows, np.ones((len(rows), 2)))
    p = Parameters(parameters.efficacy, np.zeros(3), np.zeros((3, 2)), parameters.off_target, parameters.noise)
    joint = multivariate_normal(cov=full_covariance(p, rows, statistics))
    np.testing.assert_allclose(marginal_log_likelihood(p, statistics), 2 * joint.logpdf(np.ones(len(rows))), rtol=1e-10)
    assert effects_given(p, statistics).shared_mean.tolist() == np.zeros((3, 2)).tolist()


def test_jax_and_numpy_agree(rows: pd.DataFrame, parameters: Parameters, rng: np.random.Generator) -> None:
    jax = pytest.importorskip("jax")
    statistics = statistics_of(rows, rng.normal(size=(len(rows), 5)))
    with jax.enable_x64(True):
        found = marginal_log_likelihood(parameters, statistics, jax.numpy)
    np.testing.assert_allclose(found, marginal_log_likelihood(parameters, statistics), rtol=1e-12)


def test_controls_count_as_guides_that_do_nothing_but_off_target(rows: pd.DataFrame, parameters: Parameters) -> None:
    """Around their own mean they vary ``(K - 1) / K`` as much as around the truth."""
    values = np.random.default_rng(1).normal(size=(len(rows), 2))
    columns = {"target_gene": "none", "guide": ["n1", "n2"], "modality": "image", "n_cells": [20, 30]}
    controls = pd.DataFrame(columns | {"is_control": True, "replicate": "r0"})
    of_controls = np.array([[0.3, -0.2], [-0.2, 0.1]])
    both = statistics_of(pd.concat([rows, controls], ignore_index=True), np.vstack([values, of_controls]))
    added = marginal_log_likelihood(parameters, both) - marginal_log_likelihood(parameters, statistics_of(rows, values))
    image = both.modalities.index("image")
    sd = np.sqrt(parameters.off_target[image] ** 2 + parameters.noise[image] ** 2 / np.array([20, 30]))
    np.testing.assert_allclose(added, norm.logpdf(np.sqrt(2) * of_controls, scale=sd[:, None]).sum(), rtol=1e-10)
