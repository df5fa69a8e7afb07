"""Vision Transformer that compresses a crop to latent tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from petri_scvi.nn._blocks import SelfAttentionBlock, init_weights
from petri_scvi.nn._masking import take_tokens
from petri_scvi.nn._patches import patchify, sincos_position


class ImageEncoder(nn.Module):
    """Vision Transformer :cite:p:`Dosovitskiy2021` with L learned latent tokens prepended to the patches.

    Parameters
    ----------
    image_shape
        Channels, height and width ``(C, H, W)``; height and width are multiples of ``patch_size``.
    patch_size
        Side P of a patch in pixels.
    n_latent_tokens
        Latent tokens per cell (L).
    embed_dim
        Width D of the tokens.
    image_encoder_depth
        Number of self-attention blocks.
    n_heads
        Attention heads; divides D.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        n_latent_tokens: int,
        embed_dim: int,
        image_encoder_depth: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        n_channels, height, width = image_shape
        self.patch_size = patch_size
        self.n_latent_tokens = n_latent_tokens
        self.embed = nn.Linear(n_channels * patch_size**2, embed_dim)
        self.position: Tensor
        self.register_buffer(
            "position", sincos_position(height // patch_size, width // patch_size, embed_dim), persistent=False
        )
        self.latents = nn.Parameter(torch.randn(1, n_latent_tokens, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(SelfAttentionBlock(embed_dim, n_heads) for _ in range(image_encoder_depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.apply(init_weights)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compress each image to its latent tokens.

        Parameters
        ----------
        images
            Normalised images, shape ``(B, C, H, W)``.
        visible
            Positions of the patches to see, shape ``(B, N_visible)``; all if ``None``.

        Returns
        -------
        Latents, shape ``(B, L, D)``.
        """
        patches = patchify(images, self.patch_size)  # (B, N, C * P * P)
        if visible is None:
            tokens = self.embed(patches) + self.position  # (B, N, D)
        else:
            tokens = self.embed(take_tokens(patches, visible)) + self.position[visible]  # (B, N_visible, D)
        tokens = torch.cat([self.latents.expand(len(images), -1, -1), tokens], dim=1)  # (B, L + N_visible, D)
        *blocks, last_block = self.blocks
        for block in blocks:
            tokens = block(tokens)
        return self.norm(last_block(tokens, tokens[:, : self.n_latent_tokens]))  # (B, L, D)
