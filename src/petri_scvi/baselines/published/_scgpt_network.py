"""The encoder of scGPT, and its published files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from petri_scvi.baselines.published._published_files import read_json, read_weights
from petri_scvi.common import user_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FILES = ("args.json", "vocab.json", "best_model.pt")
WHERE_TO_GET_IT = (
    "Download a published model, for example whole-human, with the link in the README of github.com/bowang-lab/scGPT, "
    "and pass the folder that holds args.json, vocab.json and best_model.pt."
)
MAX_TOKENS = 10**7
MAX_VALUE = 512.0
"""Where scGPT clips values before they are encoded."""


class ScGPTEncoder(nn.Module):
    """Gene tokens plus encoded values, through a post-norm Transformer :cite:p:`Cui2024`.

    Parameters
    ----------
    n_tokens
        Size of the vocabulary.
    embed_dim
        Width of the tokens (D).
    n_heads, n_layers
        Attention heads, and blocks.
    hidden_dim
        Width of the feed-forward layers.
    """

    def __init__(self, n_tokens: int, embed_dim: int, n_heads: int, n_layers: int, hidden_dim: int) -> None:
        super().__init__()
        # Names are those of the published weights.
        self.encoder = nn.ModuleDict(
            {"embedding": nn.Embedding(n_tokens, embed_dim), "enc_norm": nn.LayerNorm(embed_dim)}
        )
        self.value_encoder = nn.ModuleDict(
            {
                "linear1": nn.Linear(1, embed_dim),
                "linear2": nn.Linear(embed_dim, embed_dim),
                "norm": nn.LayerNorm(embed_dim),
            }
        )
        layer = nn.TransformerEncoderLayer(embed_dim, n_heads, hidden_dim, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, values: Tensor, is_padding: Tensor) -> Tensor:
        """Embed cells; shapes ``(B, T)`` each -> ``(B, D)``, the output at the cell token."""
        genes = self.encoder["enc_norm"](self.encoder["embedding"](tokens))  # (B, T, D)
        hidden = self.value_encoder["linear1"](values.clamp(max=MAX_VALUE).unsqueeze(-1)).relu()
        expression = self.value_encoder["norm"](self.value_encoder["linear2"](hidden))  # (B, T, D)
        return self.transformer_encoder(genes + expression, src_key_padding_mask=is_padding)[:, 0]


def read_checkpoint(folder: str | Path) -> tuple[ScGPTEncoder, dict[str, int], dict[str, Any]]:
    """Encoder with the published weights, vocabulary and settings.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        The files do not belong together, or describe a variant of scGPT that is not supported.
    """
    folder = user_path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{missing} not found in checkpoint={str(folder)!r}. {WHERE_TO_GET_IT}")
    settings = read_json(folder / "args.json", WHERE_TO_GET_IT)
    vocabulary = read_json(folder / "vocab.json", WHERE_TO_GET_IT)
    _check_settings(settings, vocabulary, folder)
    state = rename_weights(read_weights(folder / "best_model.pt", WHERE_TO_GET_IT))
    table = state.get("encoder.embedding.weight")
    n_tokens = max(vocabulary.values()) + 1 if table is None else len(table)
    if n_tokens <= max(vocabulary.values()):
        raise ValueError(
            f"{folder / 'vocab.json'} goes up to token {max(vocabulary.values())}, and best_model.pt has {n_tokens} "
            "gene embeddings. Take all three files from one download."
        )
    if settings["nlayers"] > len(state):
        raise ValueError(
            f"{folder / 'best_model.pt'} has {len(state)} weights for nlayers={settings['nlayers']} of args.json. "
            f"{WHERE_TO_GET_IT}"
        )
    with torch.device("meta"):  # without allocating weights, whose size in args.json may be wrong
        encoder = ScGPTEncoder(
            n_tokens, settings["embsize"], settings["nheads"], settings["nlayers"], hidden_dim=settings["d_hid"]
        )
    wanted = encoder.state_dict()
    wrong = [name for name, tensor in wanted.items() if name not in state or state[name].shape != tensor.shape]
    if wrong:
        found = {name: tuple(state[name].shape) if name in state else "missing" for name in wrong[:3]}
        raise ValueError(
            f"{len(wrong)} of {len(wanted)} weights in {folder / 'best_model.pt'} are missing or of another shape than "
            f"args.json says, for example {found}. {WHERE_TO_GET_IT}"
        )
    encoder.load_state_dict({name: state[name].float() for name in wanted}, assign=True)
    return encoder.eval().requires_grad_(False), vocabulary, settings


def rename_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in torch's own Transformer, whichever attention they were trained with.

    Flash attention keeps query, key and value projections in ``Wqkv``, stacked as torch does in ``in_proj``.
    """
    return {
        name.removeprefix("module.").replace("self_attn.Wqkv.", "self_attn.in_proj_"): tensor
        for name, tensor in state.items()
    }


def _check_settings(settings: Mapping[str, Any], vocabulary: Mapping[str, int], folder: Path) -> None:
    absent = [key for key in ("embsize", "nheads", "nlayers", "d_hid") if key not in settings]
    if absent:
        raise ValueError(f"{folder / 'args.json'} lacks {absent}; it has {sorted(settings)}. {WHERE_TO_GET_IT}")
    sizes = {key: settings[key] for key in ("embsize", "nheads", "nlayers", "d_hid")}
    if any(type(size) is not int or size < 1 for size in sizes.values()) or sizes["embsize"] % sizes["nheads"]:
        raise ValueError(
            f"{folder / 'args.json'} has {sizes}; expected whole numbers of at least 1, with embsize a multiple of "
            f"nheads. {WHERE_TO_GET_IT}"
        )
    if not all(type(token) is int and 0 <= token < MAX_TOKENS for token in vocabulary.values()):
        raise ValueError(f"{folder / 'vocab.json'} does not number its tokens from 0. {WHERE_TO_GET_IT}")
    bins, pad_value = settings.get("n_bins", 51), settings.get("pad_value", -2)
    if type(bins) is not int or bins < 2 or type(pad_value) not in (int, float) or not math.isfinite(pad_value):
        raise ValueError(
            f"{folder / 'args.json'} has n_bins={bins!r} and pad_value={pad_value!r}; expected a whole number of at "
            f"least 2 and a number. {WHERE_TO_GET_IT}"
        )
    for token in ("<cls>", settings.get("pad_token", "<pad>")):
        if not isinstance(token, str) or token not in vocabulary:
            raise ValueError(f"{folder / 'vocab.json'} has no token {token!r}. {WHERE_TO_GET_IT}")
    if settings.get("pre_norm", False):
        raise ValueError(
            f"{folder / 'args.json'} has pre_norm={settings['pre_norm']!r}; only post-norm models, as published, are "
            "supported."
        )
