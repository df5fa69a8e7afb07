"""Cut images into square patches and put them together again; where a patch lies in its image."""

from __future__ import annotations

import torch
from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, row by row; shapes ``(B, C, H, W)`` -> ``(B, N, C * P * P)``."""
    n_cells, n_channels, height, width = images.shape
    n_rows, n_columns = height // patch_size, width // patch_size
    patches = images.reshape(n_cells, n_channels, n_rows, patch_size, n_columns, patch_size)  # (B, C, h, P, w, P)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(n_cells, n_rows * n_columns, -1)  # (B, N, C * P * P)


def unpatchify(patches: Tensor, image_shape: tuple[int, int, int], patch_size: int) -> Tensor:
    """Put patches together again, the inverse of :func:`patchify`; ``(B, N, C * P * P)`` -> ``(B, C, H, W)``."""
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
