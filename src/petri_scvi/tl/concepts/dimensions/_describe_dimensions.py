"""Summarise the results about each dimension in one searchable table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes
from petri_scvi._constants import SAE_KEY, UNS_KEY
from petri_scvi.tl._arguments import check_alpha

from ._activations import find_activations, is_within

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True)
class _Kind:
    """One kind of result: its column, and where a tool wrote it."""

    column: str
    result: str
    name: str
    value: str


KINDS = (
    _Kind("image_features", "dimension_image_features", "feature", "correlation"),
    _Kind("gene_sets", "dimension_gene_sets", "gene_set", "fold"),
    _Kind("genes", "dimension_genes", "gene", "correlation"),
)


def describe_dimensions(
    data: AnnData | MuData,
    key: str = SAE_KEY,
    *,
    keyword: str | None = None,
    n_top: int = 3,
    alpha: float = 0.05,
    min_activity: float = 0.1,
    max_activity: float = 0.9,
) -> pd.DataFrame:
    """Summarise all dimensions of an embedding in one searchable table: activity, image features, gene sets, genes.

    Parameters
    ----------
    data
        Cells, after any of :func:`petri_scvi.tl.dimension_image_features`, :func:`petri_scvi.tl.dimension_gene_sets`
        and :func:`petri_scvi.tl.dimension_genes`.
    key
        As in these calls.
    keyword
        Keep dimensions with a significant image feature, gene set or gene whose name contains all these words, for
        example ``"lipid"`` or ``"cell cycle"``. Case is ignored, and spaces, underscores and hyphens are
        interchangeable.
    n_top
        Findings to show per entry of the table; the keyword is searched in all findings that the tools listed.
    alpha
        Findings with a q-value of at most this are significant.
    min_activity, max_activity
        As in :func:`petri_scvi.tl.multimodal_dimensions`.

    Returns
    -------
    The table, one row per dimension, which is its index. ``active`` and one ``active_<modality>`` per modality: the
    share of cells with a positive activation. ``is_multimodal``, with several modalities and activations of at least 0:
    whether this is in the range in each. For each tool that was called: ``n_image_features``, ``n_gene_sets`` and
    ``n_genes``, the number of significant findings it listed, and ``image_features``, ``gene_sets`` and ``genes``, the
    first of them, the strongest first, with their correlation or, of gene sets, the fold enrichment. With a keyword
    also ``matches``, the names found, and the dimensions with most of them first. Nothing is written.

    Raises
    ------
    KeyError
        There is no such slot, or, with a keyword, none of the tools has been called.
    ValueError
        A number is out of range, or the keyword has no word.
    """
    check_alpha(alpha)
    check_sizes(n_top=n_top)
    words = None if keyword is None else _words(keyword)
    if words == []:
        raise ValueError(f"keyword={keyword!r} has no word to search for; pass for example keyword='lipid', or None")
    table = _activity(data, key, min_activity, max_activity)
    results = data.uns.get(UNS_KEY, {})
    called = [kind for kind in KINDS if f"{kind.result}_{key}" in results]
    if words is not None and not called:
        tools = ", ".join(f"petri_scvi.tl.{kind.result}" for kind in KINDS)
        raise KeyError(f"there are no results about the dimensions of {key!r} to search. Call one of {tools}.")
    matches: list[pd.DataFrame] = []
    for kind in called:
        found = results[f"{kind.result}_{key}"]["table"]
        found = found[(found["q_value"] <= alpha).to_numpy()]
        table[f"n_{kind.column}"] = found.groupby("dimension").size().reindex(table.index, fill_value=0)
        table[kind.column] = _first(found, kind, n_top).reindex(table.index, fill_value="")
        if words is not None:
            names = pd.Categorical(found[kind.name].astype(str))
            is_hit = np.array([all(word in _plain(name) for word in words) for name in names.categories], dtype=bool)
            hits = is_hit[names.codes] if len(is_hit) else np.zeros(len(found), dtype=bool)
            matches.append(pd.DataFrame({"dimension": found["dimension"][hits], "name": np.asarray(names)[hits]}))
    if words is None:
        return table
    return _matching(table, pd.concat(matches, ignore_index=True))


def _activity(data: AnnData | MuData, key: str, min_activity: float, max_activity: float) -> pd.DataFrame:
    """Share of active cells, over all cells and per modality."""
    parts = find_activations(data, key)
    n_active = np.stack([part.n_active() for part in parts])  # (n_modalities, D)
    n_cells = np.array([len(part.rows) for part in parts])
    share = pd.DataFrame({part.modality: n / len(part.rows) for part, n in zip(parts, n_active, strict=True)})
    is_multimodal = is_within(share, min_activity, max_activity).all(axis=1)
    table = pd.DataFrame({"active": n_active.sum(axis=0) / n_cells.sum()})
    table.index.name = "dimension"
    if len(parts) > 1:
        table[[f"active_{name}" for name in share]] = share.to_numpy()
        if not any((part.matrix < 0).sum() for part in parts):
            table["is_multimodal"] = is_multimodal.to_numpy()
    return table


def _first(found: pd.DataFrame, kind: _Kind, n_top: int) -> pd.Series:
    """The strongest results of each dimension, in the order of the tool, as text."""
    top = found[(found.groupby("dimension").cumcount() < n_top).to_numpy()]
    sign = "+" if kind.value == "correlation" else ""
    unit = "" if kind.value == "correlation" else "x"
    decimals = 2 if kind.value == "correlation" else 1
    text = [
        f"{name} ({value:{sign}.{decimals}f}{unit})"
        for name, value in zip(top[kind.name].astype(str), top[kind.value], strict=True)
    ]
    return pd.Series(text, index=top["dimension"], dtype=object).groupby(level=0).agg("; ".join)


def _matching(table: pd.DataFrame, matches: pd.DataFrame) -> pd.DataFrame:
    names = matches.groupby("dimension")["name"]
    order = names.size().sort_values(ascending=False, kind="stable").index
    return table.loc[order].assign(matches=names.agg("; ".join))


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-]+", " ", text.lower())


def _words(keyword: str) -> list[str]:
    return _plain(keyword).split()
