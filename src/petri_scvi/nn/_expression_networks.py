"""Perceiver with a linear path that compresses a transcriptome to latent tokens, the decoder, and the likelihood."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu

from petri_scvi.nn._blocks import CrossAttentionBlock, SelfAttentionBlock, init_weights
from petri_scvi.nn._shared_tokens import encode_with_shared_tokens

GENE_GAIN = 3.0
"""Factor of the mean over genes, which is small because deviations of single genes have both signs."""


class GeneTokens(nn.Module):
    """One token per gene, a two-layer MLP of its learned embedding and log expression, and what latents read from it.

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

        A gene at its mean level contributes nothing, so that the choice of masked genes does not resemble expression.
        """
        of_gene = self.embedding if genes is None else embedding(genes, self.embedding)
        return self.standardise(levels, genes).unsqueeze(-1) * of_gene

    def standardise(self, levels: Tensor, genes: Tensor | None = None) -> Tensor:
        """Levels relative to those of the training cells; shape ``(..., T)`` twice -> ``(..., T)``."""
        if genes is None:
            return (levels - self.level_mean) / self.level_std
        return (levels - self.level_mean[genes]) / self.level_std[genes]

    def fit_levels(self, mean: Tensor, std: Tensor) -> None:
        """Set what levels are standardised by.

        All genes are divided by one constant, the root mean square of their standard deviations: dividing each gene by
        its own would give genes that vary by counting noise only the same weight as others.

        Parameters
        ----------
        mean, std
            Of each gene's level in the training cells, shape ``(M,)``.
        """
        scale = std.square().mean().sqrt()
        self.level_mean.copy_(mean)
        self.level_std.copy_(torch.where(scale > 0, scale, 1.0).expand_as(std))

    @torch.no_grad()
    def start_at(self, axes: Tensor) -> None:
        """Set the first K dimensions of the embeddings to principal axes of the levels, shape ``(K, M)``, K <= D.

        They are scaled to a mean square of 1 over genes, as that of the other dimensions, which stay as they are.
        """
        self.embedding[:, : len(axes)] = axes.T.to(self.embedding) * axes.shape[1] ** 0.5


class ExpressionPath(nn.Module):
    """Mean over the visible genes of embedding times deviation, through one linear layer that starts as the identity.

    With embeddings that start as principal axes, an untrained path gives the principal components of the cell.

    Parameters
    ----------
    embed_dim
        Width D of the gene embeddings and of the latents.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(embed_dim, embed_dim, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(
        self, tokens: GeneTokens, levels: Tensor, visible: Tensor | None = None, is_measured: Tensor | None = None
    ) -> Tensor:
        """What is added to the latents of each cell.

        Parameters
        ----------
        tokens
            Embeddings of the genes, and the statistics of their levels.
        levels
            Log expression, shape ``(B, M)``.
        visible
            Positions of the genes to see, shape ``(B, M_visible)``; all if ``None``.
        is_measured
            False where a level is missing, shape ``(B, M)``.

        Returns
        -------
        Shape ``(B, D)``.
        """
        deviations = tokens.standardise(levels)  # (B, M)
        if is_measured is not None:
            if visible is not None:
                is_measured = torch.zeros_like(is_measured).scatter(1, visible, is_measured.gather(1, visible))
            n_seen = is_measured.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
            return self.project(torch.where(is_measured, deviations, 0) @ tokens.embedding * (GENE_GAIN / n_seen))
        n_visible = levels.shape[1]
        if visible is not None:
            n_visible = visible.shape[1]
            # Scattered, so that one product over the gene axis serves all cells, whichever genes are visible.
            deviations = torch.zeros_like(deviations).scatter(1, visible, deviations.gather(1, visible))
        return self.project(deviations @ tokens.embedding * (GENE_GAIN / n_visible))


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
        What latents read from a gene: ``"deviations"``, each gene's embedding times its standardised level, or
        ``"tokens"``, the tokens themselves.
    linear_path
        Add an :class:`ExpressionPath` to the latents.
    share_gene_tokens
        Compute each distinct token once instead of once per cell: the same result for a fraction of the work. ``False``
        computes every token, for debugging.
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
        linear_path: bool = True,
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
        self.linear_path = ExpressionPath(embed_dim) if linear_path else None

    @property
    def reads_deviations(self) -> bool:
        """Whether anything reads the deviations of genes."""
        return self.gene_reads == "deviations" or self.linear_path is not None

    def forward(self, levels: Tensor, visible: Tensor | None = None, is_measured: Tensor | None = None) -> Tensor:
        """Compress each transcriptome to its latent tokens.

        Parameters
        ----------
        levels
            Log expression, shape ``(B, M)``.
        visible
            Positions of the genes to see, shape ``(B, M_visible)``; all if ``None``.
        is_measured
            False where a level is missing, shape ``(B, M)``: it is not read, whatever its value. Cells then differ in
            what they lack, so every token of every cell is computed.

        Returns
        -------
        Latents, shape ``(B, L, D)``.
        """
        if self.share_gene_tokens and is_measured is None:
            latents = encode_with_shared_tokens(self, levels, visible)
        else:
            latents = self._encode_each_token(levels, visible, is_measured)
        if self.linear_path is None:
            return latents
        return latents + self.linear_path(self.tokens, levels, visible, is_measured).unsqueeze(1)

    def _encode_each_token(self, levels: Tensor, visible: Tensor | None, is_measured: Tensor | None) -> Tensor:
        """Latents without the linear path, token by token."""
        seen = levels if visible is None else levels.gather(1, visible)  # (B, T)
        tokens = self.tokens(seen, visible)  # (B, T, D)
        contents = self.tokens.deviations(seen, visible) if self.gene_reads == "deviations" else None  # (B, T, D)
        is_read = is_measured if is_measured is None or visible is None else is_measured.gather(1, visible)  # (B, T)
        latents = self.latents.expand(len(levels), -1, -1)  # (B, L, D)
        for cross_block, self_block in zip(self.cross_blocks, self.self_blocks, strict=True):
            latents = self_block(cross_block(latents, tokens, contents, is_read))
        return self.norm(latents)


class ExpressionDecoder(nn.Module):
    """Mean of the latent tokens through a three-layer MLP to one logit per gene :cite:p:`PETRI2026`.

    Parameters
    ----------
    n_genes
        Number of genes (M).
    embed_dim
        Width D of the latents.
    expression_decoder_dim
        Width of the two hidden layers.
    """

    def __init__(self, n_genes: int, embed_dim: int, expression_decoder_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(embed_dim, expression_decoder_dim),
            nn.GELU(),
            nn.Linear(expression_decoder_dim, expression_decoder_dim),
            nn.GELU(),
        )
        self.output = nn.Linear(expression_decoder_dim, n_genes)
        self.apply(init_weights)

    @property
    def offset(self) -> Tensor:
        """The bias of the last layer, which is what is predicted before anything is learned, shape ``(M,)``."""
        return self.output.bias

    def forward(self, latents: Tensor) -> Tensor:
        """Predict every gene; shapes ``(B, L, D)`` -> ``(B, M)``."""
        return self.output(self.hidden(latents.mean(dim=1)))


def negative_binomial_nll(counts: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    r"""Negative log-likelihood of counts under a negative binomial :cite:p:`Lopez2018`.

    With mean :math:`\mu` and inverse dispersion :math:`\theta`, the variance is :math:`\mu + \mu^2 / \theta`.

    Parameters
    ----------
    counts
        Observed counts, any shape.
    log_mean
        :math:`\log \mu`, of the same shape.
    log_dispersion
        :math:`\log \theta`, broadcastable to that shape.

    Returns
    -------
    Negative log-likelihood of each count.
    """
    dispersion = log_dispersion.exp()
    # log(mu + theta) from the logarithms: exact for means so small that their exponential would vanish.
    log_total = torch.logaddexp(log_mean, log_dispersion)
    return (
        torch.lgamma(dispersion)
        + torch.lgamma(counts + 1)
        - torch.lgamma(counts + dispersion)
        - dispersion * (log_dispersion - log_total)
        - counts * (log_mean - log_total)
    )
