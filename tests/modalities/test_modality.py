from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from petri_scvi._model import DEFAULTS
from petri_scvi.modalities import EncoderSettings, ExpressionModality, ImageModality, Settings
from petri_scvi.nn import patchify

PATCH_SIZE = 2
SIZES: dict[str, Any] = {
    "n_latent_tokens": 3,
    "embed_dim": 8,
    "n_heads": 2,
    "patch_size": PATCH_SIZE,
    "image_encoder_depth": 1,
    "expression_encoder_depth": 1,
}
DECODERS: dict[str, Any] = {"image_decoder_dim": 8, "image_decoder_depth": 1, "expression_decoder_dim": 8}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_images(shape: tuple[int, int, int] = (2, 4, 4), **options: Any) -> ImageModality:
    torch.manual_seed(0)
    state = {"channels": ["dna", "actin", "er"][: shape[0]], "height": shape[1], "width": shape[2]}
    return ImageModality(state, Settings.of(DEFAULTS, **SIZES, **DECODERS, **options))


def make_expression(likelihood: Literal["nb", "normal"] = "nb", n_genes: int = 6) -> ExpressionModality:
    torch.manual_seed(0)
    settings = Settings.of(DEFAULTS, **SIZES, **DECODERS, expression_likelihood=likelihood)
    return ExpressionModality({"n_vars": n_genes}, settings)


# Images


def test_image_tokens_are_its_patches() -> None:
    modality = make_images((2, 4, 6))
    assert modality.n_tokens == 6
    assert modality.latent_shape == (3, 8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channel_statistics_equal_numpys_over_all_pixels_of_all_chunks(dtype: str, rng: np.random.Generator) -> None:
    high = np.iinfo(dtype).max if dtype.startswith("uint") else 1000
    pixels = rng.integers(0, high, (7, 2, 4, 4)).astype(dtype)
    modality = make_images()
    modality.fit_statistics(torch.from_numpy(part) for part in (pixels[:3], pixels[3:4], pixels[4:]))
    np.testing.assert_allclose(modality.channel_mean, pixels.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(modality.channel_std, pixels.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)


def test_a_small_spread_on_a_large_offset_is_not_lost() -> None:
    """In single precision the squares of 60,000 would swallow a variance of 0.25."""
    pixels = torch.full((5, 2, 4, 4), 60_000, dtype=torch.uint16)
    pixels[:, :, ::2] = 60_001
    modality = make_images()
    modality.fit_statistics([pixels])
    assert modality.channel_std.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize("value", [0, 7, 65_535])
def test_a_blank_channel_becomes_zero_and_not_nan(value: int) -> None:
    pixels = torch.full((5, 2, 4, 4), value, dtype=torch.uint16)
    pixels[:, 1, 0] = 5
    modality = make_images()
    modality.fit_statistics([pixels])
    prepared = modality.prepare(pixels)
    assert prepared.isfinite().all()
    assert (prepared[:, 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_prepared_images_have_mean_zero_and_spread_one_per_channel(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 200, (20, 2, 4, 4), generator=seeded()).to(dtype)
    modality = make_images()
    modality.fit_statistics([pixels])
    prepared = modality.prepare(pixels)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared.mean(dim=(0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(prepared.std(dim=(0, 2, 3), correction=0), torch.ones(2), rtol=1e-5, atol=0)


def test_to_measurement_undoes_normalisation_and_patches() -> None:
    modality = make_images((2, 4, 6))
    pixels = torch.randint(0, 60_000, (5, 2, 4, 6), generator=seeded()).to(torch.uint16)
    modality.fit_statistics([pixels])
    restored = modality.to_measurement(patchify(modality.prepare(pixels), PATCH_SIZE))
    torch.testing.assert_close(restored, pixels.float(), rtol=1e-5, atol=1e-2)


def test_image_statistics_are_saved_with_the_weights() -> None:
    modality, copy = make_images(), make_images()
    modality.fit_statistics([torch.randint(0, 9, (4, 2, 4, 4), generator=seeded())])
    copy.load_state_dict(modality.state_dict())
    assert torch.equal(copy.channel_mean, modality.channel_mean)
    assert torch.equal(copy.channel_std, modality.channel_std)


def test_image_decoder_has_no_access_to_the_target() -> None:
    modality = make_images()
    latents = torch.randn(3, 3, 8, generator=seeded())
    first, second = torch.zeros(3, 2, 4, 4), torch.full((3, 2, 4, 4), 100.0)
    assert torch.equal(modality.decode(latents, first), modality.decode(latents, second))


def test_image_loss_is_the_mean_square_over_pixels_of_masked_patches() -> None:
    modality = make_images((1, 2, 4))
    inputs = torch.tensor([[[[0.0, 0, 5, 5], [0, 0, 5, 5]]]])  # left patch 0, right patch 5
    prediction = torch.tensor([[[1.0, 1, 1, 3], [99, 99, 99, 99]]])
    assert modality.loss(prediction, inputs, torch.tensor([[True, False]])).tolist() == [3.0]
    assert modality.loss(prediction, inputs, torch.tensor([[False, False]])).tolist() == [0.0]


# Augmentation


def asymmetric(n_cells: int, height: int, width: int) -> Tensor:
    """Two channels without any symmetry; every cell the same."""
    return torch.arange(2.0 * height * width).reshape(1, 2, height, width).expand(n_cells, -1, -1, -1).contiguous()


def test_augmentation_is_off_by_default() -> None:
    images = torch.randint(0, 255, (8, 2, 4, 4), generator=seeded()).to(torch.uint8)
    assert torch.equal(make_images().augment(images, seeded()), images.float())


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 6)])
def test_flips_move_pixels_inside_their_channel_and_keep_channels_together(shape: tuple[int, int, int]) -> None:
    images = asymmetric(32, *shape[1:])
    changed = make_images(shape, image_flip=True).augment(images, seeded())
    assert torch.equal(changed.flatten(2).sort(dim=2).values, images.flatten(2))
    n_pixels = shape[1] * shape[2]
    assert torch.equal(changed[:, 1], changed[:, 0] + n_pixels)  # both channels moved alike


def test_all_eight_symmetries_of_a_square_occur_about_equally_often() -> None:
    changed = make_images(image_flip=True).augment(asymmetric(4_000, 4, 4), seeded())
    square = asymmetric(1, 4, 4)[0]
    symmetries = [torch.rot90(flipped, k, (-2, -1)) for flipped in (square, square.flip(-1)) for k in range(4)]
    shares = [(changed == symmetry).all(dim=(1, 2, 3)).float().mean().item() for symmetry in symmetries]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == pytest.approx([1 / 8] * 8, abs=0.03)


def test_an_oblong_image_is_flipped_but_never_turned_on_its_side() -> None:
    changed = make_images((2, 4, 6), image_flip=True).augment(asymmetric(400, 4, 6), seeded())
    oblong = asymmetric(1, 4, 6)[0]
    symmetries = [oblong, oblong.flip(-1), oblong.flip(-2), oblong.flip(-1, -2)]
    counts = [int((changed == symmetry).all(dim=(1, 2, 3)).sum()) for symmetry in symmetries]
    assert sum(counts) == 400
    assert min(counts) > 0


def test_intensity_jitter_multiplies_each_channel_of_each_cell_by_a_factor_of_its_own() -> None:
    images = torch.randint(1, 255, (500, 2, 4, 4), generator=seeded(1)).to(torch.uint8)
    ratio = make_images(image_intensity_jitter=0.2).augment(images, seeded()) / images.float()
    factor = ratio[:, :, :1, :1]
    torch.testing.assert_close(ratio, factor.expand_as(ratio), rtol=1e-5, atol=0)
    assert len(factor.unique()) == 1_000
    log_factor = factor.log()
    assert log_factor.mean().item() == pytest.approx(0.0, abs=0.03)
    assert log_factor.std().item() == pytest.approx(0.2, abs=0.02)


def test_augmentation_is_a_function_of_its_generator_and_leaves_the_images_alone() -> None:
    modality = make_images(image_flip=True, image_intensity_jitter=0.5)
    images = asymmetric(16, 4, 4)
    original = images.clone()
    first, again, other = (modality.augment(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, original)


# Expression


def counts_of(n_cells: int = 4, n_genes: int = 6) -> Tensor:
    return torch.randint(1, 30, (n_cells, n_genes), generator=seeded(2)).float()


def test_expression_tokens_are_its_genes() -> None:
    modality = make_expression()
    assert modality.n_tokens == 6
    assert modality.latent_shape == (3, 8)


def test_predicted_counts_of_a_cell_sum_to_its_library_size() -> None:
    modality, counts = make_expression(), counts_of()
    prediction = modality.decode(torch.randn(4, 3, 8, generator=seeded()), counts)
    torch.testing.assert_close(modality.to_measurement(prediction).sum(dim=1), counts.sum(dim=1))
    torch.testing.assert_close(prediction.exp().sum(dim=1), counts.sum(dim=1))


def test_of_the_counts_the_decoder_knows_the_library_size_only() -> None:
    modality, counts = make_expression(), counts_of()
    latents = torch.randn(4, 3, 8, generator=seeded())
    assert torch.equal(modality.decode(latents, counts.flip(1)), modality.decode(latents, counts))
    doubled = modality.decode(latents, 2 * counts)
    torch.testing.assert_close(doubled.exp(), 2 * modality.decode(latents, counts).exp())


def test_a_cell_without_counts_is_scored_finitely() -> None:
    modality, empty = make_expression(), torch.zeros(1, 6)
    prediction = modality.decode(modality.encode(modality.prepare(empty)), empty)
    assert modality.loss(prediction, empty, torch.ones(1, 6, dtype=torch.bool)).isfinite().all()


def test_decoder_starts_at_the_mean_proportions_of_the_training_cells() -> None:
    modality = make_expression(n_genes=3)
    chunks = [torch.tensor([[400.0, 100.0, 0.0]]), torch.tensor([[300.0, 200.0, 0.0], [0.0, 0.0, 0.0]])]
    modality.fit_statistics(chunks)
    prediction = modality.decode(torch.zeros(1, 3, 8), torch.tensor([[0.0, 0.0, 1000.0]])).exp()
    # half a count per gene: 700.5, 300.5 and 0.5 of 1001.5
    assert prediction[0].tolist() == pytest.approx([699.45, 300.05, 0.499], rel=1e-3)
    assert prediction.log().isfinite().all()


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
def test_levels_are_standardised_by_the_training_cells(
    likelihood: Literal["nb", "normal"], rng: np.random.Generator
) -> None:
    counts = rng.poisson(rng.gamma(2, 3, 6), (50, 6)).astype(np.float32)
    counts[:, 5] = 0  # never seen
    modality = make_expression(likelihood)
    modality.fit_statistics(torch.from_numpy(part) for part in (counts[:20], counts[20:21], counts[21:]))
    levels = np.log1p(counts.astype(np.float64)) if likelihood == "nb" else counts.astype(np.float64)
    tokens = modality.encoder.tokens
    np.testing.assert_allclose(tokens.level_mean, levels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(tokens.level_std, [np.sqrt(levels.var(axis=0).mean())] * 6, rtol=1e-6)


def test_normal_decoder_starts_at_the_mean_level() -> None:
    modality = make_expression("normal", n_genes=2)
    modality.fit_statistics([torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [6.0, 3.0]])])
    assert modality.decode(torch.zeros(1, 3, 8), torch.ones(1, 2)).tolist() == [[3.0, 1.0]]


def test_normal_likelihood_is_the_mean_squared_error_of_masked_genes() -> None:
    modality = make_expression("normal", n_genes=3)
    prediction, inputs = torch.tensor([[1.0, 2.0, 50.0]]), torch.tensor([[0.0, 5.0, 0.0]])
    assert modality.loss(prediction, inputs, torch.tensor([[True, True, False]])).tolist() == [5.0]
    assert torch.equal(modality.to_measurement(prediction), prediction)
    assert "log_dispersion" not in dict(modality.named_parameters())


def test_count_likelihood_uses_one_dispersion_per_gene_and_masked_genes_only() -> None:
    modality = make_expression(n_genes=3)
    with torch.no_grad():
        modality.log_dispersion.copy_(torch.tensor([-1.0, 2.0, 0.0]))
    inputs, log_mean = torch.tensor([[3.0, 8.0, 500.0]]), torch.tensor([[0.5, 1.5, -9.0]])
    scale = log_mean - modality.log_dispersion
    expected = -torch.distributions.NegativeBinomial(modality.log_dispersion.exp(), logits=scale).log_prob(inputs)
    loss = modality.loss(log_mean, inputs, torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(expected[0, :2].mean().item(), rel=1e-5)


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
def test_counts_are_log_transformed_before_encoding_and_levels_are_not(likelihood: Literal["nb", "normal"]) -> None:
    modality, counts = make_expression(likelihood), counts_of()
    expected = modality.encoder(counts.log1p() if likelihood == "nb" else counts)
    assert torch.equal(modality.encode(counts), expected)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.float64])
def test_expression_is_prepared_as_single_precision_without_change(dtype: torch.dtype) -> None:
    counts = torch.tensor([[0, 3, 2_000]]).to(dtype)
    prepared = make_expression(n_genes=3).prepare(counts)
    assert prepared.dtype == torch.float32
    assert prepared.tolist() == [[0.0, 3.0, 2_000.0]]


def test_a_modality_is_trained_as_a_whole() -> None:
    modality: nn.Module = make_expression()
    names = {name.partition(".")[0] for name, _ in modality.named_parameters()}
    assert names == {"encoder", "decoder", "log_dispersion"}


# Without decoders


@pytest.mark.parametrize(
    ("modality_class", "state", "cells"),
    [
        (ImageModality, {"channels": ["dna"], "height": 4, "width": 4}, torch.rand(5, 1, 4, 4)),
        (ExpressionModality, {"n_vars": 6}, counts_of(5)),
    ],
)
def test_what_only_encodes_has_the_weights_and_statistics_of_its_encoder_and_no_others(
    modality_class: Any, state: dict[str, Any], cells: Tensor
) -> None:
    modality = modality_class(state, EncoderSettings.of(DEFAULTS, **SIZES))
    modality.fit_statistics([cells])
    assert modality.decoder is None
    assert {name.partition(".")[0] for name, _ in modality.named_parameters()} == {"encoder"}
    assert modality.encode(modality.prepare(cells)).shape == (5, 3, 8)


# Settings


def test_settings_are_those_arguments_of_a_model_that_build_networks_and_nothing_else() -> None:
    settings = Settings.of({**DEFAULTS, "mdata": None}, embed_dim=16)
    follow = {"embed_dim": 16, "n_heads": 1, "image_decoder_dim": 16, "expression_decoder_dim": 64}
    assert {**vars(settings), "modality_settings": None} == {**DEFAULTS, **follow}
    with pytest.raises(TypeError, match=r"unexpected arguments \['embed_dims'\]; expected some of .*'embed_dim'"):
        Settings.of(DEFAULTS, embed_dims=16)
    with pytest.raises(TypeError, match=r"unexpected arguments \['image_decoder_dim'\]"):
        EncoderSettings.of(DEFAULTS, image_decoder_dim=8)


@pytest.mark.parametrize(
    ("embed_dim", "given", "follow"),
    [
        (64, {}, (4, 64, 256)),
        (256, {}, (8, 128, 512)),
        (512, {}, (8, 128, 512)),
        (80, {}, (5, 80, 320)),
        (132, {}, (6, 120, 512)),
        (64, {"n_heads": 8, "expression_decoder_dim": 32}, (8, 64, 32)),
    ],
)
def test_heads_and_widths_of_decoders_follow_the_width_of_tokens(
    embed_dim: int, given: dict[str, int], follow: tuple[int, int, int]
) -> None:
    settings = Settings.of(DEFAULTS, embed_dim=embed_dim, **given)
    assert (settings.n_heads, settings.image_decoder_dim, settings.expression_decoder_dim) == follow
