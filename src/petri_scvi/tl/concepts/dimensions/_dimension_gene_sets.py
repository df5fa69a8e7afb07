"""Gene sets that are enriched among the genes of a dimension."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import hypergeom

from petri_scvi._checks import check_sizes
from petri_scvi._constants import SAE_KEY, UNS_KEY
from petri_scvi._groups import read_gmt
from petri_scvi.tl._arguments import check_alpha
from petri_scvi.tl._results import data_to_change, write_result

from ._correlation import adjust_listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

MAX_P = 0.05
"""Pairs with larger p-values are not kept; leaving them out changes no smaller q-value."""
CHUNK_DIMENSIONS = 1024


def dimension_gene_sets(
    data: AnnData | MuData,
    gene_sets: Mapping[str, Iterable[str]] | str | Path,
    key: str = SAE_KEY,
    *,
    alpha: float = 0.05,
    min_size: int = 5,
    max_size: int = 500,
    n_sets: int = 10,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Test gene sets for enrichment among the genes of each dimension with a hypergeometric test.

    Parameters
    ----------
    data
        Cells after :func:`petri_scvi.tl.dimension_genes`.
    gene_sets
        Mapping from the name of each set to its genes, or the path of a GMT file (per line: name, description, genes,
        between tabs). Genes are named as in ``var_names``.
    key
        As in that call.
    alpha
        The genes of a dimension are those that it lists with a q-value of at most this.
    min_size, max_size
        Smallest and largest number of background genes of a tested set.
    n_sets
        Sets to list per dimension, at most.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_gene_sets_" + key]``: ``table``, one row per dimension
    and listed set, of which the p-value is at most 0.05: ``dimension``, ``rank`` (from 1), ``gene_set``, ``n_overlap``,
    ``n_genes`` (of the dimension), ``set_size`` (in the background), ``fold`` (overlap over its expectation),
    ``p_value``, ``q_value`` (Benjamini-Hochberg over all dimensions with genes times all tested sets), ``genes`` (the
    overlap, joined by ``", "``); ``n_tests``; ``n_dimensions``; ``parameters``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        :func:`petri_scvi.tl.dimension_genes` has not been called.
    ValueError
        No gene of the sets is in the background, no set has an accepted size, a set is one string, no dimension has a
        gene, or the file is not a GMT file.

    Notes
    -----
    The background is the genes that :func:`petri_scvi.tl.dimension_genes` tested, that is those detected in enough
    cells: against the whole genome, any set of expressed genes would appear enriched.
    """
    data = data_to_change(data, copy)
    check_alpha(alpha)
    check_sizes(min_size=min_size, max_size=max_size, n_sets=n_sets)
    ranked = data.uns.get(UNS_KEY, {}).get(f"dimension_genes_{key}")
    if ranked is None:
        raise KeyError(
            f"uns[{UNS_KEY!r}] has no 'dimension_genes_{key}'. Call petri_scvi.tl.dimension_genes(data, {key!r}) first."
        )
    sets = read_gmt(gene_sets) if isinstance(gene_sets, str | Path) else _listed(gene_sets)
    background = pd.Index(np.asarray(ranked["background"]).astype(str))
    names, members = _membership(sets, background, min_size, max_size)
    genes = ranked["table"]
    genes = genes[(genes["q_value"] <= alpha).to_numpy()]
    if len(genes) == 0:
        raise ValueError(
            f"no dimension has a gene with a q-value of at most alpha={alpha}; nothing can be tested. Use more cells, "
            "or pass a larger alpha."
        )
    dimensions, row = np.unique(genes["dimension"].to_numpy(), return_inverse=True)
    column = background.get_indexer(genes["gene"].astype(str))
    queries = sparse.csr_matrix((np.ones(len(row), np.int32), (row, column)), shape=(len(dimensions), len(background)))
    table, n_tests = _enrichment(queries, members)
    table = table[(table.groupby("row")["p_value"].rank(method="first") <= n_sets).to_numpy()]
    table = table.sort_values(["row", "p_value"], kind="stable").reset_index(drop=True)
    result = {"table": _named(table, dimensions, names, queries, members, background), "n_tests": n_tests}
    parameters: dict[str, Any] = {"key": key, "alpha": alpha, "min_size": min_size, "max_size": max_size}
    parameters |= {"n_sets": n_sets, "n_gene_sets": len(names)}
    result["n_dimensions"] = ranked["n_dimensions"]
    write_result(data, f"dimension_gene_sets_{key}", result, parameters)
    return data if copy else None


def _listed(gene_sets: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    for name, genes in gene_sets.items():
        if isinstance(genes, str):  # its letters would be taken for genes
            raise ValueError(f"gene_sets[{name!r}]={genes!r} is one string; pass a list, such as [{genes!r}].")
    return {name: list(genes) for name, genes in gene_sets.items()}


def _membership(
    sets: Mapping[str, list[str]], background: pd.Index, min_size: int, max_size: int
) -> tuple[list[str], sparse.csr_matrix]:
    """Names of the sets to test, and which genes they hold, shape ``(n_sets, n_background)``."""
    every = list(sets)
    rows = np.repeat(np.arange(len(every)), [len(sets[name]) for name in every])
    written = [gene for name in every for gene in sets[name]]
    columns = background.get_indexer(written)
    if not (columns >= 0).any():
        upper = set(background.str.upper()) & {gene.upper() for gene in written}
        hint = " They agree in upper case: convert one of them." if upper else ""
        raise ValueError(
            f"no gene of the {len(every)} gene sets, for example {written[:3]}, is among the {len(background)} genes "
            f"in the background, for example {background[:3].tolist()}. Gene sets need the names of var_names.{hint}"
        )
    found = columns >= 0
    shape = (len(every), len(background))
    members = sparse.csr_matrix((np.ones(int(found.sum()), np.int32), (rows[found], columns[found])), shape=shape)
    members.data[:] = 1  # a gene that a set names twice counts once
    sizes = np.diff(members.indptr)
    kept = np.flatnonzero((sizes >= min_size) & (sizes <= max_size))
    if len(kept) == 0:
        raise ValueError(
            f"none of {len(every)} gene sets has min_size={min_size} to max_size={max_size} genes in the background; "
            f"they have {sizes.min()} to {sizes.max()}. Pass other limits."
        )
    return [every[i] for i in kept], members[kept]


def _enrichment(queries: sparse.csr_matrix, members: sparse.csr_matrix) -> tuple[pd.DataFrame, int]:
    """Overlaps with a small p-value, and the number of all tests."""
    n_background = queries.shape[1]
    n_query, set_size = np.diff(queries.indptr), np.diff(members.indptr)
    parts = []
    for start in range(0, queries.shape[0], CHUNK_DIMENSIONS):
        overlap = (queries[start : start + CHUNK_DIMENSIONS] @ members.T).tocoo()
        row = overlap.row + start
        cases = np.column_stack([overlap.data, set_size[overlap.col], n_query[row]])
        distinct, case = np.unique(cases, axis=0, return_inverse=True)  # few: the test is slow
        p_values = hypergeom.sf(distinct[:, 0] - 1, n_background, distinct[:, 1], distinct[:, 2])[case.ravel()]
        part = pd.DataFrame({"row": row, "column": overlap.col, "n_overlap": overlap.data, "p_value": p_values})
        parts.append(part[p_values <= MAX_P])
    table = pd.concat(parts, ignore_index=True)
    n_tests = queries.shape[0] * members.shape[0]
    table["q_value"] = adjust_listed(table["p_value"].to_numpy(), n_tests)
    table["n_genes"], table["set_size"] = n_query[table["row"]], set_size[table["column"]]
    table["fold"] = table["n_overlap"] * n_background / (table["n_genes"] * table["set_size"])
    return table, n_tests


def _named(
    table: pd.DataFrame,
    dimensions: NDArray[np.integer],
    names: list[str],
    queries: sparse.csr_matrix,
    members: sparse.csr_matrix,
    background: pd.Index,
) -> pd.DataFrame:
    """Replace numbers by names."""
    row, column = table["row"].to_numpy(), table["column"].to_numpy()
    shared = queries[row].multiply(members[column]).tocsr()
    pieces = np.split(background.to_numpy()[shared.indices], shared.indptr[1:-1])
    found = pd.DataFrame(
        {
            "dimension": dimensions[row],
            "rank": table.groupby("row").cumcount().to_numpy(dtype=np.int32) + 1,
            "gene_set": pd.Categorical.from_codes(column, categories=names),
        }
    )
    kept = ["n_overlap", "n_genes", "set_size", "fold", "p_value", "q_value"]
    return found.join(table[kept]).assign(genes=np.array([", ".join(sorted(piece)) for piece in pieces], dtype=object))
