"""Pre-norm attention blocks, and the position embedding of image patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor

MAX_WRITTEN_OUT = 128
"""Tokens up to which attention on a CPU is faster as three plain operations than through torch's tiled kernel."""


def init_weights(module: nn.Module) -> None:
    """Initialise linear layers as in the masked autoencoder :cite:p:`He2022`: Xavier uniform, zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _split_heads(tokens: Tensor, n_heads: int) -> Tensor:
    """Shapes ``(B, T, D)`` -> ``(B, n_heads, T, D / n_heads)``."""
    return tokens.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, is_read: Tensor | None = None) -> Tensor:
    """Softmax attention by head; ``(B, n_heads, Q, d)`` and twice ``(B, n_heads, T, d)`` -> ``(B, Q, n_heads * d)``.

    ``is_read``, ``(B, T)``, is False for tokens that have no weight; by default, all have one. Where no token has one,
    the result is 0.
    """
    if is_read is not None:
        has_none = ~is_read.any(dim=1)[:, None, None, None]  # (B, 1, 1, 1)
        weighted = is_read[:, None, None] | has_none  # (B, 1, 1, T); a softmax over nothing would be NaN
        attended = scaled_dot_product_attention(query, key, value, attn_mask=weighted).masked_fill(has_none, 0)
    elif query.device.type == "cpu" and key.shape[2] <= MAX_WRITTEN_OUT:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        attended = scores.softmax(dim=-1) @ value
    else:
        attended = scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)


def _mlp(embed_dim: int, mlp_ratio: float) -> nn.Sequential:
    hidden_dim = int(embed_dim * mlp_ratio)
    return nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, embed_dim))


class SelfAttentionBlock(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and inside a residual connection.

    Parameters
    ----------
    embed_dim
        Width D of the tokens.
    n_heads
        Attention heads; divides D.
    mlp_ratio
        Hidden width of the MLP as a multiple of D.
    """

    def __init__(self, embed_dim: int, n_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(embed_dim)
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.norm_mlp = nn.LayerNorm(embed_dim)
        self.mlp = _mlp(embed_dim, mlp_ratio)

    def forward(self, tokens: Tensor, asked: Tensor | None = None) -> Tensor:
        """Let the tokens of a sequence attend to the whole sequence.

        Parameters
        ----------
        tokens
            The sequence, shape ``(B, T, D)``.
        asked
            Those of its tokens whose result is asked for, shape ``(B, Q, D)``; all of them by default. In the last
            block of a network, this saves most of the work for tokens that are not used.

        Returns
        -------
        The tokens asked for, shape ``(B, Q, D)``.
        """
        if asked is None:
            asked = tokens
            parts = self.query_key_value(self.norm_attention(tokens)).chunk(3, -1)
        else:
            width = tokens.shape[-1]
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            key_value = linear(self.norm_attention(tokens), weight[width:], bias[width:]).chunk(2, -1)
            parts = (linear(self.norm_attention(asked), weight[:width], bias[:width]), *key_value)
        query, key, value = (_split_heads(part, self.n_heads) for part in parts)
        asked = asked + self.project(_attend(query, key, value))
        return asked + self.mlp(self.norm_mlp(asked))


class CrossAttentionBlock(nn.Module):
    """Cross-attention from latent tokens to input tokens, then an MLP :cite:p:`Jaegle2021`.

    Parameters
    ----------
    embed_dim
        Width D of both kinds of tokens.
    n_heads
        Attention heads; divides D.
    mlp_ratio
        Hidden width of the MLP as a multiple of D.
    """

    def __init__(self, embed_dim: int, n_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_latents = nn.LayerNorm(embed_dim)
        # Its scale and shift would be lost in the linear layer that follows.
        self.norm_tokens = nn.LayerNorm(embed_dim, elementwise_affine=False)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.norm_mlp = nn.LayerNorm(embed_dim)
        self.mlp = _mlp(embed_dim, mlp_ratio)

    def forward(
        self, latents: Tensor, tokens: Tensor, contents: Tensor | None = None, is_read: Tensor | None = None
    ) -> Tensor:
        """Let latents read the tokens; arguments and result as for :meth:`read`."""
        return self.update(latents, self.read(latents, tokens, contents, is_read))

    def read(
        self, latents: Tensor, tokens: Tensor, contents: Tensor | None = None, is_read: Tensor | None = None
    ) -> Tensor:
        """What the latents read, before the residual connection.

        Parameters
        ----------
        latents
            Latents, shape ``(B, L, D)``.
        tokens
            Tokens whose keys determine the attention weights, shape ``(B, T, D)``.
        contents
            What is projected to the values, shape ``(B, T, D)``. By default the normalised tokens.
        is_read
            False for tokens that the latents do not read, shape ``(B, T)``. Of a cell without any token, they read 0.

        Returns
        -------
        Shape ``(B, L, D)``.
        """
        tokens = self.norm_tokens(tokens)
        sources = (tokens, tokens if contents is None else contents)
        parts = zip(sources, self.key_value.weight.chunk(2), self.key_value.bias.chunk(2), strict=True)
        key, value = (_split_heads(linear(*part), self.n_heads) for part in parts)
        return _attend(_split_heads(self.query(self.norm_latents(latents)), self.n_heads), key, value, is_read)

    def update(self, latents: Tensor, read: Tensor) -> Tensor:
        """Add what was read to the latents, and apply the MLP; all of shape ``(B, L, D)``."""
        latents = latents + self.project(read)
        return latents + self.mlp(self.norm_mlp(latents))


def sincos_position(n_rows: int, n_columns: int, embed_dim: int) -> Tensor:
    """Fixed two-dimensional sine-cosine position embedding :cite:p:`He2022`.

    Parameters
    ----------
    n_rows, n_columns
        Size of the patch grid.
    embed_dim
        Width D, a multiple of 4: a quarter each for sine and cosine of row and column.

    Returns
    -------
    One vector per patch, row by row, shape ``(n_rows * n_columns, D)``.
    """
    frequency = 1.0 / 10_000 ** (torch.arange(embed_dim // 4, dtype=torch.float64) / (embed_dim / 4))  # (D / 4,)
    row, column = torch.meshgrid(torch.arange(n_rows), torch.arange(n_columns), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (row, column)]  # 2 x (N, D / 4)
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()
