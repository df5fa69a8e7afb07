"""scGPT with published weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ExpressionModel
from petri_scvi.baselines.published._scgpt_network import read_checkpoint
from petri_scvi.baselines.published._scgpt_tokens import make_tokens, match_genes
from petri_scvi.nn import choose_device

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader


class ScGPT(ExpressionModel):
    """Cell embedding of a published scGPT :cite:p:`Cui2024`, without fine-tuning.

    The expressed genes of a cell, each with one of 51 bins of its expression, go through the pretrained encoder; the
    embedding is the output at the cell token, scaled to length 1 as scGPT does. Counts need no normalisation, since the
    bins are quantiles within the cell. Download a model through the links in the README of
    ``github.com/bowang-lab/scGPT`` (its authors recommend "whole-human" for most purposes) and pass its folder.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    checkpoint
        Folder with ``args.json``, ``vocab.json`` and ``best_model.pt``, with weights of flash attention or torch's.
    gene_symbols_key
        ``var`` column with the gene symbols, for data whose ``var_names`` are identifiers; ``var_names`` if ``None``.
    ignore_case
        Whether ``Actb`` matches ``ACTB``: an approximate way to find the human genes of mouse data.
    max_length
        Tokens per cell at most; of a cell with more expressed genes, a random part is used, as in scGPT.
    accelerator
        Device of torch; ``"auto"`` takes a GPU if there is one.
    seed
        Seed of that choice, and of ties between bins.

    Raises
    ------
    FileNotFoundError
        The folder lacks one of the three files.
    KeyError
        ``gene_symbols_key`` is not a column.
    ValueError
        No gene is in the vocabulary, or the files are of another model.

    Warns
    -----
    UserWarning
        Fewer than half of the genes are in the vocabulary.
    """

    _batch_size = 64

    def __init__(
        self,
        mdata: MuData,
        checkpoint: str | Path,
        *,
        gene_symbols_key: str | None = None,
        ignore_case: bool = False,
        max_length: int = 1200,
        accelerator: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(mdata)
        check_sizes(max_length=max_length - 1)
        check_seed(seed)
        self.max_length, self.seed = max_length, seed
        self._device = choose_device(accelerator)
        encoder, vocabulary, self._settings = read_checkpoint(checkpoint)
        self._encoder = encoder.to(self._device)
        self._special = {
            "cls": vocabulary["<cls>"],
            "pad": vocabulary[self._settings.get("pad_token", "<pad>")],
            "pad_value": self._settings.get("pad_value", -2),
        }
        symbols = self._symbols(mdata, gene_symbols_key)
        tokens = match_genes(symbols, vocabulary, ignore_case=ignore_case)
        self.is_matched_ = tokens >= 0
        """Whether the vocabulary has each gene, shape ``(n_genes,)``."""
        self._places, self._tokens = np.flatnonzero(self.is_matched_), tokens[self.is_matched_]
        self._report(symbols, vocabulary)
        self.is_trained_ = True  # the weights are the published ones

    @no_epochs
    def train(self) -> None:
        """Do nothing: the published weights are used without fine-tuning."""

    def _symbols(self, mdata: MuData, key: str | None) -> list[str]:
        var = mdata.mod[self.modality_].var
        if key is None:
            return [str(name) for name in var.index]
        if key not in var:
            raise KeyError(
                f"gene_symbols_key={key!r} is not a column of mdata[{self.modality_!r}].var; it has "
                f"{list(var.columns)}. Name the column with the gene symbols, or None for var_names."
            )
        return var[key].astype(str).tolist()

    def _report(self, symbols: list[str], vocabulary: dict[str, int]) -> None:
        n_matched, n_genes = len(self._places), len(symbols)
        text = f"{n_matched} of {n_genes} genes are in the vocabulary of {len(vocabulary)} tokens"
        self._model_summary_string += f"; {text}"
        advice = (
            f"The data has names such as {symbols[:3]}, the vocabulary {[*vocabulary][:3]}. Name the column of "
            "mdata[...].var with gene symbols by gene_symbols_key=..., or pass ignore_case=True for mouse symbols."
        )
        if not n_matched:
            raise ValueError(f"{text}. {advice}")
        if 2 * n_matched < n_genes:
            warnings.warn(f"{text}. {advice}", UserWarning, stacklevel=3)

    @torch.inference_mode()
    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        embedding = np.empty((len(rows), self._settings["embsize"]), dtype=np.float32)
        n_empty = 0
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            counts = reader.read(batch)[:, self._places].astype(np.float64)
            n_empty += int((counts == 0).all(axis=1).sum())
            tokens, values = make_tokens(
                counts,
                self._tokens,
                special=self._special,
                n_bins=self._settings.get("n_bins", 51),
                max_length=self.max_length,
                seed=self.seed,
            )
            tokens, values = tokens.to(self._device), values.to(self._device)
            latents = self._encoder(tokens, values, tokens == self._special["pad"])  # (batch, D)
            embedding[start : start + batch_size] = normalize(latents, dim=1).float().cpu().numpy()
        if n_empty:
            warnings.warn(
                f"{n_empty} of {len(rows)} cells express none of the genes in the vocabulary; they all have the same "
                "embedding, that of an empty cell.",
                UserWarning,
                stacklevel=3,
            )
        return embedding
