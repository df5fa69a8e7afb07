"""Perceiver that compresses a transcriptome to latent tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm

from petri_scvi.nn._blocks import CrossAttentionBlock, SelfAttentionBlock, init_weights
from petri_scvi.nn._shared_tokens import (
    distinct_pairs,
    product_dtype,
    project_zeros,
    read_every_gene,
    read_scored,
    read_visible,
    score_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = {"cpu": 24 * 2**20}
"""Tokens of the cells that are read together. On a CPU they should stay in its cache."""
CHUNK_BYTES_ELSEWHERE = 2**30

MIN_LEVEL_STD = 0.1
"""Least standard deviation by which levels are divided: a gene seen in one of a hundred cells must not shout there."""


class GeneTokens(nn.Module):
    """A token per gene, a two-layer MLP of its learned embedding and log expression, and what is read there.

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
        self.level_mean: Tensor
        self.level_std: Tensor
        self.register_buffer("level_mean", torch.zeros(n_genes))
        self.register_buffer("level_std", torch.ones(n_genes))

    def forward(self, levels: Tensor, genes: Tensor | None = None) -> Tensor:
        """Embed expression levels of genes, by default of all in order; ``(..., T)`` twice -> ``(..., T, D)``."""
        gene_part = self.gene_layer(self.embedding)  # (M, D)
        if genes is not None:
            gene_part = embedding(genes, gene_part)  # (..., T, D)
        return self.output_layer(gelu(gene_part + levels.unsqueeze(-1) * self.level_weight))

    def deviations(self, levels: Tensor, genes: Tensor | None = None) -> Tensor:
        """Embeddings of genes times their standardised levels; ``(..., T)`` twice -> ``(..., T, D)``.

        A gene at its mean level contributes nothing, so that which genes are masked does not look like expression.
        """
        if genes is None:
            return ((levels - self.level_mean) / self.level_std).unsqueeze(-1) * self.embedding
        standardised = (levels - self.level_mean[genes]) / self.level_std[genes]
        return standardised.unsqueeze(-1) * embedding(genes, self.embedding)

    def fit_levels(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation of each gene's level in the training cells, shape ``(M,)``."""
        self.level_mean.copy_(mean)
        self.level_std.copy_(std.clamp(min=MIN_LEVEL_STD))


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
    expression_encoder_depth
        Number of pairs of a cross-attention and a self-attention block.
    n_heads
        Attention heads; divides D.
    gene_reads
        What latents find where they look: ``"deviations"``, each gene's embedding times its standardised level, or
        ``"tokens"``, the tokens themselves.
    share_gene_tokens
        Compute each distinct token once instead of once per cell: the same result for a fraction of the work. ``False``
        writes everything out, for debugging.
    """

    def __init__(
        self,
        n_genes: int,
        n_latent_tokens: int,
        embed_dim: int,
        expression_encoder_depth: int,
        n_heads: int,
        *,
        gene_reads: Literal["deviations", "tokens"] = "deviations",
        share_gene_tokens: bool = True,
    ) -> None:
        super().__init__()
        self.gene_reads = gene_reads
        self.share_gene_tokens = share_gene_tokens
        self.tokens = GeneTokens(n_genes, embed_dim)
        self.latents = nn.Parameter(torch.randn(1, n_latent_tokens, embed_dim) * 0.02)
        self.cross_blocks = nn.ModuleList(
            CrossAttentionBlock(embed_dim, n_heads) for _ in range(expression_encoder_depth)
        )
        self.self_blocks = nn.ModuleList(
            SelfAttentionBlock(embed_dim, n_heads) for _ in range(expression_encoder_depth)
        )
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
        if not self.share_gene_tokens:
            seen = levels if visible is None else levels.gather(1, visible)  # (B, T)
            tokens = self.tokens(seen, visible)  # (B, T, D)
            contents = self.tokens.deviations(seen, visible) if self.gene_reads == "deviations" else None
            return self._compress(len(levels), lambda block, latents: block.read(latents, tokens, contents))
        if visible is None:
            return self._encode_every_gene(levels)
        genes, distinct_levels, place = distinct_pairs(visible, levels.gather(1, visible))
        tables = self._tables(distinct_levels, genes)
        scores = score_table(cast("CrossAttentionBlock", self.cross_blocks[0]), self.latents, tables[0])  # (U, H * L)
        return torch.cat([self._read_chunk(part, tables, scores) for part in self._chunks(place, place.shape[1])])

    def _compress(self, n_cells: int, read: Callable[[CrossAttentionBlock, Tensor], Tensor]) -> Tensor:
        """Latents, shape ``(B, L, D)``, that alternately ``read`` and attend to each other."""
        latents = self.latents.expand(n_cells, -1, -1)  # (B, L, D)
        for block, self_block in zip(self.cross_blocks, self.self_blocks, strict=True):
            cross_block = cast("CrossAttentionBlock", block)
            latents = self_block(cross_block.update(latents, read(cross_block, latents)))
        return self.norm(latents)

    def _read_chunk(self, place: Tensor, tables: tuple[Tensor, Tensor], scores: Tensor) -> Tensor:
        """Latents of cells whose tokens and contents are rows of tables; shape ``(B, T)`` -> ``(B, L, D)``."""
        tokens, contents = (embedding(place, table) for table in tables)  # (B, T, D)

        def read(block: CrossAttentionBlock, latents: Tensor) -> Tensor:
            nonlocal tokens, contents
            if block is self.cross_blocks[0]:
                read, contents = read_scored(block, embedding(place, scores), contents)
            else:
                read, tokens, contents = read_visible(block, latents, tokens, contents)
            return read

        return self._compress(len(place), read)

    def _encode_every_gene(self, levels: Tensor) -> Tensor:
        """Latents of cells without a mask; shapes ``(B, M)`` -> ``(B, L, D)``."""
        n_cells, n_genes = levels.shape
        is_listed = levels != 0
        # The genes of each cell that are not zero, filled up with zeros to as many in every cell.
        n_listed = int(is_listed.sum(dim=1).max())
        if 2 * n_listed > n_genes:  # too few zeros to gain from
            return self(levels, torch.arange(n_genes, device=levels.device).expand(n_cells, -1))
        zero_tables = self._tables(levels.new_zeros(n_genes), None)  # (M, D) twice
        genes = is_listed.to(torch.uint8).topk(n_listed, dim=1).indices  # (B, K)
        pair_genes, pair_levels, place = distinct_pairs(genes, levels.gather(1, genes))
        tables = self._tables(pair_levels, pair_genes)  # (U, D) twice
        n_rows = n_listed + n_genes // 4  # beside the tokens, the scores of all genes
        zeros = {block: project_zeros(cast("CrossAttentionBlock", block), *zero_tables) for block in self.cross_blocks}
        chunks = zip(self._chunks(genes, n_rows), self._chunks(place, n_rows), strict=True)
        return torch.cat([self._read_whole_chunk(zeros, listed, at, tables) for listed, at in chunks])

    def _read_whole_chunk(
        self, zeros: dict[nn.Module, tuple[Tensor, Tensor]], genes: Tensor, place: Tensor, tables: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Latents from every gene; shapes ``(B, K)`` twice -> ``(B, L, D)``."""
        tokens, contents = (embedding(place, table) for table in tables)  # (B, K, D)
        return self._compress(
            len(genes), lambda block, latents: read_every_gene(block, latents, zeros[block], genes, tokens, contents)
        )

    def _tables(self, levels: Tensor, genes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Normalised tokens and their contents, in the precision of the products that read them."""
        tokens = layer_norm(self.tokens(levels, genes), self.latents.shape[-1:], eps=self.norm.eps)
        contents = self.tokens.deviations(levels, genes) if self.gene_reads == "deviations" else tokens
        return tokens.to(product_dtype(tokens)), contents.to(product_dtype(contents))

    def _chunks(self, rows: Tensor, n_tokens: int) -> tuple[Tensor, ...]:
        """Cells in groups, as equal as can be, whose tokens are few enough to be read fast."""
        budget = CHUNK_BYTES.get(rows.device.type, CHUNK_BYTES_ELSEWHERE)
        n_bytes = 2 * 4 * rows.shape[0] * n_tokens * self.latents.shape[-1]  # tokens and contents
        return rows.tensor_split(max(1, min(len(rows), -(-n_bytes // budget))))
