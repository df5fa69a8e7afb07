"""Cut images into square patches and put them together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
