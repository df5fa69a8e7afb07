"""Transcriptomes: counts or log-normalised expression of genes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from petri_scvi._checks import check_expression, check_integers
from petri_scvi._constants import COUNTS_LAYER, RNA
from petri_scvi.common._numbers import check_numbers
from petri_scvi.dataloaders import open_rows
from petri_scvi.modalities._field import MatrixField
from petri_scvi.modalities._matrix import MatrixModality
from petri_scvi.nn import masked_mean, negative_binomial_nll

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from mudata import MuData

    from petri_scvi.modalities._kinds import Kind
    from petri_scvi.modalities._modality import Score
    from petri_scvi.modalities._settings import EncoderSettings
    from petri_scvi.nn import ExpressionDecoder

MAX_LOG_DISPERSION = 8.0
LOG_DISPERSIONS = torch.linspace(-4, 6, 41)
"""Candidates for the dispersion of a gene in the model-free prediction."""


class ExpressionField(MatrixField):
    """Counts or log-normalised values in ``X`` or a layer."""

    variables = "genes"

    def validate_field(self, adata: MuData) -> None:
        """Check every value, in chunks."""
        modality = adata.mod[self.modality]
        argument = "layer" if self.is_by_kind else "rna_layer"
        if self.attr_name == "obsm":
            self.check_slot(adata)
        elif self.attr_key is not None and self.attr_key not in modality.layers:
            raise KeyError(
                f"{argument}={self.attr_key!r} is not in mdata[{self.modality!r}].layers; it has "
                f"{[key for key in modality.layers if key is not None]}. Name the layer with the counts, or None for X."
            )
        values = self.get_field_data(adata)
        if values is None or 0 in values.shape:
            raise ValueError(
                f"{self.where} is empty; expected expression of shape (n_cells, n_genes). "
                f"Name the layer that holds it with {argument}=..."
            )
        check_numbers(values, self.where, is_expression=True)
        reader = open_rows(values)
        check_expression(reader.chunks(np.arange(len(reader))), self.where)


class ExpressionModality(MatrixModality):
    """Transcriptomes: Perceiver encoder, MLP decoder, negative binomial or squared error.

    Parameters
    ----------
    state, settings
        As for :class:`MatrixModality`.
    """

    argument = "rna_layer"
    default_name = RNA
    masks_missing = True

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__(state, settings)
        self.expression_likelihood = settings.expression_likelihood
        if self.decoder is not None and self.expression_likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(self.n_tokens))

    @classmethod
    def field_name(cls, modality: str) -> str:
        return "X"  # where scvi-tools looks for expression

    @classmethod
    def find_cells(cls, adata: AnnData, kind: Kind) -> Kind:
        """The slot that was named, else the layer ``"counts"`` if there is one, else ``X``."""
        is_layer = kind.place == ("X", None) and COUNTS_LAYER in adata.layers
        return replace(kind, layer=COUNTS_LAYER) if is_layer else kind

    @classmethod
    def make_field(cls, field_name: str, modality: str, kind: Kind) -> ExpressionField:
        return ExpressionField(field_name, modality, *kind.place)

    def check_cells(self, cells: Any, modality: str) -> None:
        """Require counts if counts are modelled."""
        if self.expression_likelihood == "nb":
            check_counts(cells, modality)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        """Start the decoder at the mean expression of the training cells, and standardise levels by them.

        Gene embeddings start at the principal axes of the levels, unless attention reads tokens alone, as in the paper.
        """
        total, n_cells = self._fit_encoder(chunks)
        if self.decoder is None:
            return
        with torch.no_grad():
            if self.expression_likelihood == "nb":
                self.decoder.offset.copy_(log_shares(total))
            else:
                self.decoder.offset.copy_(total / n_cells)

    def _levels(self, values: Tensor) -> Tensor:
        """Log expression."""
        return values.log1p() if self.expression_likelihood == "nb" else values

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predict the log mean count, or the mean log-normalised value; shape ``(B, M)``.

        Visible genes are predicted too: the softmax of the others needs them.
        """
        prediction = cast("ExpressionDecoder", self.decoder)(latents).float()
        if self.expression_likelihood == "nb":
            return log_mean(prediction, inputs, lacks_values=self.lacks_values)
        return prediction

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-likelihood, or squared error, of the masked genes; shape ``(B,)``."""
        inputs, mask = self._scored(inputs, mask)
        if self.expression_likelihood == "nb":
            # Beyond this, counts cannot be distinguished from Poisson, and float32 loses digits in the lgamma terms.
            log_dispersion = self.log_dispersion.clamp(max=MAX_LOG_DISPERSION)
            return masked_mean(negative_binomial_nll(inputs, prediction, log_dispersion), mask)
        return masked_mean((prediction - inputs).square(), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        """Expected counts, or log-normalised values; shape ``(B, M)``."""
        return prediction.exp() if self.expression_likelihood == "nb" else prediction

    def model_free_scores(self, reference: Tensor) -> dict[str, Score]:
        """``"mean expression"`` of each gene.

        Where counts are modelled, it is scaled to the cell's library size, and each gene has the dispersion that fits
        the training cells best.
        """
        if self.lacks_values:  # variables that were not measured are not scored either
            reference = reference.nan_to_num()
        if self.expression_likelihood == "normal":
            mean = reference.mean(dim=0)  # (M,)
            return {"mean expression": lambda inputs, mask: self.loss(mean.expand_as(inputs), inputs, mask)}
        log_share = log_shares(reference.sum(dim=0))  # (M,)

        def nll(counts: Tensor, log_dispersion: Tensor) -> Tensor:
            return negative_binomial_nll(counts, log_share + counts.sum(dim=1, keepdim=True).log(), log_dispersion)

        candidates = LOG_DISPERSIONS.to(reference)
        fits = torch.stack([nll(reference, candidate).mean(dim=0) for candidate in candidates])  # (41, M)
        log_dispersion = candidates[fits.argmin(dim=0)]  # (M,)

        def score(inputs: Tensor, mask: Tensor) -> Tensor:
            inputs, mask = self._scored(inputs, mask)
            return masked_mean(nll(inputs, log_dispersion), mask)

        return {"mean expression": score}


class CountsModality(ExpressionModality):
    """Counts of genes, proteins or guides: Perceiver encoder, MLP decoder, negative binomial.

    Parameters
    ----------
    state, settings
        As for :class:`ExpressionModality`.

    Raises
    ------
    ValueError
        ``expression_likelihood`` says that the values are no counts.
    """

    kind = "counts"

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        if settings.expression_likelihood != "nb":
            raise ValueError(
                f"expression_likelihood={settings.expression_likelihood!r}, but a modality was registered as 'counts'. "
                "Leave expression_likelihood out, or register log-normalised values as such: "
                "PETRI.setup_mudata(mdata, modalities={'rna': 'continuous', ...})."
            )
        super().__init__(state, settings)


def log_mean(logits: Tensor, counts: Tensor, *, lacks_values: bool = False) -> Tensor:
    """Log of expected counts: shares by a softmax over variables, times the sum of the cell; ``(B, M)`` twice.

    If some variables were not measured, shares are those among the others, whose sum is known.
    """
    if lacks_values and not bool((is_measured := ~counts.isnan()).all()):
        library_size = counts.nansum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        measured = logits.masked_fill(~is_measured, -torch.inf).logsumexp(dim=-1, keepdim=True)  # (B, 1)
        return logits - measured + library_size.log()
    library_size = counts.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    return log_softmax(logits, dim=-1) + library_size.log()


def log_shares(total: Tensor) -> Tensor:
    """Log share of each variable in all counts; half a count keeps those without counts finite; ``(M,)`` twice."""
    total = total + 0.5
    return (total / total.sum()).log()


def check_counts(cells: Any, modality: str) -> None:
    """Require that the expression of a modality is whole numbers; it is read in chunks."""
    reader = open_rows(cells)
    check_integers(reader.chunks(np.arange(len(reader))), f"the expression of mdata[{modality!r}]")
