from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import ExpressionDecoder, ImageDecoder


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))


def randomised(decoder: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


@pytest.mark.parametrize(("shape", "patch_size"), [((2, 4, 6), 2), ((5, 8, 8), 4), ((1, 3, 9), 3)])
def test_image_decoder_predicts_every_pixel_of_every_patch(
    shape: tuple[int, int, int], patch_size: int, latents: Tensor
) -> None:
    n_channels, height, width = shape
    decoder = ImageDecoder(shape, patch_size, embed_dim=8, image_decoder_dim=12, image_decoder_depth=1, n_heads=2)
    n_patches = height // patch_size * (width // patch_size)
    assert decoder(latents).shape == (3, n_patches, n_channels * patch_size**2)


def test_image_decoder_tells_patches_and_cells_apart(latents: Tensor) -> None:
    decoder = randomised(
        ImageDecoder((1, 4, 6), 2, embed_dim=8, image_decoder_dim=12, image_decoder_depth=1, n_heads=2)
    )
    prediction = decoder(latents)
    assert torch.pdist(prediction[0]).min() > 1e-4
    assert torch.pdist(prediction.flatten(1)).min() > 1e-4
    torch.testing.assert_close(decoder(latents[1:2])[0], prediction[1], rtol=1e-5, atol=1e-5)


def test_image_decoder_reads_a_set_of_latent_tokens(latents: Tensor) -> None:
    decoder = randomised(
        ImageDecoder((1, 4, 6), 2, embed_dim=8, image_decoder_dim=12, image_decoder_depth=2, n_heads=2)
    )
    torch.testing.assert_close(decoder(latents[:, [3, 1, 0, 2]]), decoder(latents), rtol=1e-4, atol=1e-4)


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


def test_image_decoder_leaves_out_patches_that_nobody_reads(latents: Tensor) -> None:
    decoder = randomised(
        ImageDecoder((1, 4, 6), 2, embed_dim=8, image_decoder_dim=12, image_decoder_depth=2, n_heads=2)
    )
    visible = torch.tensor([[0, 5], [4, 2], [3, 1]])
    expected = decoder(latents).scatter(1, visible[..., None].expand(-1, -1, 4), 0.0)
    torch.testing.assert_close(decoder(latents, visible), expected)
