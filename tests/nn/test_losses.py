from __future__ import annotations

import pytest
import torch
from scvi.distributions import NegativeBinomial

from petri_scvi.nn import masked_mean, negative_binomial_nll

COUNTS = torch.tensor([0.0, 1.0, 3.0, 50.0, 5_000.0, 100_000.0], dtype=torch.float64)


def test_masked_mean_averages_the_masked_entries_of_each_cell() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 100.0]])
    mask = torch.tensor([[False, False, True], [True, True, False]])
    assert masked_mean(values, mask).tolist() == [3.0, 5.0]


@pytest.mark.parametrize("visible", [1e30, float("nan"), float("inf")])
def test_masked_mean_ignores_what_is_visible(visible: float) -> None:
    values = torch.tensor([[visible, 2.0, 4.0]])
    assert masked_mean(values, torch.tensor([[False, True, True]])).tolist() == [3.0]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mean", [1e-3, 0.1, 1.0, 30.0, 5e4])
@pytest.mark.parametrize("dispersion", [0.05, 1.0, 200.0])
def test_negative_binomial_equals_that_of_scvi_tools(mean: float, dispersion: float) -> None:
    mu, theta = (torch.full_like(COUNTS, value) for value in (mean, dispersion))
    expected = -NegativeBinomial(mu=mu, theta=theta).log_prob(COUNTS)
    torch.testing.assert_close(negative_binomial_nll(COUNTS, mu.log(), theta.log()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_mean", [-50.0, -20.0, -3.0, 0.0, 2.0, 12.0])
@pytest.mark.parametrize("log_dispersion", [-5.0, 0.0, 5.0])
def test_negative_binomial_equals_that_of_torch_down_to_vanishing_means(log_mean: float, log_dispersion: float) -> None:
    mean, dispersion = (torch.full_like(COUNTS, value) for value in (log_mean, log_dispersion))
    reference = torch.distributions.NegativeBinomial(dispersion.exp(), logits=mean - dispersion)
    torch.testing.assert_close(
        negative_binomial_nll(COUNTS, mean, dispersion), -reference.log_prob(COUNTS), rtol=1e-4, atol=1e-4
    )


def test_single_precision_keeps_four_digits_of_typical_counts() -> None:
    counts = torch.arange(0.0, 400.0, 7.0)
    for log_mean in (-20.0, 0.0, 5.0):
        for log_dispersion in (-2.0, 0.0, 4.0):
            single = negative_binomial_nll(counts, torch.tensor(log_mean), torch.tensor(log_dispersion))
            double = negative_binomial_nll(
                counts.double(),
                torch.tensor(log_mean, dtype=torch.float64),
                torch.tensor(log_dispersion, dtype=torch.float64),
            )
            torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-3)


def test_negative_binomial_and_its_gradient_are_finite_for_a_vanishing_mean() -> None:
    log_mean = torch.full((3,), -50.0, requires_grad=True)
    log_dispersion = torch.zeros(3, requires_grad=True)
    loss = negative_binomial_nll(torch.tensor([0.0, 1.0, 200.0]), log_mean, log_dispersion)
    assert loss.isfinite().all()
    loss.sum().backward()
    for parameter in (log_mean, log_dispersion):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert loss[0].item() == pytest.approx(0.0, abs=1e-6)
    assert loss[1].item() == pytest.approx(50.0, rel=1e-5)


def test_negative_binomial_sums_to_one_over_all_counts() -> None:
    counts = torch.arange(0.0, 3_000.0, dtype=torch.float64)
    log_mean, log_dispersion = torch.tensor(2.0, dtype=torch.float64), torch.tensor(-0.5, dtype=torch.float64)
    probability = (-negative_binomial_nll(counts, log_mean, log_dispersion)).exp()
    assert probability.sum().item() == pytest.approx(1.0, abs=1e-9)
    assert (probability * counts).sum().item() == pytest.approx(log_mean.exp().item(), rel=1e-9)


def test_dispersion_is_shared_over_cells() -> None:
    counts, log_mean, log_dispersion = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([-1.0, 0.0, 1.0])
    loss = negative_binomial_nll(counts, log_mean, log_dispersion)
    assert loss.shape == (2, 3)
    assert torch.equal(loss[0], loss[1])
    assert len(loss[0].unique()) == 3
