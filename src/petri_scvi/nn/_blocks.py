"""Pre-norm attention blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor


def init_weights(module: nn.Module) -> None:
    """Initialise linear layers as in the masked autoencoder :cite:p:`He2022`: Xavier uniform, zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _split_heads(tokens: Tensor, n_heads: int) -> Tensor:
    """Shapes ``(B, T, D)`` -> ``(B, n_heads, T, D / n_heads)``."""
    return tokens.unflatten(-1, (n_heads, -1)).transpose(1, 2)


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

    def forward(self, tokens: Tensor) -> Tensor:
        """Let all tokens of a sequence attend to each other; shapes ``(B, T, D)`` -> ``(B, T, D)``."""
        query, key, value = (
            _split_heads(part, self.n_heads) for part in self.query_key_value(self.norm_attention(tokens)).chunk(3, -1)
        )
        attended = scaled_dot_product_attention(query, key, value)  # (B, n_heads, T, D / n_heads)
        tokens = tokens + self.project(attended.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norm_mlp(tokens))


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
        self.norm_tokens = nn.LayerNorm(embed_dim)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.norm_mlp = nn.LayerNorm(embed_dim)
        self.mlp = _mlp(embed_dim, mlp_ratio)

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Let latents read the tokens; shapes ``(B, L, D)`` and ``(B, T, D)`` -> ``(B, L, D)``."""
        return self.update(latents, self.read(latents, tokens))

    def read(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """What the latents read, before the residual connection; ``(B, L, D)`` and ``(B, T, D)`` -> ``(B, L, D)``."""
        query = _split_heads(self.query(self.norm_latents(latents)), self.n_heads)
        key, value = (
            _split_heads(part, self.n_heads) for part in self.key_value(self.norm_tokens(tokens)).chunk(2, -1)
        )
        return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def update(self, latents: Tensor, read: Tensor) -> Tensor:
        """Add what was read to the latents, and apply the MLP; all of shape ``(B, L, D)``."""
        latents = latents + self.project(read)
        return latents + self.mlp(self.norm_mlp(latents))
