"""Attention over all latent tokens of a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from petri_scvi.nn._blocks import SelfAttentionBlock, init_weights

if TYPE_CHECKING:
    from collections.abc import Sequence


class SetTransformer(nn.Module):
    """Transformer over a document: the paper's Multimodal Set Transformer :cite:p:`PETRI2026,Lee2019`.

    Cells carry no position, so the result does not depend on their order.

    Parameters
    ----------
    modalities
        Names of the modalities a document may hold.
    embed_dim
        Width D of the latent tokens.
    set_transformer_depth
        Number of self-attention blocks; with 0, cells are independent and each modality is a plain masked autoencoder.
    n_heads
        Attention heads; divides D.
    """

    def __init__(self, modalities: Sequence[str], embed_dim: int, set_transformer_depth: int, n_heads: int) -> None:
        super().__init__()
        self.modality_embedding = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(embed_dim) * 0.02) for name in modalities} if set_transformer_depth else {}
        )
        self.blocks = nn.ModuleList(SelfAttentionBlock(embed_dim, n_heads) for _ in range(set_transformer_depth))
        self.norm = nn.LayerNorm(embed_dim) if set_transformer_depth else nn.Identity()
        self.apply(init_weights)

    def forward(self, latents: dict[str, Tensor]) -> dict[str, Tensor]:
        """Exchange information between the cells of each document.

        Parameters
        ----------
        latents
            Per modality, shape ``(G, S, L, D)``; S may differ between modalities, and modalities may be missing.

        Returns
        -------
        Latents of the same names and shapes.
        """
        if not self.blocks:
            return latents
        tokens = torch.cat(
            [(cells + self.modality_embedding[name]).flatten(1, 2) for name, cells in latents.items()], dim=1
        )  # (G, sum of S * L, D)
        for block in self.blocks:
            tokens = block(tokens)
        parts = self.norm(tokens).split([cells.shape[1] * cells.shape[2] for cells in latents.values()], dim=1)
        return {
            name: part.unflatten(1, cells.shape[1:3])
            for (name, cells), part in zip(latents.items(), parts, strict=True)
        }
