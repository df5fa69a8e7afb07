"""The linear paths from visible patches and genes to the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from petri_scvi._model import DEFAULTS
from petri_scvi.modalities import ExpressionModality, ImageModality, Settings
from petri_scvi.modalities._axes import Reservoir, principal_axes

if TYPE_CHECKING:
    from petri_scvi.nn import ImagePath

SMALL: dict[str, Any] = {
    "n_latent_tokens": 3,
    "n_heads": 2,
    "patch_size": 4,
    "image_encoder_depth": 1,
    "image_decoder_dim": 8,
    "image_decoder_depth": 1,
    "expression_encoder_depth": 1,
    "expression_decoder_dim": 8,
}
N_GENES = 30


def make_expression(counts: Tensor, embed_dim: int = 8, **changes: Any) -> ExpressionModality:
    torch.manual_seed(0)
    settings = Settings.of(DEFAULTS, **SMALL, embed_dim=embed_dim, **changes)
    modality = ExpressionModality({"n_vars": counts.shape[1]}, settings)
    modality.fit_statistics(counts.split(7))
    return modality


def make_images(images: Tensor, embed_dim: int = 32, **changes: Any) -> ImageModality:
    torch.manual_seed(0)
    n_channels, height, width = images.shape[1:]
    state = {"channels": [str(i) for i in range(n_channels)], "height": height, "width": width}
    modality = ImageModality(state, Settings.of(DEFAULTS, **SMALL, embed_dim=embed_dim, **changes))
    modality.fit_statistics(images.split(7))
    return modality


def added(modality: Any, cells: Tensor, visible: Tensor | None = None) -> Tensor:
    """What the path adds to the latents, shape ``(B, D)``; the same for each of them."""
    inputs = modality.prepare(cells)
    path = modality.encoder.linear_path
    with torch.no_grad():
        latents = modality.encode(inputs, visible)
        modality.encoder.linear_path = None
        difference = latents - modality.encode(inputs, visible)  # (B, L, D)
        modality.encoder.linear_path = path
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), rtol=1e-4, atol=1e-5)
    return difference[:, 0]


def path_of(modality: ImageModality) -> ImagePath:
    path = modality.encoder.linear_path
    assert path is not None
    return path


@pytest.fixture
def counts(rng: np.random.Generator) -> Tensor:
    programs = rng.normal(size=(60, 4)) @ rng.normal(size=(4, N_GENES))
    return torch.from_numpy(rng.poisson(np.exp(1 + 0.5 * programs)).astype(np.float32))


@pytest.fixture
def images(rng: np.random.Generator) -> Tensor:
    brightness = np.exp(rng.normal(scale=0.5, size=(60, 3, 1, 1)))
    shared = rng.gamma(2.0, size=(60, 1, 8, 8)) * rng.random((60, 1, 1, 1))
    return torch.from_numpy((brightness * (shared + rng.gamma(2.0, size=(60, 3, 8, 8)))).astype(np.float32) * 100)


def visible_of(n_cells: int, n_tokens: int, n_visible: int) -> Tensor:
    return torch.rand(n_cells, n_tokens, generator=torch.Generator().manual_seed(3)).topk(n_visible, dim=1).indices


# Expression


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
@pytest.mark.parametrize("gene_reads", ["deviations", "tokens"])
def test_an_untrained_path_gives_the_principal_components_of_expression(
    counts: Tensor, likelihood: Literal["nb", "normal"], gene_reads: str
) -> None:
    values = counts if likelihood == "nb" else counts.log1p()
    modality = make_expression(values, expression_likelihood=likelihood, gene_reads=gene_reads)
    scores = PCA(8).fit_transform(counts.log1p().double().numpy())
    found = added(modality, values).numpy()
    for i in range(8):
        assert abs(np.corrcoef(found[:, i], scores[:, i])[0, 1]) > 0.99


def test_the_path_is_three_times_the_mean_over_visible_genes_of_embedding_times_deviation(counts: Tensor) -> None:
    modality, visible = make_expression(counts), visible_of(len(counts), N_GENES, 6)
    tokens = modality.encoder.tokens
    levels = counts.log1p()
    mean, scale = levels.mean(dim=0), levels.var(dim=0, correction=0).mean().sqrt()
    expected = torch.stack(
        [
            sum((tokens.embedding[gene] * (levels[cell, gene] - mean[gene]) / scale for gene in genes), torch.zeros(8))
            for cell, genes in enumerate(visible.tolist())
        ]
    )
    torch.testing.assert_close(added(modality, counts, visible), 3 * expected.detach() / 6, rtol=1e-3, atol=1e-4)


def test_hidden_genes_do_not_reach_the_path(counts: Tensor) -> None:
    modality, visible = make_expression(counts), visible_of(len(counts), N_GENES, 6)
    is_visible = torch.zeros(len(counts), N_GENES, dtype=torch.bool).scatter(1, visible, True)
    other = torch.where(is_visible, counts, torch.inf)
    assert torch.equal(added(modality, other, visible), added(modality, counts, visible))
    assert (added(modality, counts + 1, visible) - added(modality, counts, visible)).abs().min() > 0


def test_embeddings_start_as_axes_whose_mean_square_over_genes_is_one(counts: Tensor) -> None:
    embedding = make_expression(counts).encoder.tokens.embedding
    torch.testing.assert_close(embedding.T @ embedding / N_GENES, torch.eye(8), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_cells", [1, 2, 5])
def test_dimensions_beyond_the_axes_of_few_cells_keep_their_random_start(counts: Tensor, n_cells: int) -> None:
    few = make_expression(counts[:n_cells])
    torch.manual_seed(0)
    untouched = ExpressionModality({"n_vars": N_GENES}, Settings.of(DEFAULTS, **SMALL, embed_dim=8))
    is_same = (few.encoder.tokens.embedding == untouched.encoder.tokens.embedding).all(dim=0)
    assert is_same.tolist() == [i >= n_cells - 1 for i in range(8)]
    assert few.encode(few.prepare(counts)).isfinite().all()


def test_genes_that_are_constant_in_training_add_nothing(counts: Tensor) -> None:
    counts[:, :3] = 2
    counts[:, 3] = 0
    modality = make_expression(counts)
    changed = counts.clone()
    changed[:, :4] += 5
    torch.testing.assert_close(added(modality, changed), added(modality, counts), rtol=1e-4, atol=1e-4)


def test_expression_that_never_varies_is_encoded_finitely(counts: Tensor) -> None:
    modality = make_expression(torch.ones(5, N_GENES))
    assert modality.encode(modality.prepare(counts)).isfinite().all()


@pytest.mark.parametrize("gene_reads", ["deviations", "tokens"])
def test_without_the_path_parameters_are_those_it_does_not_add(counts: Tensor, gene_reads: str) -> None:
    with_path, without = (make_expression(counts, linear_path=on, gene_reads=gene_reads) for on in (True, False))
    assert set(with_path.state_dict()) - set(without.state_dict()) == {"encoder.linear_path.project.weight"}
    torch.manual_seed(0)
    start = ExpressionModality({"n_vars": N_GENES}, Settings.of(DEFAULTS, **SMALL, embed_dim=8))
    is_random = torch.equal(without.encoder.tokens.embedding, start.encoder.tokens.embedding)
    assert is_random == (gene_reads == "tokens")  # the paper's form knows nothing of axes


# Images


def statistics_of(image: np.ndarray, mean: np.ndarray, std: np.ndarray, patches: list[int]) -> list[float]:
    """Of one cell, as the documentation describes them; shapes ``(C, 8, 8)`` and ``(C,)``."""
    cut = image.reshape(len(image), 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(len(image), 4, 16)[:, patches]
    normalised = (cut - mean[:, None, None]) / std[:, None, None]
    between, within = normalised.mean(axis=2).var(axis=1), normalised.var(axis=2).mean(axis=1)
    correlation = np.corrcoef(cut.reshape(len(image), -1)).reshape(len(image), len(image))
    return [
        *np.log(cut.mean(axis=(1, 2)) / mean),
        *np.log(between + 1e-4) / 2,
        *np.log(within + 1e-4) / 2,
        *correlation[np.triu_indices(len(image), 1)],
    ]


@pytest.mark.parametrize("n_channels", [1, 3])
def test_an_untrained_path_gives_the_principal_components_of_standardised_channel_statistics(
    images: Tensor, n_channels: int
) -> None:
    images = images[:, :n_channels]
    modality, pixels = make_images(images), images.double().numpy()
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    every = np.array([statistics_of(image, mean, std, [0, 1, 2, 3]) for image in pixels])
    n = every.shape[1]
    assert n == {1: 3, 3: 12}[n_channels]
    scores = PCA(n).fit_transform((every - every.mean(axis=0)) / every.std(axis=0))
    found = added(modality, images).numpy()
    for i in range(n):
        assert abs(np.corrcoef(found[:, i], scores[:, i])[0, 1]) > 0.99
    np.testing.assert_allclose(np.abs(found[:, :n]), np.abs(scores), rtol=1e-3, atol=2e-3)
    assert not np.any(np.abs(found[:, n:]) > 1e-5)


def test_statistics_are_those_of_visible_patches_in_units_of_all_cells(images: Tensor) -> None:
    modality, pixels = make_images(images), images.double().numpy()
    visible = visible_of(len(images), 4, 2)
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    every = np.array([statistics_of(image, mean, std, [0, 1, 2, 3]) for image in pixels])
    seen = np.array([statistics_of(pixels[i], mean, std, visible[i].tolist()) for i in range(len(pixels))])
    weight = path_of(modality).project.weight.detach().double().numpy()
    expected = (seen - every.mean(axis=0)) / every.std(axis=0) @ weight.T
    np.testing.assert_allclose(added(modality, images, visible), expected, rtol=1e-3, atol=2e-3)


def test_hidden_patches_do_not_reach_the_path(images: Tensor) -> None:
    modality = make_images(images)
    visible = torch.tensor([[0, 1]]).expand(len(images), -1)  # the upper half
    other = images.clone()
    other[:, :, 4:] = torch.inf
    assert torch.equal(added(modality, other, visible), added(modality, images, visible))
    other = images.clone()
    other[:, :, :4] *= 2
    assert (added(modality, other, visible) - added(modality, images, visible)).abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("n_visible", [1, 4])
def test_blank_and_standardised_channels_are_encoded_finitely(images: Tensor, n_visible: int) -> None:
    images[:, 0] = 0
    images[:, 1] -= images[:, 1].mean()
    modality = make_images(images)
    path = added(modality, images, visible_of(len(images), 4, n_visible))
    assert path.isfinite().all()
    assert path.abs().max() < 100
    assert added(modality, images + 50).isfinite().all()


def test_fewer_latent_dimensions_than_statistics_keep_the_first_axes(images: Tensor) -> None:
    wide, narrow = make_images(images), make_images(images, embed_dim=8)
    first = path_of(wide).project.weight[:8]
    torch.testing.assert_close(path_of(narrow).project.weight, first, rtol=1e-3, atol=1e-3)


def test_one_image_is_enough_to_fit(images: Tensor) -> None:
    modality = make_images(images[:1])
    assert modality.encode(modality.prepare(images)).isfinite().all()
    assert not path_of(modality).project.weight.any()


def test_without_the_path_an_image_model_has_nothing_of_it(images: Tensor) -> None:
    with_path, without = make_images(images), make_images(images, linear_path=False)
    names = {"project.weight", "relative_std", "statistic_mean", "statistic_std"}
    assert set(with_path.state_dict()) - set(without.state_dict()) == {f"encoder.linear_path.{n}" for n in names}


def test_statistics_in_bfloat16_stay_near_float32(images: Tensor) -> None:
    modality = make_images(images)
    patches = torch.randn(20, 4, 48, generator=torch.Generator().manual_seed(0))
    expected = path_of(modality)(patches)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = path_of(modality)(patches)
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()


# Axes


def test_every_row_of_a_stream_is_kept_equally_often() -> None:
    kept = np.zeros(50)
    for seed in range(400):
        reservoir = Reservoir(1, n_rows=10)
        reservoir._rng = np.random.default_rng(seed)
        for chunk in torch.arange(50.0).unsqueeze(1).split(8):
            reservoir.update(chunk)
        kept[reservoir.rows.squeeze(1).long().numpy()] += 1
    assert kept.sum() == 400 * 10  # none twice
    assert kept.mean() == 80
    assert np.abs(kept - 80).max() < 5 * np.sqrt(80 * 0.8)


def test_a_short_stream_is_kept_whole() -> None:
    reservoir, rows = Reservoir(3, n_rows=10), torch.randn(7, 3)
    for chunk in rows.split(2):
        reservoir.update(chunk)
    assert torch.equal(reservoir.rows, rows)


def test_axes_are_those_of_pca_and_leave_the_random_state_alone(rng: np.random.Generator) -> None:
    rows = torch.from_numpy(rng.normal(size=(50, 20)) * np.linspace(3, 1, 20) + 7)
    state = torch.get_rng_state()
    axes = principal_axes(rows, 5)
    assert torch.equal(torch.get_rng_state(), state)
    similarity = np.abs(axes.numpy() @ PCA(5).fit(rows.numpy()).components_.T)
    np.testing.assert_allclose(similarity, np.eye(5), atol=1e-6)
    assert (axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)) > 0).all()
