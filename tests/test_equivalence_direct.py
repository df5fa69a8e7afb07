"""The training step is that of its direct composition: the same losses and the same gradient of every parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from torch import Tensor

from benchmarks._cases import NETWORK
from benchmarks.reference import direct_loss
from petri_scvi._model import DEFAULTS
from petri_scvi._module import build_module
from petri_scvi.modalities import ExpressionModality, ImageModality, Settings
from petri_scvi.nn import random_masking

if TYPE_CHECKING:
    from petri_scvi._module import PETRIModule

TOLERANCE = 1e-4
N_DOCUMENTS, MASK_RATIO = 2, 0.75


def make_module(
    n_genes: int,
    side: int,
    likelihood: Literal["nb", "normal"],
    form: dict[str, Any],
    **sizes: int,
) -> PETRIModule:
    states: dict[str, Any] = {
        "image": (ImageModality, {"channels": list("abc"), "height": side, "width": side}),
        "rna": (ExpressionModality, {"n_vars": n_genes}),
    }
    torch.manual_seed(0)
    changes: dict[str, Any] = {"expression_likelihood": likelihood, **form, "mask_ratio": MASK_RATIO}
    module = build_module(states, Settings.of(DEFAULTS, **changes, **sizes))
    with torch.no_grad():  # biases, norms and dispersions are not left at zero and one
        for parameter in module.parameters():
            if parameter.ndim < 2:
                parameter += 0.1 * torch.randn_like(parameter)
    for name, raw in make_cells(16, n_genes, side, likelihood).items():
        module.modality(name).fit_statistics([raw])
    return module


def make_cells(n_cells: int, n_genes: int, side: int, likelihood: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.rand(n_cells, n_genes, generator=generator) ** 4, generator=generator)
    images = torch.randn(n_cells, 3, side, side, generator=generator) * 2 + 1
    return {"image": images, "rna": counts if likelihood == "nb" else counts.log1p()}


def losses_and_gradients(module: PETRIModule, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    sum(losses.values(), torch.zeros(())).backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {**{f"loss of {name}": loss.detach() for name, loss in losses.items()}, **gradients}


PAPER: dict[str, Any] = {"gene_reads": "tokens", "linear_path": False}
SMALL: dict[str, Any] = {"n_genes": 60, "side": 16, "n_cells": 4} | {
    "n_latent_tokens": 3,
    "embed_dim": 16,
    "n_heads": 2,
    "patch_size": 4,
    "image_encoder_depth": 2,
    "image_decoder_depth": 1,
    "image_decoder_dim": 8,
    "expression_encoder_depth": 2,
    "expression_decoder_dim": 16,
    "set_transformer_depth": 2,
}
DEFAULT: dict[str, Any] = {"n_genes": 500, "side": 32, "n_cells": 16} | {
    "n_latent_tokens": 8,
    "embed_dim": 256,
    **NETWORK,
}


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
@pytest.mark.parametrize(
    ("sizes", "form"),
    [(SMALL, {}), (SMALL, {"linear_path": False}), (SMALL, PAPER), (DEFAULT, {})],
    ids=["small", "small, no path", "small, paper", "default"],
)
def test_losses_and_every_gradient_equal_those_of_the_direct_composition(
    sizes: dict[str, Any], form: dict[str, Any], likelihood: Literal["nb", "normal"]
) -> None:
    sizes = dict(sizes)
    n_cells = sizes.pop("n_cells")
    cells = make_cells(n_cells, sizes["n_genes"], sizes["side"], likelihood)
    module = make_module(likelihood=likelihood, form=form, **sizes)

    torch.manual_seed(2)  # the module draws its masks from torch's generator, modality by modality
    outputs, _, found = module({"cells": cells, "context": torch.arange(N_DOCUMENTS)})
    own = losses_and_gradients(module, found.reconstruction_loss)
    torch.manual_seed(2)
    drawn = {name: random_masking(n_cells, module.modality(name).n_tokens, MASK_RATIO) for name in cells}
    visible, mask = ({name: pair[i] for name, pair in drawn.items()} for i in range(2))
    direct = losses_and_gradients(module, direct_loss(module, cells, N_DOCUMENTS, visible, mask))

    assert all(torch.equal(outputs["mask"][name], mask[name]) for name in cells)
    assert own.keys() == direct.keys()
    assert len(own) == len(cells) + len(list(module.parameters()))
    for name, expected in direct.items():
        assert expected.norm() > 0, name
        assert (own[name] - expected).norm() <= TOLERANCE * expected.norm(), name
