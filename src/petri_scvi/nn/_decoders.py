"""From a cell's latent tokens back to its measurement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from petri_scvi.nn._blocks import SelfAttentionBlock, init_weights
from petri_scvi.nn._masking import other_positions, take_tokens
from petri_scvi.nn._patches import sincos_position


class ImageDecoder(nn.Module):
    """Masked-autoencoder decoder :cite:p:`He2022`: N mask tokens attend to the latents and become pixels.

    Parameters
    ----------
    image_shape
        Channels, height and width ``(C, H, W)``.
    patch_size
        Side P of a patch in pixels.
    embed_dim
        Width D of the latents.
    image_decoder_dim
        Width of the decoder's own tokens.
    image_decoder_depth
        Number of self-attention blocks.
    n_heads
        Attention heads; divides ``image_decoder_dim``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        embed_dim: int,
        image_decoder_dim: int,
        image_decoder_depth: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        n_channels, height, width = image_shape
        self.embed = nn.Linear(embed_dim, image_decoder_dim)
        self.mask_token = nn.Parameter(torch.randn(image_decoder_dim) * 0.02)
        self.position: Tensor
        self.register_buffer(
            "position", sincos_position(height // patch_size, width // patch_size, image_decoder_dim), persistent=False
        )
        self.blocks = nn.ModuleList(SelfAttentionBlock(image_decoder_dim, n_heads) for _ in range(image_decoder_depth))
        self.norm = nn.LayerNorm(image_decoder_dim)
        self.head = nn.Linear(image_decoder_dim, n_channels * patch_size**2)
        self.apply(init_weights)

    def forward(self, latents: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict patches.

        Parameters
        ----------
        latents
            Latents of the cells, shape ``(B, L, D)``.
        visible
            Positions of patches whose prediction nobody reads, shape ``(B, N_visible)``; none by default.

        Returns
        -------
        Pixels, shape ``(B, N, C * P * P)``; 0 at ``visible``.
        """
        n_latents = latents.shape[1]
        mask_tokens = (self.mask_token + self.position).expand(len(latents), -1, -1)  # (B, N, image_decoder_dim)
        tokens = torch.cat([self.embed(latents), mask_tokens], dim=1)  # (B, L + N, image_decoder_dim)
        *blocks, last_block = self.blocks
        for block in blocks:
            tokens = block(tokens)
        if visible is None:
            return self.head(self.norm(last_block(tokens, tokens[:, n_latents:])))
        read = other_positions(visible, len(self.position))  # (B, N - N_visible)
        patches = self.head(self.norm(last_block(tokens, take_tokens(tokens, n_latents + read))))
        every = patches.new_zeros(len(patches), len(self.position), patches.shape[-1])
        return every.scatter(1, read.unsqueeze(-1).expand_as(patches), patches)


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
        """Bias of the last layer: what is predicted before anything is learned, shape ``(M,)``."""
        return self.output.bias

    def forward(self, latents: Tensor) -> Tensor:
        """Predict every gene; shapes ``(B, L, D)`` -> ``(B, M)``."""
        return self.output(self.hidden(latents.mean(dim=1)))
