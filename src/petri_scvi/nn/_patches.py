"""Square patches of images: their size, cutting and assembling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

USUAL_PATCH_SIZE = 8
"""In pixels, for crops of 32 to 64 pixels."""
N_PATCHES = (16, 64)
"""Fewest and most patches of a crop, where its sides allow it."""


def choose_patch_size(height: int, width: int) -> int:
    """The patch size nearest to 8 pixels that divides both sides and gives 16 to 64 patches.

    If no size does, the one whose number of patches is nearest to that range; 1 if nothing but 1 divides both sides
    into at least four patches.
    """
    fitting = [
        size
        for size in range(2, min(height, width) + 1)
        if height % size == 0 == width % size and height * width >= 4 * size**2
    ]
    low, high = N_PATCHES

    def misfit(size: int) -> tuple[float, float]:
        n_patches = height * width // size**2
        outside = max(low / n_patches, n_patches / high, 1.0)
        return outside, abs(math.log(size / USUAL_PATCH_SIZE))

    return min(fitting, key=misfit, default=1)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, row by row; shapes ``(B, C, H, W)`` -> ``(B, N, C * P * P)``."""
    n_cells, n_channels, height, width = images.shape
    n_rows, n_columns = height // patch_size, width // patch_size
    patches = images.reshape(n_cells, n_channels, n_rows, patch_size, n_columns, patch_size)  # (B, C, h, P, w, P)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(n_cells, n_rows * n_columns, -1)  # (B, N, C * P * P)


def unpatchify(patches: Tensor, image_shape: tuple[int, int, int], patch_size: int) -> Tensor:
    """Assemble patches to images, the inverse of ``patchify``; ``(B, N, C * P * P)`` -> ``(B, C, H, W)``."""
    n_channels, height, width = image_shape
    n_rows, n_columns = height // patch_size, width // patch_size
    grid = patches.reshape(len(patches), n_rows, n_columns, n_channels, patch_size, patch_size)  # (B, h, w, C, P, P)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), n_channels, height, width)
