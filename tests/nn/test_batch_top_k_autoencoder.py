from __future__ import annotations

import numpy as np
import pytest
import torch

from petri_scvi.nn._batch_top_k_autoencoder import AUXILIARY_WEIGHT, BatchTopKAutoencoder, kth_largest

NEVER = 1_000_000


def network(n_inputs: int = 6, n_dimensions: int = 20, n_active: int = 3) -> BatchTopKAutoencoder:
    return BatchTopKAutoencoder(n_inputs, n_dimensions, n_active, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("above", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_kth_largest_value_does_not_depend_on_where_it_is_looked_for(k: int, above: float) -> None:
    values = torch.randn(10, 20, generator=torch.Generator().manual_seed(1))
    expected = values.flatten().sort(descending=True).values[k - 1]
    assert kth_largest(values, k, above=torch.tensor(above)) == expected


def test_nothing_that_is_not_positive_is_ever_active() -> None:
    values = torch.tensor([[-1.0, 0.0, 2.0]])
    cutoff = kth_largest(values, 3, above=torch.tensor(0.0))
    assert (values >= cutoff).tolist() == [[False, False, True]]


def test_a_minibatch_shares_its_active_dimensions_among_its_cells() -> None:
    """As many as ``n_active`` per cell in the mean, but more where embeddings are long."""
    values = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    values[:10] *= 5
    model = network()
    model.loss(values, NEVER)
    n_active = (model._raw(values) >= model.cutoff).sum(dim=1)
    assert n_active.sum() == 3 * 50
    assert n_active[:10].float().mean() > 2 * n_active[10:].float().mean()


def test_loss_is_that_of_the_paper() -> None:
    """Written out: the largest values of the whole minibatch, sorted, reconstruct it."""
    values = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    model = network()
    with torch.no_grad():
        model.encoder_bias.normal_(generator=torch.Generator().manual_seed(2))
        model.decoder_bias.normal_(generator=torch.Generator().manual_seed(3))
        raw = (values - model.decoder_bias) @ model.encoder.T + model.encoder_bias
        kept = raw.relu().flatten().topk(3 * 30)
        codes = torch.zeros(30 * 20).scatter(0, kept.indices, kept.values).reshape(30, 20)
        expected = (codes @ model.decoder + model.decoder_bias - values).square().mean()
    loss, error = model.loss(values, NEVER)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(error, expected)


def test_only_dead_dimensions_take_part_in_the_auxiliary_loss() -> None:
    values = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    model = network()
    model.n_idle[:2] = 5.0
    with torch.no_grad():
        model.encoder_bias[:2] = -100.0  # never active, and so still dead after this minibatch
    loss, error = model.loss(values, 6)
    # Their activations are negative, hence 0: they reconstruct nothing of the residual.
    torch.testing.assert_close(loss - error, AUXILIARY_WEIGHT * error)
    with torch.no_grad():
        model.encoder_bias[:2], model.encoder_bias[2:] = (
            0.0,
            10.0,
        )  # positive in some cells, but not among the largest
    gradients = []
    for dead_after in (6, NEVER):
        model.n_idle[:2], model.n_idle[2:] = 5.0, -NEVER
        model.zero_grad()
        model.loss(values, dead_after)[0].backward()
        assert model.encoder.grad is not None
        gradients.append(model.encoder.grad.clone())
    from_auxiliary = (gradients[0] - gradients[1]).abs().sum(dim=1)
    assert (from_auxiliary[:2] > 0).all()
    assert (from_auxiliary[2:] == 0).all()


def test_a_step_keeps_directions_at_length_one_and_moves_them_sideways_only() -> None:
    values = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    model = network()
    model.loss(values, NEVER)[0].backward()
    model.keep_unit_norm()
    assert model.decoder.grad is not None
    assert (model.decoder.grad.norm(dim=1) > 0).any()
    torch.testing.assert_close((model.decoder.grad * model.decoder).sum(dim=1), torch.zeros(20), atol=1e-6, rtol=0)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model.renormalize()
    torch.testing.assert_close(model.decoder.norm(dim=1), torch.ones(20))


def test_an_activation_does_not_depend_on_the_minibatch() -> None:
    values = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    model = network()
    model.threshold.fill_(0.5)
    codes = model.encode(values)
    torch.testing.assert_close(model.encode(values[3:4])[0], codes[3])
    assert ((codes == 0) | (codes >= 0.5)).all()
    assert 0 < (codes > 0).float().mean() < 1


def test_folding_the_scale_changes_the_unit_and_nothing_else() -> None:
    values = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    mean, scale = torch.arange(6.0), 3.0
    model = network()
    with torch.no_grad():
        model.encoder_bias.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
        model.decoder_bias.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    model.threshold.fill_(0.5)
    codes, reconstructed = model.encode(values), model.decode(model.encode(values))
    model.fold(mean, scale)
    raw = values * scale + mean
    np.testing.assert_allclose(model.encode(raw).detach(), scale * codes.detach(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        model.decode(model.encode(raw)).detach(), scale * reconstructed.detach() + mean, rtol=1e-4, atol=1e-4
    )
