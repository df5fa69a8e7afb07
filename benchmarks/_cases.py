"""What is timed: modules, minibatches, the calls of ours and of those it is compared with."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks._timing import PLAIN, Variant, forward_backward, interleave, peak_bytes
from benchmarks.reference import direct_loss, encode_expression
from petri_scvi._model import DEFAULTS
from petri_scvi._module import build_module
from petri_scvi.modalities import ExpressionModality, ImageModality, Settings
from petri_scvi.nn import random_masking

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks._timing import Call
    from petri_scvi._module import PETRIModule

SHARE_OF_ZEROS = 0.85
MASK_RATIO, N_HEADS, PATCH_SIZE = DEFAULTS["mask_ratio"], DEFAULTS["n_heads"], DEFAULTS["patch_size"]
IMAGE_DEPTH, DEPTH = DEFAULTS["image_encoder_depth"], DEFAULTS["expression_encoder_depth"]
DECODER_DIM, DECODER_DEPTH = DEFAULTS["image_decoder_dim"], DEFAULTS["image_decoder_depth"]


@dataclass(frozen=True)
class Setting:
    """Sizes of data and minibatch; the model is PETRI's default but for its width."""

    name: str
    n_genes: int
    n_channels: int
    side: int
    n_cells: int = 8
    n_documents: int = 8
    embed_dim: int = 256
    n_latents: int = 8

    @property
    def batch(self) -> int:
        return self.n_cells * self.n_documents


A = Setting("(a) 300 genes, 4 x 32 x 32", 300, 4, 32)
B = Setting("(b) 5,000 genes, 5 x 64 x 64", 5000, 5, 64)
LARGE = Setting("8,000 genes, 5 x 96 x 96, D = 512", 8000, 5, 96, embed_dim=512)
TINY = Setting("tiny", 50, 3, 16, n_cells=1, embed_dim=32)


@dataclass(frozen=True)
class Run:
    """How the script was called."""

    device: str
    threads: list[int]
    is_quick: bool
    repeats: int

    @property
    def n_repeats(self) -> int:
        return 1 if self.is_quick else self.repeats

    @property
    def settings(self) -> list[Setting]:
        small = [
            replace(A, name="(a) quick", n_genes=100, embed_dim=64),
            replace(B, name="(b) quick", n_genes=500, embed_dim=64),
        ]
        return small if self.is_quick else [A, B]

    def variants(self) -> list[Variant]:
        if self.device == "cpu":
            return [PLAIN]
        half = torch.bfloat16
        return [PLAIN, Variant("bf16", half), Variant("bf16, compiled", half, is_compiled=True)]


NETWORK = {
    "n_heads": 8,
    "patch_size": 8,
    "image_encoder_depth": 6,
    "image_decoder_depth": 2,
    "image_decoder_dim": 128,
    "expression_encoder_depth": 4,
    "expression_decoder_dim": 512,
    "set_transformer_depth": 4,
}
"""A network deeper than the default; all figures of the documentation are of it."""


def make_module(setting: Setting, device: str) -> PETRIModule:
    torch.manual_seed(0)
    channels = [str(i) for i in range(setting.n_channels)]
    states: dict[str, Any] = {
        "image": (ImageModality, {"channels": channels, "height": setting.side, "width": setting.side}),
        "rna": (ExpressionModality, {"n_vars": setting.n_genes}),
    }
    settings = Settings.of(DEFAULTS, n_latent_tokens=setting.n_latents, embed_dim=setting.embed_dim, **NETWORK)
    return build_module(states, settings).to(device)


def make_counts(n_cells: int, n_genes: int, seed: int = 0) -> Tensor:
    """Overdispersed counts, most of them zero; genes differ in their mean by orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    relative = (1.7 * torch.randn(n_genes, generator=generator)).exp()
    low, high = 0.0, 100.0
    for _ in range(60):  # the scale at which the expected share of zeros is as wanted
        scale = (low + high) / 2
        is_sparse = (1 + scale * relative / 2).pow(-2).mean() > SHARE_OF_ZEROS
        low, high = (scale, high) if is_sparse else (low, scale)
    uniform = torch.rand(2, n_cells, n_genes, generator=generator)
    rates = -uniform.log().sum(dim=0) / 2 * relative * scale  # gamma of shape 2 and mean 1, times the mean
    return torch.poisson(rates, generator=generator)


def make_cells(setting: Setting, device: str) -> dict[str, Tensor]:
    shape = (setting.batch, setting.n_channels, setting.side, setting.side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return {"image": images.to(device), "rna": make_counts(setting.batch, setting.n_genes).to(device)}


def make_step(module: PETRIModule, setting: Setting, device: str, variant: Variant = PLAIN) -> dict[str, Call]:
    """Masks, forward, backward and optimizer: ours and the direct composition, on the same parameters."""
    cells = make_cells(setting, device)
    minibatch = {"cells": cells, "context": torch.arange(setting.n_documents, device=device)}
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def direct() -> Tensor:
        drawn = {
            name: random_masking(setting.batch, module.modality(name).n_tokens, MASK_RATIO, device=device)
            for name in cells
        }
        visible, mask = ({name: pair[i] for name, pair in drawn.items()} for i in range(2))
        losses = direct_loss(module, cells, setting.n_documents, visible, mask)
        return losses["image"] + losses["rna"]

    forwards = {"ours": lambda: cast("Tensor", module(minibatch)[2].loss), "direct": direct}
    gradients = {name: forward_backward(forward, module, device, variant) for name, forward in forwards.items()}
    return {name: lambda call=call: (call(), optimizer.step()) for name, call in gradients.items()}


def step_calls(setting: Setting, device: str, variant: Variant = PLAIN) -> dict[str, Call]:
    return make_step(make_module(setting, device), setting, device, variant)


def expression_calls(setting: Setting, device: str, variant: Variant = PLAIN) -> dict[str, Call]:
    """Forward and backward of the expression encoder on the same visible genes."""
    encoder = cast("ExpressionModality", make_module(setting, device).modality("rna")).encoder
    levels = make_counts(setting.batch, setting.n_genes).to(device).log1p()
    visible, _ = random_masking(setting.batch, setting.n_genes, MASK_RATIO, device=device)
    weights = torch.randn(setting.batch, setting.n_latents, setting.embed_dim, device=device)
    forwards = {
        "ours": lambda: (encoder(levels, visible) * weights).sum(),
        "direct": lambda: (encode_expression(encoder, levels, visible) * weights).sum(),
    }
    calls = {name: forward_backward(forward, encoder, device, variant) for name, forward in forwards.items()}
    if is_installed("perceiver-pytorch"):
        perceiver = make_perceiver(setting).to(device)
        both = torch.nn.ModuleList([perceiver, encoder.tokens])  # the tokens are made as in the direct composition
        calls["perceiver-pytorch"] = forward_backward(
            lambda: (perceiver(encoder.tokens(levels.gather(1, visible), visible)) * weights).sum(),
            both,
            device,
            variant,
        )
    return calls


def make_perceiver(setting: Setting) -> nn.Module:
    from perceiver_pytorch import Perceiver

    return Perceiver(
        num_freq_bands=1,
        max_freq=1.0,
        fourier_encode_data=False,
        input_channels=setting.embed_dim,
        input_axis=1,
        depth=DEPTH,
        num_latents=setting.n_latents,
        latent_dim=setting.embed_dim,
        cross_heads=N_HEADS,
        latent_heads=N_HEADS,
        cross_dim_head=setting.embed_dim // N_HEADS,
        latent_dim_head=setting.embed_dim // N_HEADS,
        final_classifier_head=False,
    )


def image_calls(setting: Setting, device: str, variant: Variant = PLAIN) -> dict[str, Call]:
    """Masks, encoder, decoder, loss of normalised images, forward and backward, without a set transformer."""
    modality = cast("ImageModality", make_module(setting, device).modality("image"))
    images = make_cells(setting, device)["image"]

    def ours() -> Tensor:
        visible, mask = random_masking(len(images), modality.n_tokens, MASK_RATIO, device=device)
        return modality.loss(modality.decode(modality.encode(images, visible), images, visible), images, mask).mean()

    calls = {"ours": forward_backward(ours, modality, device, variant)}
    if is_installed("transformers ViTMAE"):
        autoencoder = make_vit_mae(setting).to(device)
        calls["transformers ViTMAE"] = forward_backward(
            lambda: cast("Tensor", autoencoder(images).loss), autoencoder, device, variant
        )
    return calls


def make_vit_mae(setting: Setting) -> nn.Module:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    return ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=setting.embed_dim,
            num_hidden_layers=IMAGE_DEPTH,
            num_attention_heads=N_HEADS,
            intermediate_size=4 * setting.embed_dim,
            image_size=setting.side,
            patch_size=PATCH_SIZE,
            num_channels=setting.n_channels,
            decoder_hidden_size=DECODER_DIM,
            decoder_num_hidden_layers=DECODER_DEPTH,
            decoder_num_attention_heads=N_HEADS,
            decoder_intermediate_size=4 * DECODER_DIM,
            mask_ratio=MASK_RATIO,
            attn_implementation="sdpa",
        )
    ).train()


PACKAGES = {"perceiver-pytorch": "perceiver_pytorch", "transformers ViTMAE": "transformers"}
CASES = {"expression": expression_calls, "image": image_calls, "step": step_calls}


def is_installed(which: str) -> bool:
    return which not in PACKAGES or importlib.util.find_spec(PACKAGES[which]) is not None


def one_call(case: str, which: str, setting: Setting, device: str, variant: Variant = PLAIN) -> Call:
    """One of a case's calls; libraries have loaded and allocated what they do once."""
    CASES[case](replace(TINY, embed_dim=setting.embed_dim), device)[which]()
    return CASES[case](setting, device, variant)[which]


def scaling_point(setting: Setting, device: str, n_threads: int, n_repeats: int) -> tuple[list[float], int]:
    """Seconds and peak memory of our step; to be run in a fresh process."""
    torch.set_num_threads(n_threads)
    step_calls(TINY, device)["ours"]()
    call = step_calls(setting, device)["ours"]
    peak = peak_bytes(call, device)
    return interleave({"ours": call}, device, n_repeats)["ours"], peak
