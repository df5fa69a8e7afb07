"""Where a patch lies in its image."""

from __future__ import annotations

import torch
from torch import Tensor


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
