"""Known gene pairs, matched to the genes of a screen."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi.common._warn import warn
from petri_scvi.tl._similarity import pair_index

from ._circular import pairs_in_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    EdgeTable: TypeAlias = pd.DataFrame | str | PathLike[str]

SCORE_COLUMNS = ("score", "combined_score")
FEW_GENES = 0.5
"""Warn if fewer than this share of the genes is in the edge table."""


@dataclass(frozen=True)
class Edges:
    """Pairs of row numbers, each pair once, and how the table overlaps with the screen."""

    n_genes: int
    positive: NDArray[np.intp]  # (n_positive, 2)
    between: NDArray[np.intp]  # (n_between, 2), listed, but not above the threshold
    in_groups: NDArray[np.intp]  # (n_in_groups, 2), share a group that is left out, and are in neither of the others
    counts: dict[str, int]

    @property
    def positive_index(self) -> NDArray[np.intp]:
        """Places of the positives among all unordered pairs."""
        return pair_index(self.positive[:, 0], self.positive[:, 1], self.n_genes)

    @property
    def left_out_index(self) -> NDArray[np.intp]:
        """Places of the pairs that are left out."""
        left_out = np.concatenate([self.between, self.in_groups])
        return pair_index(left_out[:, 0], left_out[:, 1], self.n_genes)

    @property
    def in_groups_index(self) -> NDArray[np.intp]:
        """Places of the pairs that are left out because they share a group."""
        return pair_index(self.in_groups[:, 0], self.in_groups[:, 1], self.n_genes)

    def is_negative(self) -> NDArray[np.bool_]:
        """Which of all unordered pairs are not listed at all."""
        negative = np.ones(self.n_genes * (self.n_genes - 1) // 2, dtype=bool)
        negative[self.positive_index] = False
        negative[self.left_out_index] = False
        return negative


def read_edges(edges: EdgeTable) -> pd.DataFrame:
    """Read a table of edges from a data frame or a file.

    Parameters
    ----------
    edges
        Data frame, or path of a text file with a header and columns separated by commas, tabs or spaces.

    Returns
    -------
    Columns ``entity1``, ``entity2`` (the first two of the input) and, if the input has a ``score`` or
    ``combined_score``, ``score``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        The input is neither a data frame nor a path.
    ValueError
        The table has fewer than two columns, no rows, or scores that are not numbers.
    """
    if isinstance(edges, pd.DataFrame):
        table = edges
    elif isinstance(edges, (str, PathLike)):
        with Path(edges).open() as file:
            header = file.readline()
        separator = next((mark for mark in ("\t", ",", " ") if mark in header), ",")
        table = pd.read_csv(edges, sep=separator, compression=None, keep_default_na=False)
    else:
        raise TypeError(
            f"edges must be a data frame or the path of a text file, found {type(edges).__name__}. For physical edges "
            "of STRING pass petri_scvi.datasets.stringdb()."
        )
    if table.shape[1] < 2 or len(table) == 0:
        raise ValueError(
            f"the edge table has shape {table.shape} and columns {list(table.columns)}; expected one row per edge, "
            "with the two genes in the first two columns and optionally a column 'score'"
        )
    is_missing = table.iloc[:, :2].isna().any(axis=1).to_numpy()
    if is_missing.any():
        warn(f"{int(is_missing.sum())} of {len(table)} rows of the edge table lack a gene; they are left out")
        table = table[~is_missing]
    read = pd.DataFrame({"entity1": table.iloc[:, 0], "entity2": table.iloc[:, 1]}).reset_index(drop=True)
    scored = next((c for c in SCORE_COLUMNS if c in table.columns), None)
    if scored is not None:
        read["score"] = pd.to_numeric(table[scored], errors="coerce").to_numpy(dtype=float)
        if read["score"].isna().any():
            raise ValueError(f"{int(read['score'].isna().sum())} values of the column {scored!r} are not numbers")
    return read


def match_edges(
    edges: EdgeTable, genes: NDArray[Any], min_score: float, left_out: Mapping[str, Sequence[str]] | None = None
) -> Edges:
    """Find the edges between genes of the screen; case is ignored, so human and mouse symbols match.

    Parameters
    ----------
    edges
        Table as in :func:`read_edges`.
    genes
        Gene of each profile.
    min_score
        Edges with a larger score are positive. Without scores all are.
    left_out
        Groups of genes; a pair that shares one is neither positive nor negative.
    """
    table = read_edges(edges)
    spelled = pd.Index([str(gene).upper() for gene in genes])
    twice = spelled[spelled.duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{len(twice)} genes have more than one profile, for example {twice[0]!r}. Pass one profile per gene: "
            "petri_scvi.tl.aggregate_profiles(..., level='gene'). Symbols that differ in case only are one gene."
        )
    ends, symbols = _number_symbols(table)
    rows = spelled.get_indexer(symbols)[ends]  # (n_listed, 2), -1 for unknown genes
    is_known = (rows >= 0).all(axis=1) & (rows[:, 0] != rows[:, 1])
    is_positive = np.ones(len(table), dtype=bool)
    if "score" in table:
        _check_scale(table["score"], min_score)
        is_positive = (table["score"] > min_score).to_numpy()
    found = rows[is_known]
    in_groups = pairs_in_groups(left_out or {}, genes)
    n = len(genes)
    positive, listed = (
        pairs[~np.isin(_code(pairs, n), _code(in_groups, n))]
        for pairs in (_unique_pairs(found[is_positive[is_known]]), _unique_pairs(found))
    )
    is_between = ~np.isin(_code(listed, n), _code(positive, n), assume_unique=True)
    in_table = spelled.isin(symbols)
    counts = {
        "n_genes": n,
        "n_genes_in_table": int(in_table.sum()),
        "n_edges_in_table": len(_unique_pairs(ends[ends[:, 0] != ends[:, 1]])),
        "n_positive": len(positive),
        "n_between": int(is_between.sum()),
        "n_in_groups": len(in_groups),
        "n_negative": n * (n - 1) // 2 - len(listed) - len(in_groups),
    }
    matched = Edges(n, positive, listed[is_between], in_groups, counts)
    _check_overlap(matched, genes[~in_table], min_score)
    return matched


def _number_symbols(table: pd.DataFrame) -> tuple[NDArray[np.intp], pd.Index]:
    """Number of each symbol in the table, shape ``(n_listed, 2)``, and the symbols in capitals by number."""
    # A table names a symbol many times; each spelling is changed once.
    codes, spellings = pd.factorize(table[["entity1", "entity2"]].to_numpy(dtype=object).ravel(), use_na_sentinel=False)
    merged, symbols = pd.factorize(np.array([str(spelling).strip().upper() for spelling in spellings], dtype=object))
    return merged[codes].reshape(-1, 2), pd.Index(symbols)


def _code(pairs: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """One number per pair of numbers below ``n``."""
    return pairs[:, 0] * n + pairs[:, 1]


def _unique_pairs(pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Unique unordered pairs, the smaller number first, sorted."""
    n = int(pairs.max(initial=0)) + 1
    low, high = np.minimum(pairs[:, 0], pairs[:, 1]), np.maximum(pairs[:, 0], pairs[:, 1])
    codes = np.sort(low * n + high)  # many times faster than numpy.unique, which hashes
    codes = codes[np.diff(codes, prepend=-1) > 0]
    return np.stack([codes // n, codes % n], axis=1)


def _check_scale(scores: pd.Series, min_score: float) -> None:
    if scores.max() > 1 and min_score <= 1:
        raise ValueError(
            f"scores of the edge table run up to {scores.max():g}, but min_score={min_score:g}. STRING multiplies its "
            f"scores by 1000: pass min_score={1000 * min_score:g}."
        )


def _check_overlap(edges: Edges, unknown: NDArray[Any], min_score: float) -> None:
    counts = edges.counts
    if counts["n_positive"] == 0:
        raise ValueError(
            f"no positive edge joins two of the {counts['n_genes']} genes: {counts['n_genes_in_table']} of them are in "
            f"the table, and {counts['n_between']} edges between them have a score of at most {min_score:g}. "
            + (
                f"{counts['n_in_groups']} pairs share a group and are left out; pass edges of another source."
                if counts["n_in_groups"]
                else "Pass gene symbols as the first two columns of the table spell them, a lower min_score, or "
                "another table."
            )
        )
    if counts["n_negative"] == 0:
        raise ValueError(
            f"all {counts['n_positive'] + counts['n_between']} pairs of the {counts['n_genes']} genes are listed as "
            "edges, so no negative pair is left. Pass more genes or a smaller table."
        )
    if counts["n_genes_in_table"] < FEW_GENES * counts["n_genes"]:
        warn(
            f"{len(unknown)} of {counts['n_genes']} genes are not in the edge table, for example "
            f"{[str(g) for g in unknown[:3]]}; all their pairs count as negatives"
        )
