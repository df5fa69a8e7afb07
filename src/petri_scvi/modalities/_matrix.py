"""What kinds of matrices of cells by variables have in common: Perceiver encoder and MLP decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from petri_scvi.common import RunningMoments
from petri_scvi.modalities._axes import Reservoir, principal_axes
from petri_scvi.modalities._modality import Modality
from petri_scvi.modalities._settings import EncoderSettings, Settings
from petri_scvi.nn import ExpressionDecoder, ExpressionEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MatrixModality(Modality):
    """A matrix of cells by variables, each of which is a token.

    Parameters
    ----------
    state
        What the field recorded: ``n_vars``.
    settings
        Sizes and options; without those of the decoder, none is built.
    """

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        n_vars, embed_dim = state["n_vars"], settings.embed_dim
        self.n_tokens = n_vars
        self.latent_shape = (settings.n_latent_tokens, embed_dim)
        self.encoder = ExpressionEncoder(
            n_vars,
            settings.n_latent_tokens,
            embed_dim,
            settings.expression_encoder_depth,
            settings.n_heads,
            gene_reads=settings.gene_reads,
            linear_path=settings.linear_path,
            share_gene_tokens=settings.share_gene_tokens,
        )
        self.decoder: ExpressionDecoder | None = None
        if isinstance(settings, Settings):
            self.decoder = ExpressionDecoder(n_vars, embed_dim, settings.expression_decoder_dim)

    def _levels(self, values: Tensor) -> Tensor:
        """What the encoder reads of prepared cells; of the same shape."""
        return values

    def _fit_encoder(self, chunks: Iterable[Tensor]) -> tuple[Tensor, int]:
        """Standardise levels by those of the training cells, and start embeddings at their principal axes.

        Returns
        -------
        Sum of the training cells, shape ``(M,)``, float64, and their number.
        """
        tokens = self.encoder.tokens
        total = torch.zeros(self.n_tokens, dtype=torch.float64)
        moments, reservoir = RunningMoments(self.n_tokens), Reservoir(self.n_tokens)
        for cells in chunks:
            values = cells.to(torch.float64)
            levels = self._levels(values)
            total += values.sum(dim=0)
            moments.update(levels.numpy())
            reservoir.update(levels)
        tokens.fit_levels(torch.as_tensor(moments.mean), torch.as_tensor(moments.std))
        self._start_embeddings(reservoir.rows)
        return total, moments.n

    def _start_embeddings(self, levels: Tensor) -> None:
        """Start at the principal axes of levels, unless attention reads tokens alone, as in the paper."""
        if self.encoder.reads_deviations:
            self.encoder.tokens.start_at(principal_axes(levels, self.latent_shape[1]))

    def prepare(self, cells: Tensor) -> Tensor:
        """Cast to float."""
        return cells.float()

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, M)`` and ``(B, M_visible)`` -> ``(B, L, D)``."""
        return self.encoder(self._levels(inputs), visible)
