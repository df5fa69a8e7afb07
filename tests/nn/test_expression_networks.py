from __future__ import annotations

import pytest
import torch
from scvi.distributions import NegativeBinomial
from torch import Tensor, nn

from petri_scvi.nn import ExpressionDecoder, ExpressionEncoder, negative_binomial_nll
from petri_scvi.nn._expression_networks import GeneTokens

N_GENES, DIM, N_LATENTS = 9, 8, 3
FORMS = [("deviations", True), ("tokens", True), ("deviations", False), ("tokens", False)]
COUNTS = torch.tensor([0.0, 1.0, 3.0, 50.0, 5_000.0, 100_000.0], dtype=torch.float64)


def randomised(decoder: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))


# Encoder


@pytest.fixture(
    params=[(*form, is_shared) for form in FORMS for is_shared in (False, True)],
    ids=lambda param: f"{param[0]}-{'path' if param[1] else 'no path'}-{'shared' if param[2] else 'each'}",
)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    gene_reads, linear_path, share_gene_tokens = request.param
    return randomised(
        ExpressionEncoder(
            N_GENES,
            N_LATENTS,
            DIM,
            expression_encoder_depth=2,
            n_heads=2,
            gene_reads=gene_reads,
            linear_path=linear_path,
            share_gene_tokens=share_gene_tokens,
        )
    )


@pytest.fixture
def levels() -> Tensor:
    return torch.rand(4, N_GENES, generator=torch.Generator().manual_seed(1)) * 5


@pytest.mark.parametrize("is_masked", [False, True])
def test_gene_tokens_equal_a_two_layer_mlp_of_the_concatenated_embedding_and_level(
    levels: Tensor, is_masked: bool
) -> None:
    torch.manual_seed(0)
    tokens = GeneTokens(N_GENES, DIM)
    first, second = nn.Linear(DIM + 1, DIM), nn.Linear(DIM, DIM)
    with torch.no_grad():
        first.weight.copy_(torch.cat([tokens.gene_layer.weight, tokens.level_weight[:, None]], dim=1))
        first.bias.copy_(tokens.gene_layer.bias)
    second.load_state_dict(tokens.output_layer.state_dict())
    visible = torch.tensor([[0, 3, 8], [1, 2, 3], [8, 4, 0], [5, 6, 7]]) if is_masked else None
    rows = []
    for cell in range(4):
        genes = range(N_GENES) if visible is None else visible[cell].tolist()
        for gene in genes:
            concatenated = torch.cat([tokens.embedding[gene], levels[cell, gene, None]])
            rows.append(second(nn.functional.gelu(first(concatenated))))
    expected = torch.stack(rows).reshape(4, -1, DIM)
    seen = levels if visible is None else levels.gather(1, visible)
    torch.testing.assert_close(tokens(seen, visible), expected, rtol=1e-5, atol=1e-5)


def test_latents_have_one_row_per_latent_token(encoder: ExpressionEncoder, levels: Tensor) -> None:
    assert encoder(levels).shape == (4, N_LATENTS, DIM)


def test_order_of_the_visible_genes_does_not_matter(encoder: ExpressionEncoder, levels: Tensor) -> None:
    visible = torch.tensor([[0, 2, 5, 7]]).expand(4, -1)
    torch.testing.assert_close(
        encoder(levels, visible[:, [2, 0, 3, 1]]), encoder(levels, visible), rtol=1e-5, atol=1e-5
    )


def test_only_visible_genes_matter_and_each_of_them_does(encoder: ExpressionEncoder, levels: Tensor) -> None:
    visible = torch.tensor([[0, 2, 5], [1, 2, 3], [6, 7, 8], [0, 4, 8]])
    latents = encoder(levels, visible)
    is_visible = torch.zeros(4, N_GENES, dtype=torch.bool).scatter(1, visible, True)
    assert torch.equal(encoder(torch.where(is_visible, levels, 1e6), visible), latents)
    for position in range(3):
        changed = levels.scatter_add(1, visible[:, [position]], torch.ones(4, 1))
        assert ((encoder(changed, visible) - latents).abs().amax(dim=(1, 2)) > 1e-4).all()


def test_seeing_every_gene_is_the_same_as_no_mask(encoder: ExpressionEncoder, levels: Tensor) -> None:
    everything = torch.arange(N_GENES).expand(4, -1)
    torch.testing.assert_close(encoder(levels, everything), encoder(levels), rtol=1e-5, atol=1e-5)


def test_a_cell_is_encoded_without_regard_to_the_others(encoder: ExpressionEncoder, levels: Tensor) -> None:
    torch.testing.assert_close(encoder(levels[2:3])[0], encoder(levels)[2], rtol=1e-5, atol=1e-5)


def test_genes_of_equal_level_are_told_apart(encoder: ExpressionEncoder) -> None:
    one_gene = torch.eye(N_GENES)
    assert torch.pdist(encoder(one_gene).flatten(1)).min() > 1e-3


def test_deviations_are_embeddings_times_standardised_levels_and_vanish_at_the_mean(levels: Tensor) -> None:
    tokens = GeneTokens(N_GENES, DIM)
    mean, std = torch.rand(N_GENES), torch.rand(N_GENES) + 0.5
    scale = std.square().mean().sqrt()  # one for all genes
    tokens.fit_levels(mean, std)
    visible = torch.tensor([[0, 3, 8], [1, 2, 3], [8, 4, 0], [5, 6, 7]])
    found = tokens.deviations(levels.gather(1, visible), visible)
    for cell in range(4):
        for place, gene in enumerate(visible[cell].tolist()):
            expected = tokens.embedding[gene] * (levels[cell, gene] - mean[gene]) / scale
            torch.testing.assert_close(found[cell, place], expected)
    assert not tokens.deviations(mean).any()


def test_a_gene_that_hardly_varies_stays_quiet_beside_others() -> None:
    tokens = GeneTokens(N_GENES, DIM)
    std = torch.ones(N_GENES)
    std[3] = 1e-6
    tokens.fit_levels(torch.zeros(N_GENES), std)
    assert (tokens.standardise(std)[3].abs() < 1e-5).all()
    assert tokens.standardise(std)[4].item() == pytest.approx((9 / 8) ** 0.5)


def test_levels_that_do_not_vary_at_all_are_divided_by_one() -> None:
    tokens = GeneTokens(N_GENES, DIM)
    tokens.fit_levels(torch.zeros(N_GENES), torch.zeros(N_GENES))
    assert torch.equal(tokens.level_std, torch.ones(N_GENES))


# Decoder


def test_expression_decoder_is_a_three_layer_mlp_of_the_mean_latent_token(latents: Tensor) -> None:
    decoder = ExpressionDecoder(n_genes=5, embed_dim=8, expression_decoder_dim=6)
    randomised(decoder)
    linear = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(8, 6), (6, 6), (6, 5)]
    hidden = latents.mean(dim=1)
    for layer in linear[:-1]:
        hidden = nn.functional.gelu(hidden @ layer.weight.T + layer.bias)
    expected = hidden @ linear[-1].weight.T + linear[-1].bias
    torch.testing.assert_close(decoder(latents), expected, rtol=1e-5, atol=1e-5)


def test_offset_is_what_is_predicted_before_anything_is_learned() -> None:
    decoder = ExpressionDecoder(n_genes=5, embed_dim=8, expression_decoder_dim=6)
    with torch.no_grad():
        decoder.offset.copy_(torch.arange(5.0))
    assert decoder(torch.zeros(2, 4, 8)).tolist() == [[0, 1, 2, 3, 4]] * 2


# Likelihood of counts


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
