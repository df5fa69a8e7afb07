from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from petri_scvi.nn import ImageDecoder, ImageEncoder, patchify, sincos_position, unpatchify

SHAPE, PATCH_SIZE, DIM, N_LATENTS = (2, 4, 6), 2, 8, 3
N_PATCHES = 6


@pytest.fixture(params=[True, False], ids=["path", "no path"])
def encoder(request: pytest.FixtureRequest) -> ImageEncoder:
    torch.manual_seed(0)
    encoder = ImageEncoder(
        SHAPE, PATCH_SIZE, N_LATENTS, DIM, image_encoder_depth=2, n_heads=2, linear_path=request.param
    )
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))


def randomised(decoder: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


# Encoder


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


# Decoder


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


def test_image_decoder_leaves_out_patches_that_nobody_reads(latents: Tensor) -> None:
    decoder = randomised(
        ImageDecoder((1, 4, 6), 2, embed_dim=8, image_decoder_dim=12, image_decoder_depth=2, n_heads=2)
    )
    visible = torch.tensor([[0, 5], [4, 2], [3, 1]])
    expected = decoder(latents).scatter(1, visible[..., None].expand(-1, -1, 4), 0.0)
    torch.testing.assert_close(decoder(latents, visible), expected)


# Patches


@pytest.mark.parametrize(
    ("shape", "patch_size"), [((1, 4, 4), 2), ((3, 8, 8), 4), ((2, 4, 12), 4), ((5, 12, 6), 3), ((2, 3, 5), 1)]
)
def test_unpatchify_undoes_patchify(shape: tuple[int, int, int], patch_size: int) -> None:
    n_channels, height, width = shape
    images = torch.arange(2.0 * n_channels * height * width).reshape(2, *shape)
    patches = patchify(images, patch_size)
    assert patches.shape == (2, height // patch_size * (width // patch_size), n_channels * patch_size**2)
    assert torch.equal(unpatchify(patches, shape, patch_size), images)


def test_patches_come_row_by_row_and_pixels_inside_too() -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 4)  # 0 1 2 3 / 4 5 6 7
    assert patchify(image, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    upright = torch.arange(8.0).reshape(1, 1, 4, 2)  # 0 1 / 2 3 / 4 5 / 6 7
    assert patchify(upright, 2).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_a_patch_holds_one_channel_after_the_other() -> None:
    image = torch.stack([torch.arange(4.0).reshape(2, 2), 10 + torch.arange(4.0).reshape(2, 2)])[None]
    assert patchify(image, 2).tolist() == [[[0, 1, 2, 3, 10, 11, 12, 13]]]


def test_patch_number_is_row_times_columns_plus_column() -> None:
    images = torch.zeros(1, 2, 6, 9)
    images[0, :, 3:6, 6:9] = 1.0  # second row, third column of a 2 x 3 grid
    assert patchify(images, 3).mean(dim=2).tolist() == [[0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize(("n_rows", "n_columns", "embed_dim"), [(4, 4, 16), (2, 6, 8), (16, 1, 4), (1, 1, 4)])
def test_every_patch_has_its_own_position(n_rows: int, n_columns: int, embed_dim: int) -> None:
    position = sincos_position(n_rows, n_columns, embed_dim)
    assert position.shape == (n_rows * n_columns, embed_dim)
    assert position.dtype == torch.float32
    assert len(position.unique(dim=0)) == n_rows * n_columns


def test_quarters_are_sine_and_cosine_of_row_and_column() -> None:
    position = sincos_position(3, 5, 8)
    row, column = 2, 3
    slow = 1 / 100  # 10,000 ** -(1 / 2)
    expected = [
        *(math.sin(row), math.sin(row * slow), math.cos(row), math.cos(row * slow)),
        *(math.sin(column), math.sin(column * slow), math.cos(column), math.cos(column * slow)),
    ]
    torch.testing.assert_close(position[row * 5 + column], torch.tensor(expected))


def test_position_of_a_patch_does_not_depend_on_the_size_of_the_image() -> None:
    small, large = sincos_position(2, 3, 16).reshape(2, 3, 16), sincos_position(7, 8, 16).reshape(7, 8, 16)
    assert torch.equal(small, large[:2, :3])
