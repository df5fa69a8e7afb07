"""Open chromatin and other events: flags, or counts that are too low to be overdispersed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from petri_scvi.dataloaders import open_rows
from petri_scvi.modalities._expression import ExpressionField, check_counts, log_mean, log_shares
from petri_scvi.modalities._field import MatrixField
from petri_scvi.modalities._matrix import MatrixModality
from petri_scvi.nn import masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData

    from petri_scvi.modalities._kinds import Kind
    from petri_scvi.modalities._modality import Score
    from petri_scvi.nn import ExpressionDecoder


class BinaryField(MatrixField):
    """Zeros and ones in ``X``, a layer or ``obsm``."""

    def validate_field(self, adata: MuData) -> None:
        """Check every value, in chunks."""
        super().validate_field(adata)
        reader = open_rows(self.get_field_data(adata))
        for chunk in reader.chunks(np.arange(len(reader))):
            is_other = (chunk != 0) & (chunk != 1)
            if is_other.any():
                raise ValueError(
                    f"{self.where} has values other than 0 and 1, for example {chunk[is_other][0]:.4g}. Binarise them: "
                    f"({self.where} > 0).astype('float32'), or register counts as 'peaks' or 'counts': "
                    f"modalities={{{self.modality!r}: 'peaks'}}."
                )


class BinaryModality(MatrixModality):
    """Flags, such as open peaks or mutations: Perceiver encoder, MLP decoder, Bernoulli.

    Parameters
    ----------
    state, settings
        As for :class:`MatrixModality`.
    """

    kind = "binary"
    expression_likelihood = "bernoulli"
    masks_missing = True

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> BinaryField:
        return BinaryField(field_name, modality, *kind.place)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Start the decoder at the frequencies in the training cells, and standardise by them."""
        total, n_cells = self._fit_encoder(chunks)
        if self.decoder is not None:
            with torch.no_grad():
                self.decoder.offset.copy_(_frequency(total, n_cells).logit())

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict the log odds; shape ``(B, M)``."""
        return cast("ExpressionDecoder", self.decoder)(latents).float()

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-likelihood of the masked flags; shape ``(B,)``."""
        inputs, mask = self._scored(inputs, mask)
        return masked_mean(binary_cross_entropy_with_logits(prediction, inputs, reduction="none"), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Probabilities; shape ``(B, M)``."""
        return prediction.sigmoid()

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """``"frequency"`` of each flag."""
        log_odds = _frequency(reference.nansum(dim=0), len(reference)).logit()  # (M,)
        return {"frequency": lambda inputs, mask: self.loss(log_odds.expand_as(inputs), inputs, mask)}


class PeaksModality(MatrixModality):
    """Counts of peaks: Perceiver encoder, MLP decoder, Poisson.

    Parameters
    ----------
    state, settings
        As for :class:`MatrixModality`.
    """

    kind = "peaks"
    expression_likelihood = "poisson"
    masks_missing = True

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> ExpressionField:
        return ExpressionField(field_name, modality, *kind.place)

    def check_cells(self, cells: Any, modality: str) -> None:
        """Require counts."""
        check_counts(cells, modality)

    def _levels(self, values: Tensor) -> Tensor:
        """Log counts."""
        return values.log1p()

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Start the decoder at the mean counts of the training cells, and standardise levels by them."""
        total, _ = self._fit_encoder(chunks)
        if self.decoder is not None:
            with torch.no_grad():
                self.decoder.offset.copy_(log_shares(total))

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict the log mean count; shape ``(B, M)``."""
        logits = cast("ExpressionDecoder", self.decoder)(latents).float()
        return log_mean(logits, inputs, lacks_values=self.lacks_values)

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-likelihood of the masked peaks; shape ``(B,)``."""
        inputs, mask = self._scored(inputs, mask)
        nll = prediction.exp() - inputs * prediction + torch.lgamma(inputs + 1)
        return masked_mean(nll, mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Expected counts; shape ``(B, M)``."""
        return prediction.exp()

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """``"mean expression"`` of each peak, scaled to the cell's number of counts."""
        log_share = log_shares(reference.nansum(dim=0))  # (M,)

        def score(inputs: Tensor, mask: Tensor) -> Tensor:
            return self.loss(log_share + inputs.nansum(dim=1, keepdim=True).clamp(min=1).log(), inputs, mask)

        return {"mean expression": score}


def _frequency(total: Tensor, n_cells: int) -> Tensor:
    """Share of cells with a flag; half a cell keeps it away from 0 and 1."""
    return (total + 0.5) / (n_cells + 1)
