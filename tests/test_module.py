from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from petri_scvi._model import DEFAULTS
from petri_scvi._module import PETRIModule
from petri_scvi.modalities import ExpressionModality, ImageModality, Modality, Settings
from petri_scvi.nn import SetTransformer, masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHAPE, PATCH_SIZE, N_GENES, N_PROTEINS = (2, 8, 8), 2, 12, 5
N_LATENTS, DIM, N_HEADS = 3, 8, 2
N_DOCUMENTS = 2
SETTINGS = Settings.of(
    DEFAULTS,
    n_latent_tokens=N_LATENTS,
    embed_dim=DIM,
    n_heads=N_HEADS,
    patch_size=PATCH_SIZE,
    image_encoder_depth=1,
    image_decoder_depth=1,
    image_decoder_dim=DIM,
    expression_encoder_depth=1,
    expression_decoder_dim=DIM,
    image_flip=True,
)


class ProteinModality(Modality):
    """The smallest modality one could think of: a linear encoder and decoder, and squared error."""

    def __init__(self, state: Mapping[str, Any], settings: Settings) -> None:
        super().__init__()
        self.n_tokens = state["n_vars"]
        self.latent_shape = (settings.n_latent_tokens, settings.embed_dim)
        self.encoder = nn.Linear(2 * self.n_tokens, settings.n_latent_tokens * settings.embed_dim)
        self.decoder = nn.Linear(settings.embed_dim, self.n_tokens)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        pass

    def prepare(self, cells: Tensor) -> Tensor:
        return cells.float().log1p()

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        is_visible = torch.ones_like(inputs)
        if visible is not None:
            is_visible = torch.zeros_like(inputs).scatter(1, visible, 1.0)
        return self.encoder(torch.cat([inputs * is_visible, is_visible], dim=1)).unflatten(1, self.latent_shape)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        return self.decoder(latents.mean(dim=1))

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        return masked_mean((prediction - inputs).square(), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        return prediction.expm1()


def make_modality(name: str) -> Modality:
    if name == "image":
        return ImageModality({"channels": ["dna", "actin"], "height": SHAPE[1], "width": SHAPE[2]}, SETTINGS)
    if name == "rna":
        return ExpressionModality({"n_vars": N_GENES}, SETTINGS)
    return ProteinModality({"n_vars": N_PROTEINS}, SETTINGS)


def make_module(names: tuple[str, ...] = ("image", "rna"), mask_ratio: float = 0.75, depth: int = 1) -> PETRIModule:
    torch.manual_seed(0)
    modalities = {name: make_modality(name) for name in names}
    return PETRIModule(modalities, SetTransformer(list(names), DIM, depth, N_HEADS), mask_ratio)


def minibatch_of(names: tuple[str, ...] = ("image", "rna"), n_rna: int = 3) -> dict[str, Any]:
    """Two documents of three cells of each modality."""
    generator = torch.Generator().manual_seed(1)
    cells = {
        "image": torch.randint(0, 255, (N_DOCUMENTS * 3, *SHAPE), generator=generator).to(torch.uint8),
        "rna": torch.randint(0, 9, (N_DOCUMENTS * n_rna, N_GENES), generator=generator).to(torch.int32),
        "protein": torch.randint(0, 99, (N_DOCUMENTS * 3, N_PROTEINS), generator=generator),
    }
    return {"cells": {name: cells[name] for name in names}, "context": torch.tensor([4, 7])}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def forward(module: PETRIModule, minibatch: dict[str, Any], seed: int = 0, **loss_kwargs: Any) -> Any:
    """Outputs of inference and generative, and the losses."""
    return module(minibatch, inference_kwargs={"generator": seeded(seed)}, loss_kwargs=loss_kwargs)


def parameters_without_gradient(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


# One step


def test_outputs_have_one_entry_per_modality_in_the_order_of_the_cells() -> None:
    encoded, decoded, losses = forward(make_module(), minibatch_of())
    for part in (encoded["latents"], encoded["fused"]):
        assert {name: tensor.shape for name, tensor in part.items()} == {
            "image": (6, N_LATENTS, DIM),
            "rna": (6, N_LATENTS, DIM),
        }
    assert {name: m.sum(dim=1).tolist() for name, m in encoded["mask"].items()} == {"image": [12] * 6, "rna": [9] * 6}
    assert decoded["image"].shape == (6, 16, 8)
    assert decoded["rna"].shape == (6, N_GENES)
    assert {n: tensor.shape for n, tensor in losses.reconstruction_loss.items()} == {"image": (), "rna": ()}
    assert losses.loss.shape == ()
    assert losses.n_obs_minibatch == N_DOCUMENTS


def test_gradient_of_a_bimodal_step_reaches_every_parameter() -> None:
    module = make_module()
    forward(module, minibatch_of())[2].loss.backward()
    assert parameters_without_gradient(module) == []


def test_documents_are_consecutive_cells() -> None:
    """Changing a cell of the second document changes nothing in the first."""
    module, minibatch = make_module().eval(), minibatch_of()
    fused = forward(module, minibatch)[0]["fused"]
    minibatch["cells"]["rna"][3:] += 5
    changed = forward(module, minibatch)[0]["fused"]
    for name in ("image", "rna"):
        torch.testing.assert_close(changed[name][:3], fused[name][:3], rtol=1e-5, atol=1e-5)
        assert (changed[name][3:] - fused[name][3:]).abs().amax(dim=(1, 2)).min() > 1e-6


def test_latents_are_taken_before_cells_inform_each_other() -> None:
    module, minibatch = make_module().eval(), minibatch_of()
    encoded = forward(module, minibatch)[0]
    minibatch["cells"]["rna"] += 5
    changed = forward(module, minibatch)[0]
    assert torch.equal(changed["latents"]["image"], encoded["latents"]["image"])
    assert not torch.equal(changed["fused"]["image"], encoded["fused"]["image"])


def test_masked_values_reach_neither_latents_nor_prediction() -> None:
    """Except through the library size of a transcriptome, which is kept here."""
    module, minibatch = make_module().eval(), minibatch_of(("rna",))
    encoded, decoded, losses = forward(module, minibatch)
    counts = minibatch["cells"]["rna"].long()
    for cell, mask in enumerate(encoded["mask"]["rna"]):
        counts[cell, mask] = counts[cell, mask].flip(0)
    changed, changed_decoded, changed_losses = forward(module, {**minibatch, "cells": {"rna": counts}})
    assert torch.equal(changed["fused"]["rna"], encoded["fused"]["rna"])
    assert torch.equal(changed_decoded["rna"], decoded["rna"])
    assert not torch.equal(changed_losses.reconstruction_loss["rna"], losses.reconstruction_loss["rna"])


# Loss


def test_loss_is_the_weighted_sum_of_the_mean_loss_of_each_modality() -> None:
    module, minibatch = make_module().eval(), minibatch_of()
    encoded, decoded, plain = forward(module, minibatch)
    mean = {name: per_cell.mean().item() for name, per_cell in plain.reconstruction_loss.items()}
    assert plain.loss.item() == pytest.approx(mean["image"] + mean["rna"], rel=1e-5)
    for weights in [{"image": 3.0, "rna": 0.5}, {"image": 0.0}, {"rna": 10.0}]:
        weighted = module.loss(minibatch, encoded, decoded, loss_weights=weights)
        expected = sum(weights.get(name, 1.0) * value for name, value in mean.items())
        assert weighted.loss.item() == pytest.approx(expected, rel=1e-5)
        for name, per_cell in plain.reconstruction_loss.items():
            assert torch.equal(weighted.reconstruction_loss[name], per_cell)


@pytest.mark.parametrize("name", ["image", "rna"])
def test_loss_ignores_predictions_of_visible_tokens_and_scores_those_of_masked_ones(name: str) -> None:
    module, minibatch = make_module().eval(), minibatch_of()
    encoded, decoded, plain = forward(module, minibatch)
    mask = encoded["mask"][name]
    for is_scored, where in [(False, ~mask), (True, mask)]:
        changed = decoded[name].clone()
        changed[where] += 3.0
        loss = module.loss(minibatch, encoded, {**decoded, name: changed}).loss
        assert torch.equal(loss, plain.loss) is not is_scored


# Masks


def test_the_same_generator_gives_the_same_masks_and_loss_and_another_does_not() -> None:
    module, minibatch = make_module().eval(), minibatch_of()
    first, again, other = (forward(module, minibatch, seed) for seed in (1, 1, 2))
    for name in ("image", "rna"):
        assert torch.equal(first[0]["mask"][name], again[0]["mask"][name])
        assert not torch.equal(first[0]["mask"][name], other[0]["mask"][name])
    assert torch.equal(first[2].loss, again[2].loss)
    assert not torch.equal(first[2].loss, other[2].loss)


def test_without_a_generator_every_step_masks_anew() -> None:
    module, minibatch = make_module(), minibatch_of()
    first, second = (module(minibatch)[0]["mask"]["image"] for _ in range(2))
    assert not torch.equal(first, second)


def test_masking_nothing_encodes_as_at_inference_and_costs_nothing() -> None:
    module, minibatch = make_module(mask_ratio=0.0).eval(), minibatch_of()
    encoded, _, losses = forward(module, minibatch)
    assert losses.loss.item() == 0.0
    for name, cells in minibatch["cells"].items():
        torch.testing.assert_close(encoded["latents"][name], module.encode(name, cells), rtol=1e-5, atol=1e-5)


def test_cells_are_augmented_only_when_asked() -> None:
    module, minibatch = make_module(), minibatch_of()
    plain = module(minibatch)[0]["inputs"]["image"]
    assert torch.equal(plain, minibatch["cells"]["image"].float())  # statistics are not fitted
    augmented = module(minibatch, inference_kwargs={"is_augmented": True, "generator": seeded()})[0]["inputs"]["image"]
    assert not torch.equal(augmented, plain)
    assert torch.equal(augmented.flatten(2).sort(dim=2).values, plain.flatten(2).sort(dim=2).values)


# Fewer and more modalities


@pytest.mark.parametrize("name", ["image", "rna"])
def test_one_modality_is_enough(name: str) -> None:
    module = make_module((name,))
    losses = forward(module, minibatch_of((name,)))[2]
    assert list(losses.reconstruction_loss) == [name]
    losses.loss.backward()
    assert parameters_without_gradient(module) == []


@pytest.mark.parametrize("name", ["image", "rna"])
def test_a_minibatch_without_a_modality_trains_the_other_one_only(name: str) -> None:
    module = make_module()
    losses = forward(module, minibatch_of((name,)))[2]
    assert list(losses.reconstruction_loss) == [name]
    losses.loss.backward()
    absent = "rna" if name == "image" else "image"
    without_gradient = parameters_without_gradient(module)
    assert all(absent in parameter for parameter in without_gradient)
    assert {f"modalities.{absent}.{p}" for p, _ in module.modalities[absent].named_parameters()} | {
        f"set_transformer.modality_embedding.{absent}"
    } == set(without_gradient)


def test_documents_may_hold_more_cells_of_one_modality_than_of_another() -> None:
    encoded, decoded, losses = forward(make_module(), minibatch_of(n_rna=4))
    assert {name: len(predicted) for name, predicted in decoded.items()} == {"image": 6, "rna": 8}
    assert losses.loss.item() == pytest.approx(sum(loss.item() for loss in losses.reconstruction_loss.values()))


def test_without_set_transformer_a_cell_is_reconstructed_from_itself() -> None:
    module, minibatch = make_module(depth=0).eval(), minibatch_of()
    encoded, decoded, _ = forward(module, minibatch)
    assert torch.equal(encoded["fused"]["image"], encoded["latents"]["image"])
    minibatch["cells"]["rna"] += 5
    assert torch.equal(forward(module, minibatch)[1]["image"], decoded["image"])


def test_a_third_modality_needs_nothing_but_its_own_class() -> None:
    names = ("image", "rna", "protein")
    module, minibatch = make_module(names), minibatch_of(names)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    before = forward(module, minibatch)[2]
    assert before.reconstruction_loss["protein"].isfinite()
    before.loss.backward()
    assert parameters_without_gradient(module) == []
    optimizer.step()
    after = forward(module, minibatch)[2]
    assert after.loss.item() < before.loss.item()
    assert after.reconstruction_loss["protein"].mean() < before.reconstruction_loss["protein"].mean()
    latents = module.encode("protein", minibatch["cells"]["protein"], torch.eye(6, N_PROTEINS, dtype=torch.bool))
    assert latents.shape == (6, N_LATENTS, DIM)


def test_a_third_modality_informs_the_others() -> None:
    names = ("image", "rna", "protein")
    module, minibatch = make_module(names).eval(), minibatch_of(names)
    fused = forward(module, minibatch)[0]["fused"]
    minibatch["cells"]["protein"] *= 3
    changed = forward(module, minibatch)[0]["fused"]
    for name in ("image", "rna"):
        assert (changed[name] - fused[name]).abs().max() > 1e-5


# Encoding outside training


def test_encoding_under_ragged_masks_equals_encoding_each_cell_by_itself() -> None:
    module, cells = make_module().eval(), minibatch_of()["cells"]
    n_hidden = {"image": [0, 3, 15, 3, 0, 8], "rna": [11, 0, 2, 2, 5, 0]}
    for name, numbers in n_hidden.items():
        n_tokens = module.modalities[name].n_tokens
        mask = torch.zeros(len(numbers), n_tokens, dtype=torch.bool)
        for cell, number in enumerate(numbers):
            mask[cell, torch.randperm(n_tokens, generator=seeded(cell))[:number]] = True
        together = module.encode(name, cells[name], mask)
        modality = module.modalities[name]
        for cell in range(len(numbers)):
            visible = (~mask[cell]).nonzero().squeeze(1)[None]
            alone = modality.encode(modality.prepare(cells[name][cell : cell + 1]), visible)
            torch.testing.assert_close(together[cell], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["image", "rna"])
def test_hiding_nothing_is_the_same_as_no_mask(name: str) -> None:
    module, cells = make_module().eval(), minibatch_of()["cells"][name]
    nothing = torch.zeros(len(cells), module.modalities[name].n_tokens, dtype=torch.bool)
    torch.testing.assert_close(module.encode(name, cells, nothing), module.encode(name, cells), rtol=1e-5, atol=1e-5)


def test_hidden_counts_do_not_reach_the_latents() -> None:
    module, cells = make_module().eval(), minibatch_of()["cells"]["rna"]
    mask = torch.rand(len(cells), N_GENES, generator=seeded()) < 0.5
    changed = torch.where(mask, 1_000, cells.long())
    assert torch.equal(module.encode("rna", changed, mask), module.encode("rna", cells, mask))


def test_latent_shape_is_that_of_the_encoders() -> None:
    assert make_module().latent_shape == (N_LATENTS, DIM)


def test_drawing_cells_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="does not generate cells"):
        make_module().sample()
