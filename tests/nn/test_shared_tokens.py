"""Sharing tokens changes the work, not the result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import ExpressionEncoder, _shared_tokens
from petri_scvi.nn._shared_tokens import _Read, _WeightedSum, distinct_pairs

N_CELLS, N_GENES, DIM, N_LATENTS, N_VISIBLE = 7, 40, 16, 3, 12


def expression(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.rand(N_CELLS, N_GENES, generator=generator) * 0.5, generator=generator).double()
    if kind == "counts":
        return counts.float().log1p().double()  # levels are told apart in float32
    scaled = torch.randn(N_CELLS, N_GENES, generator=generator)
    return (scaled if kind == "dense" else scaled * counts.float()).double()


def encode(encoder: ExpressionEncoder, levels: Tensor, visible: Tensor | None, *, share: bool) -> dict[str, Tensor]:
    """Latents, as ``output``, and the gradient of every parameter."""
    encoder.share_gene_tokens = share
    encoder.zero_grad()
    latents = encoder(levels, visible)
    (latents * torch.arange(latents.numel(), dtype=latents.dtype).view_as(latents).sin()).sum().backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return {"output": latents.detach(), **gradients}


@pytest.fixture(params=[("deviations", True), ("tokens", True), ("tokens", False)])
def encoder(request: pytest.FixtureRequest) -> ExpressionEncoder:
    torch.manual_seed(0)
    gene_reads, linear_path = request.param
    encoder = ExpressionEncoder(
        N_GENES,
        N_LATENTS,
        DIM,
        expression_encoder_depth=3,
        n_heads=2,
        gene_reads=gene_reads,
        linear_path=linear_path,
    )
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    encoder.tokens.fit_levels(torch.rand(N_GENES), torch.rand(N_GENES) + 0.5)
    return encoder.double()


@pytest.mark.parametrize("kind", ["counts", "sparse", "dense"])
@pytest.mark.parametrize("is_masked", [True, False])
@pytest.mark.parametrize("n_bytes", [1, 24 * 2**20])  # one cell per chunk, and all in one
def test_latents_and_every_gradient_equal_those_of_tokens_written_out(
    encoder: ExpressionEncoder, kind: str, is_masked: bool, n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_shared_tokens.CHUNK_BYTES, "cpu", n_bytes)
    levels = expression(kind)
    visible = torch.rand(N_CELLS, N_GENES).topk(N_VISIBLE, dim=1).indices if is_masked else None
    expected = encode(encoder, levels, visible, share=False)
    found = encode(encoder, levels, visible, share=True)
    assert found.keys() == expected.keys()
    assert len(found) == 1 + len(list(encoder.parameters()))
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-10 * value.norm(), name


def test_latents_of_cells_without_any_count(encoder: ExpressionEncoder) -> None:
    levels = torch.zeros(3, N_GENES, dtype=torch.float64)
    expected = encode(encoder, levels, None, share=False)["output"]
    torch.testing.assert_close(encode(encoder, levels, None, share=True)["output"], expected, rtol=1e-10, atol=1e-10)


def test_shared_tokens_in_bfloat16_stay_near_float32(encoder: ExpressionEncoder) -> None:
    encoder.float()
    levels, visible = expression("counts").float(), torch.rand(N_CELLS, N_GENES).topk(N_VISIBLE, dim=1).indices
    for seen in (visible, None):
        expected = encode(encoder, levels, seen, share=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = encode(encoder, levels, seen, share=True)
        assert found["output"].dtype == torch.float32
        assert 0 < (found["output"] - expected["output"]).norm() < 0.1 * expected["output"].norm()
        gradient = "tokens.embedding"
        assert (found[gradient] - expected[gradient]).norm() < 0.3 * expected[gradient].norm()


def test_distinct_pairs_are_few_and_reconstruct_every_token() -> None:
    genes = torch.tensor([[0, 3, 2], [3, 0, 2]])
    levels = torch.tensor([[0.0, 1.5, -2.0], [1.5, -0.0, 7.0]])
    pair_genes, pair_levels, place = distinct_pairs(genes, levels)
    assert sorted(zip(pair_genes.tolist(), pair_levels.tolist(), strict=True)) == [(0, 0), (2, -2), (2, 7), (3, 1.5)]
    assert torch.equal(pair_genes[place], genes)
    assert torch.equal(pair_levels[place], levels)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_gradients_of_reading_are_those_of_finite_differences(n_blocks: int) -> None:
    """Blocks hand on the tokens: the gradients of all of them must add up."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(2, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in [(3, 5), (4, 5), (4, 5), (4, 3)]
    )

    def read(queries: Tensor, tokens: Tensor, contents: Tensor, weights: Tensor) -> Tensor:
        total, contents = _WeightedSum.apply(weights, contents)
        for _ in range(n_blocks):
            found, tokens, contents = _Read.apply(queries + total, tokens, contents)
            total = total + found
        return total

    assert torch.autograd.gradcheck(read, inputs)
