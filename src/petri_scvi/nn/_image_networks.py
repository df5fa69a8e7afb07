"""Vision Transformer that compresses a crop to latent tokens, and the decoder that reconstructs its patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from petri_scvi.nn._blocks import SelfAttentionBlock, init_weights
from petri_scvi.nn._linear_paths import ImagePath
from petri_scvi.nn._masking import other_positions, take_tokens


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
    linear_path
        Add an :class:`ImagePath` to the latents.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        n_latent_tokens: int,
        embed_dim: int,
        image_encoder_depth: int,
        n_heads: int,
        *,
        linear_path: bool = True,
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
        self.linear_path = ImagePath(n_channels, embed_dim) if linear_path else None

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
        position = self.position
        if visible is not None:
            patches, position = take_tokens(patches, visible), position[visible]  # (B, N_visible, ...)
        tokens = self.embed(patches) + position  # (B, N_visible, D)
        tokens = torch.cat([self.latents.expand(len(images), -1, -1), tokens], dim=1)  # (B, L + N_visible, D)
        *blocks, last_block = self.blocks
        for block in blocks:
            tokens = block(tokens)
        latents = self.norm(last_block(tokens, tokens[:, : self.n_latent_tokens]))  # (B, L, D)
        return latents if self.linear_path is None else latents + self.linear_path(patches).unsqueeze(1)


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
            Positions of patches whose prediction is not used, shape ``(B, N_visible)``; none by default.

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


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, row by row; shapes ``(B, C, H, W)`` -> ``(B, N, C * P * P)``."""
    n_cells, n_channels, height, width = images.shape
    n_rows, n_columns = height // patch_size, width // patch_size
    patches = images.reshape(n_cells, n_channels, n_rows, patch_size, n_columns, patch_size)  # (B, C, h, P, w, P)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(n_cells, n_rows * n_columns, -1)  # (B, N, C * P * P)


def unpatchify(patches: Tensor, image_shape: tuple[int, int, int], patch_size: int) -> Tensor:
    """Assemble patches to images, the inverse of :func:`patchify`; ``(B, N, C * P * P)`` -> ``(B, C, H, W)``."""
    n_channels, height, width = image_shape
    n_rows, n_columns = height // patch_size, width // patch_size
    grid = patches.reshape(len(patches), n_rows, n_columns, n_channels, patch_size, patch_size)  # (B, h, w, C, P, P)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), n_channels, height, width)


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
