"""Cells as scGPT reads them: the expressed genes, each with its bin of expression."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


def match_genes(symbols: Sequence[str], vocabulary: Mapping[str, int], *, ignore_case: bool) -> NDArray[np.int64]:
    """Token of each gene, shape ``(n_genes,)``; -1 where the vocabulary does not have it."""
    tokens = np.array([vocabulary.get(symbol, -1) for symbol in symbols], dtype=np.int64)
    if ignore_case:
        lower = {symbol.lower(): token for symbol, token in vocabulary.items()}
        others = np.array([lower.get(symbol.lower(), -1) for symbol in symbols], dtype=np.int64)
        tokens = np.where(tokens >= 0, tokens, others)
    return tokens


def bin_values(values: NDArray[np.floating], n_bins: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Bin of each positive value of one cell, from 1 to ``n_bins - 1``; bin 0 is that of zeros.

    The edges are quantiles of the cell's own values. Counts are small, so that many quantiles are equal; a value that
    lies on several edges gets one of their bins at random, as in scGPT.
    """
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    lowest = np.searchsorted(edges, values, side="left")
    highest = np.searchsorted(edges, values, side="right")
    return highest - np.floor(rng.random(len(values)) * (highest - lowest)).astype(np.int64)


def make_tokens(
    counts: NDArray[np.floating],
    genes: NDArray[np.int64],
    *,
    special: Mapping[str, float],
    n_bins: int,
    max_length: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Token sequences of cells, padded to the longest.

    Random choices follow from the seed and from which genes a cell expresses, so that a cell has the same tokens in any
    batch, subset or order.

    Parameters
    ----------
    counts
        Expression of the genes that the vocabulary has, shape ``(n, n_genes)``.
    genes
        Their tokens, shape ``(n_genes,)``.
    special
        ``cls`` and ``pad``, tokens, and ``pad_value``, the value that goes with both.
    n_bins
        Bins of expression, that of zeros included.
    max_length
        Tokens per cell at most, the cell token included; a cell with more expressed genes keeps a random part.
    seed
        Seed of ties between bins and of the genes that are kept.

    Returns
    -------
    Gene tokens and values, both of shape ``(n, T)``; the cell token comes first.
    """
    cells = []
    for values in counts:
        places = np.flatnonzero(values)
        rng = np.random.default_rng([seed, zlib.crc32(genes[places].tobytes())])
        bins = bin_values(values[places], n_bins, rng) if len(places) else np.zeros(0, dtype=np.int64)
        if len(places) > max_length - 1:
            kept = np.sort(rng.permutation(len(places))[: max_length - 1])
            places, bins = places[kept], bins[kept]
        cells.append((genes[places], bins))
    length = 1 + max((len(bins) for _, bins in cells), default=0)
    tokens = np.full((len(cells), length), int(special["pad"]), dtype=np.int64)
    values = np.full((len(cells), length), special["pad_value"], dtype=np.float32)
    tokens[:, 0] = int(special["cls"])
    for i, (tokens_of_cell, bins) in enumerate(cells):
        tokens[i, 1 : 1 + len(bins)] = tokens_of_cell
        values[i, 1 : 1 + len(bins)] = bins
    return torch.from_numpy(tokens), torch.from_numpy(values)
