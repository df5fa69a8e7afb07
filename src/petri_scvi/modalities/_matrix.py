"""What kinds of matrices of cells by variables have in common: Perceiver encoder and MLP decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from petri_scvi.common import RunningMoments
from petri_scvi.dataloaders import ColumnReader, open_rows
from petri_scvi.modalities._axes import Reservoir, principal_axes
from petri_scvi.modalities._modality import Modality
from petri_scvi.modalities._settings import EncoderSettings, Settings
from petri_scvi.nn import ExpressionDecoder, ExpressionEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from petri_scvi.dataloaders import RowReader


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

    @classmethod
    def open_cells(cls, cells: Any, state: Mapping[str, Any]) -> RowReader:
        """Reader of the variables of the model; those that were not measured are NaN."""
        reader = open_rows(cells)
        positions = list(state.get("positions", range(reader.shape[1])))
        return reader if positions == list(range(reader.shape[1])) else ColumnReader(reader, positions)

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shapes ``(B, M)`` and ``(B, M_visible)`` -> ``(B, L, D)``; missing values are not read."""
        if not self.lacks_values or bool((is_measured := ~inputs.isnan()).all()):
            return self.encoder(self._levels(inputs), visible)
        levels = self._levels(inputs.nan_to_num())
        if visible is None and bool((is_measured == is_measured[:1]).all()):
            # All cells lack the same variables, so they are read as cells in which these are masked, which is faster.
            measured = is_measured[0].nonzero().squeeze(1)  # (M_measured,)
            return self.encoder(levels, measured.expand(len(inputs), -1))
        return self.encoder(levels, visible, is_measured)

    def _scored(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared cells without NaN, and which of their values are scored: those masked that were measured."""
        return (inputs.nan_to_num(), mask & ~inputs.isnan()) if self.lacks_values else (inputs, mask)
