"""The blocks against the same composition built from torch's own attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from petri_scvi.nn import CrossAttentionBlock, SelfAttentionBlock
from petri_scvi.nn._blocks import MAX_WRITTEN_OUT, _attend

DIM = 12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def randomised(module: nn.Module) -> nn.Module:
    """No parameter at a value, such as zero, that would hide a mistake."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def torch_attention(weights: list[Tensor], biases: list[Tensor], project: nn.Linear, n_heads: int) -> nn.Module:
    attention = nn.MultiheadAttention(DIM, n_heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat(weights))
        attention.in_proj_bias.copy_(torch.cat(biases))
    attention.out_proj.load_state_dict(project.state_dict())
    return attention.eval()


def norm(tokens: Tensor, layer: nn.LayerNorm) -> Tensor:
    return layer_norm(tokens, (DIM,), layer.weight, layer.bias)


def mlp(tokens: Tensor, layers: nn.Sequential) -> Tensor:
    first, _, second = layers
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return linear(gelu(linear(tokens, first.weight, first.bias)), second.weight, second.bias)


@pytest.mark.parametrize("n_heads", [1, 3])
def test_self_attention_block_equals_torchs_attention_in_a_pre_norm_residual(n_heads: int) -> None:
    block = SelfAttentionBlock(DIM, n_heads, mlp_ratio=2.0)
    randomised(block)
    attention = torch_attention(
        [block.query_key_value.weight], [block.query_key_value.bias], block.project, n_heads=n_heads
    )
    tokens = torch.randn(4, 7, DIM)
    normed = norm(tokens, block.norm_attention)
    expected = tokens + attention(normed, normed, normed)[0]
    expected = expected + mlp(norm(expected, block.norm_mlp), block.mlp)
    torch.testing.assert_close(block(tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_contents", [False, True])
@pytest.mark.parametrize("n_heads", [1, 3])
def test_cross_attention_block_equals_torchs_attention_in_a_pre_norm_residual(n_heads: int, has_contents: bool) -> None:
    block = CrossAttentionBlock(DIM, n_heads, mlp_ratio=2.0)
    randomised(block)
    attention = torch_attention(
        [block.query.weight, block.key_value.weight],
        [block.query.bias, block.key_value.bias],
        block.project,
        n_heads=n_heads,
    )
    latents, tokens, contents = torch.randn(4, 3, DIM), torch.randn(4, 9, DIM), torch.randn(4, 9, DIM)
    normed = nn.functional.layer_norm(tokens, (DIM,))
    read = attention(norm(latents, block.norm_latents), normed, contents if has_contents else normed)[0]
    expected = latents + read
    expected = expected + mlp(norm(expected, block.norm_mlp), block.mlp)
    found = block(latents, tokens, contents if has_contents else None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_self_attention_follows_the_order_of_its_tokens_and_ignores_other_sequences() -> None:
    block = randomised(SelfAttentionBlock(DIM, 2))
    tokens = torch.randn(3, 5, DIM)
    order = torch.tensor([4, 0, 3, 1, 2])
    torch.testing.assert_close(block(tokens[:, order]), block(tokens)[:, order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(block(tokens[:1]), block(tokens)[:1], rtol=1e-5, atol=1e-5)


def test_hidden_width_of_the_mlp_is_the_ratio_times_the_width() -> None:
    hidden = SelfAttentionBlock(DIM, 2, mlp_ratio=2.5).mlp[0]
    assert isinstance(hidden, nn.Linear)
    assert hidden.out_features == 30


@pytest.mark.parametrize("n_tokens", [7, MAX_WRITTEN_OUT + 1])
def test_tokens_asked_for_are_those_of_the_whole_sequence(n_tokens: int) -> None:
    block = SelfAttentionBlock(DIM, n_heads=3)
    randomised(block)
    tokens = torch.randn(2, n_tokens, DIM)
    torch.testing.assert_close(block(tokens, tokens[:, 2:5]), block(tokens)[:, 2:5])


@pytest.mark.parametrize("n_tokens", [MAX_WRITTEN_OUT, MAX_WRITTEN_OUT + 1])
def test_both_ways_to_attend_equal_torchs_own(n_tokens: int) -> None:
    query, key, value = (torch.randn(2, 3, n, 4) for n in (5, n_tokens, n_tokens))
    expected = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(_attend(query, key, value).unflatten(2, (3, 4)).transpose(1, 2), expected)


def test_tokens_that_are_not_read_have_no_weight_and_of_no_token_nothing_is_read() -> None:
    torch.manual_seed(0)
    block = CrossAttentionBlock(DIM, 2)
    latents, tokens = torch.randn(3, 4, DIM), torch.randn(3, 6, DIM)
    is_read = torch.ones(3, 6, dtype=torch.bool)
    is_read[1, 2:] = False
    is_read[2] = False
    found = block.read(latents, tokens, is_read=is_read)
    torch.testing.assert_close(found[0], block.read(latents, tokens)[0])
    torch.testing.assert_close(found[1], block.read(latents, tokens[:, :2])[1])
    assert (found[2] == 0).all()
