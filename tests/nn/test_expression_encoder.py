from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import ExpressionEncoder
from petri_scvi.nn._expression_encoder import MIN_LEVEL_STD, GeneTokens

N_GENES, DIM, N_LATENTS = 9, 8, 3


@pytest.fixture(params=["deviations", "tokens"])
def encoder(request: pytest.FixtureRequest) -> ExpressionEncoder:
    torch.manual_seed(0)
    return randomised(
        ExpressionEncoder(N_GENES, N_LATENTS, DIM, expression_encoder_depth=2, n_heads=2, gene_reads=request.param)
    )


def randomised(encoder: ExpressionEncoder) -> ExpressionEncoder:
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


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
    tokens.fit_levels(mean, std)
    visible = torch.tensor([[0, 3, 8], [1, 2, 3], [8, 4, 0], [5, 6, 7]])
    found = tokens.deviations(levels.gather(1, visible), visible)
    for cell in range(4):
        for place, gene in enumerate(visible[cell].tolist()):
            expected = tokens.embedding[gene] * (levels[cell, gene] - mean[gene]) / std[gene]
            torch.testing.assert_close(found[cell, place], expected)
    assert not tokens.deviations(mean).any()


def test_a_gene_that_hardly_varies_is_not_divided_by_almost_nothing() -> None:
    tokens = GeneTokens(N_GENES, DIM)
    tokens.fit_levels(torch.zeros(N_GENES), torch.full((N_GENES,), 1e-6))
    torch.testing.assert_close(tokens.level_std, torch.full((N_GENES,), MIN_LEVEL_STD))
