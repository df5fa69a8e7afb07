"""Perceiver that compresses a transcriptome to latent tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from petri_scvi.nn._blocks import CrossAttentionBlock, SelfAttentionBlock, init_weights


class GeneTokens(nn.Module):
    """One token per gene: a two-layer MLP of the gene's learned embedding and its log expression.

    The first layer of an MLP on ``[embedding; level]`` is a sum, ``embedding @ W + level * w + b``. Its gene part is
    the same for every cell, so it is computed once per gene and never concatenated with the level.

    Parameters
    ----------
    n_genes
        Number of genes (M).
    embed_dim
        Width D of the embedding and of the tokens.
    """

    def __init__(self, n_genes: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n_genes, embed_dim))
        self.gene_layer = nn.Linear(embed_dim, embed_dim)
        self.level_weight = nn.Parameter(torch.randn(embed_dim))
        self.output_layer = nn.Linear(embed_dim, embed_dim)

    def forward(self, levels: Tensor, visible: Tensor | None = None) -> Tensor:
        """Embed expression levels; shapes ``(B, M)`` and optional ``(B, M_visible)`` -> ``(B, M_visible, D)``."""
        genes = self.gene_layer(self.embedding)  # (M, D)
        if visible is not None:
            genes, levels = genes[visible], levels.gather(1, visible)  # (B, M_visible, D), (B, M_visible)
        return self.output_layer(gelu(genes + levels.unsqueeze(-1) * self.level_weight))


class ExpressionEncoder(nn.Module):
    """Perceiver :cite:p:`Jaegle2021`: latents alternately read the gene tokens and attend to each other.

    Parameters
    ----------
    n_genes
        Number of genes (M).
    n_latent_tokens
        Latent tokens per cell (L).
    embed_dim
        Width D of the tokens.
    depth
        Number of pairs of a cross-attention and a self-attention block.
    n_heads
        Attention heads; divides D.
    """

    def __init__(self, n_genes: int, n_latent_tokens: int, embed_dim: int, depth: int, n_heads: int) -> None:
        super().__init__()
        self.tokens = GeneTokens(n_genes, embed_dim)
        self.latents = nn.Parameter(torch.randn(1, n_latent_tokens, embed_dim) * 0.02)
        self.cross_blocks = nn.ModuleList(CrossAttentionBlock(embed_dim, n_heads) for _ in range(depth))
        self.self_blocks = nn.ModuleList(SelfAttentionBlock(embed_dim, n_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.apply(init_weights)

    def forward(self, levels: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compress each transcriptome to its latent tokens.

        Parameters
        ----------
        levels
            Log expression, shape ``(B, M)``.
        visible
            Positions of the genes to see, shape ``(B, M_visible)``; all if ``None``.

        Returns
        -------
        Latents, shape ``(B, L, D)``.
        """
        tokens = self.tokens(levels, visible)  # (B, M_visible, D)
        latents = self.latents.expand(len(levels), -1, -1)  # (B, L, D)
        for cross_block, self_block in zip(self.cross_blocks, self.self_blocks, strict=True):
            latents = self_block(cross_block(latents, tokens))
        return self.norm(latents)
