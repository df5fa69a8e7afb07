from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import SetTransformer

DIM = 8


@pytest.fixture
def transformer() -> SetTransformer:
    torch.manual_seed(0)
    transformer = SetTransformer(["image", "rna"], DIM, set_transformer_depth=2, n_heads=2)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return transformer.eval()


@pytest.fixture
def latents() -> dict[str, Tensor]:
    """Two documents of three image cells with two latent tokens and four transcriptomes with three."""
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(2, 3, 2, DIM, generator=generator),
        "rna": torch.randn(2, 4, 3, DIM, generator=generator),
    }


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_names_and_shapes_stay_although_modalities_differ_in_cells_and_tokens(
    transformer: SetTransformer, latents: dict[str, Tensor]
) -> None:
    fused = transformer(latents)
    assert {name: tensor.shape for name, tensor in fused.items()} == {n: t.shape for n, t in latents.items()}


def test_permuting_the_cells_of_a_document_permutes_the_result(
    transformer: SetTransformer, latents: dict[str, Tensor]
) -> None:
    orders = {"image": [2, 0, 1], "rna": [3, 1, 0, 2]}
    permuted = {name: tensor[:, orders[name]] for name, tensor in latents.items()}
    expected = {name: tensor[:, orders[name]] for name, tensor in transformer(latents).items()}
    assert_close(transformer(permuted), expected)


def test_order_of_the_modalities_does_not_matter(transformer: SetTransformer, latents: dict[str, Tensor]) -> None:
    swapped = transformer({"rna": latents["rna"], "image": latents["image"]})
    assert_close({name: swapped[name] for name in latents}, transformer(latents))


def test_documents_do_not_see_each_other(transformer: SetTransformer, latents: dict[str, Tensor]) -> None:
    alone = transformer({name: tensor[1:] for name, tensor in latents.items()})
    assert_close(alone, {name: tensor[1:] for name, tensor in transformer(latents).items()})


def test_gradient_crosses_cells_and_modalities_but_not_documents(
    transformer: SetTransformer, latents: dict[str, Tensor]
) -> None:
    for tensor in latents.values():
        tensor.requires_grad_()
    # The sum over D of a LayerNorm's output hardly varies; the square does.
    transformer(latents)["rna"][0, 0].square().sum().backward()
    for tensor in latents.values():
        assert tensor.grad is not None
        assert (tensor.grad[0].abs().amax(dim=-1) > 1e-7).all()
        assert (tensor.grad[1] == 0).all()


def test_the_same_cell_is_read_differently_as_another_modality(
    transformer: SetTransformer, latents: dict[str, Tensor]
) -> None:
    cells = latents["image"]
    as_image, as_rna = transformer({"image": cells})["image"], transformer({"rna": cells})["rna"]
    assert (as_image - as_rna).abs().max() > 1e-3
    with torch.no_grad():
        transformer.modality_embedding["rna"].copy_(transformer.modality_embedding["image"])
    assert torch.equal(transformer({"rna": cells})["rna"], as_image)


def test_a_missing_modality_leaves_the_other_to_itself(transformer: SetTransformer, latents: dict[str, Tensor]) -> None:
    fused = transformer({"rna": latents["rna"]})
    assert list(fused) == ["rna"]
    assert fused["rna"].shape == latents["rna"].shape
    assert (fused["rna"] - transformer(latents)["rna"]).abs().max() > 1e-3


def test_without_blocks_cells_stay_as_they_are_and_nothing_is_learned(latents: dict[str, Tensor]) -> None:
    transformer = SetTransformer(["image", "rna"], DIM, set_transformer_depth=0, n_heads=2)
    fused = transformer(latents)
    assert all(torch.equal(fused[name], latents[name]) for name in latents)
    assert list(transformer.parameters()) == []
