from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import ImageEncoder, patchify, unpatchify

SHAPE, PATCH_SIZE, DIM, N_LATENTS = (2, 4, 6), 2, 8, 3
N_PATCHES = 6


@pytest.fixture
def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    encoder = ImageEncoder(SHAPE, PATCH_SIZE, N_LATENTS, DIM, image_encoder_depth=2, n_heads=2)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_latents_have_one_row_per_latent_token(encoder: ImageEncoder, images: Tensor) -> None:
    assert encoder(images).shape == (4, N_LATENTS, DIM)


def test_only_visible_patches_matter_and_each_of_them_does(encoder: ImageEncoder, images: Tensor) -> None:
    visible = torch.tensor([[0, 1], [2, 5], [3, 4], [0, 5]])
    latents = encoder(images, visible)
    patches = patchify(images, PATCH_SIZE)
    is_visible = torch.zeros(4, N_PATCHES, dtype=torch.bool).scatter(1, visible, True)
    hidden_changed = unpatchify(torch.where(is_visible[..., None], patches, 1e6), SHAPE, PATCH_SIZE)
    assert torch.equal(encoder(hidden_changed, visible), latents)
    for position in range(2):
        changed = patches.clone()
        changed[torch.arange(4), visible[:, position]] += 1
        changed_latents = encoder(unpatchify(changed, SHAPE, PATCH_SIZE), visible)
        assert ((changed_latents - latents).abs().amax(dim=(1, 2)) > 1e-4).all()


def test_order_of_the_visible_patches_does_not_matter(encoder: ImageEncoder, images: Tensor) -> None:
    visible = torch.tensor([[0, 2, 5]]).expand(4, -1)
    torch.testing.assert_close(encoder(images, visible[:, [2, 0, 1]]), encoder(images, visible), rtol=1e-5, atol=1e-5)


def test_seeing_every_patch_is_the_same_as_no_mask(encoder: ImageEncoder, images: Tensor) -> None:
    everything = torch.arange(N_PATCHES).expand(4, -1)
    torch.testing.assert_close(encoder(images, everything), encoder(images), rtol=1e-5, atol=1e-5)


def test_where_a_patch_lies_matters(encoder: ImageEncoder, images: Tensor) -> None:
    patches = patchify(images, PATCH_SIZE)
    moved = unpatchify(patches[:, [1, 0, 2, 3, 4, 5]], SHAPE, PATCH_SIZE)
    assert (encoder(moved) - encoder(images)).abs().max() > 1e-3


def test_a_cell_is_encoded_without_regard_to_the_others(encoder: ImageEncoder, images: Tensor) -> None:
    torch.testing.assert_close(encoder(images[2:3])[0], encoder(images)[2], rtol=1e-5, atol=1e-5)
