"""What the page shows of perturbations: their profiles, guides, known pairs and strength."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.manifold import TSNE

from petri_scvi._constants import UNS_KEY
from petri_scvi.common import joined_columns
from petri_scvi.tl._embedding import MODALITY, Slot, finite_rows
from petri_scvi.tl._similarity import read_vectors, unit_rows
from petri_scvi.tl.profiles._aggregate import aggregate_guides, fold_guides, guide_profiles
from petri_scvi.tl.profiles._center_scale import fit_scaler
from petri_scvi.tl.profiles._whiten import fit_whitener
from petri_scvi.tl.scores._edge_recall import MIN_SCORE
from petri_scvi.tl.scores._edges import match_edges
from petri_scvi.tl.scores._guide_consistency import guide_consistency, why_not_testable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl.scores._edges import EdgeTable

    from ._cells import Cells
    from ._payload import Payload

MAX_HEAT_MAP = 600
"""A heat map of more perturbations is not drawn: a row would have less than a pixel."""
MIN_PLACED, N_MOVES = 6, 60
STEPS = 127
"""Levels of a number of a profile on either side of 0; cosines keep two digits."""


def read_profiles(
    cells: Cells,
    key: str,
    perturbation_key: str,
    guide_key: str | None,
    replicate_key: str | None,
    controls: Sequence[str],
) -> tuple[AnnData, list[str]]:
    """Profiles of guides by the protocol of :func:`petri_scvi.tl.score_screen`, and what was to be warned of.

    Without guides, each perturbation is its own guide.
    """
    labels = cells.labels(perturbation_key)
    guides = labels if guide_key is None else cells.labels(guide_key)
    kinds = np.array(cells.kinds, dtype=object)[cells.kind]
    kinds[(labels.isna() | guides.isna()).to_numpy() | (kinds == "")] = None
    table = pd.DataFrame({MODALITY: kinds, "perturbation": labels.to_numpy(), "guide": guides.to_numpy()})
    pairs = table[["perturbation", "guide"]].dropna().drop_duplicates()
    if pairs["guide"].duplicated().any():  # numbered anew for each perturbation
        is_named = (table["guide"].notna() & table["perturbation"].notna()).to_numpy()
        names = table["guide"].to_numpy(dtype=object, copy=True)  # columns of text may be read-only
        names[is_named] = joined_columns(table.loc[is_named, ["perturbation", "guide"]], " | ")
        table["guide"] = names
    table["replicate"] = "all"
    if replicate_key is not None and replicate_key in cells.obs_names():
        table["replicate"] = cells.labels(replicate_key).to_numpy()
    slot = Slot(cells.data, key, cells.data.obsm[key], table)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        notes = []
        try:
            scaler = fit_scaler(slot, ["replicate"], "perturbation", controls)
        except ValueError as error:  # a replicate without controls, or cells without a replicate
            notes.append(f"Profiles are scaled on all controls together, not within {replicate_key}: {error}")
            slot = Slot(cells.data, key, cells.data.obsm[key], table.assign(replicate="all"))
            scaler = fit_scaler(slot, ["replicate"], "perturbation", controls)
        whitener = fit_whitener(slot, slot.cells[MODALITY].notna().to_numpy(), scaler)
        fold = fold_guides(slot, "guide", "perturbation", scaler, whitener)
        profiles = guide_profiles(fold, warns_one_sided=False)
    return profiles, notes + [str(warning.message) for warning in caught]


def describe_profiles(
    payload: Payload,
    guides: AnnData,
    kinds: Sequence[str],
    controls: Sequence[str],
    edges: EdgeTable | None,
    efficacy: pd.DataFrame | None,
    seed: int,
) -> dict[str, Any]:
    """What the page has to know about perturbations and guides; vectors and coordinates go into the payload."""
    genes = aggregate_guides(guides)
    names = genes.obs_names.astype(str).tolist()
    layers = [kind for kind in kinds if kind in genes.layers]
    spaces = [(None, "fused" if layers else str(kinds[0])), *((layer, layer) for layer in layers)]
    described = [_space(payload, name, read_vectors(genes, layer), names, controls) for layer, name in spaces]
    fused = unit_rows(read_vectors(genes))
    is_placed = finite_rows(fused)
    places = np.zeros((len(names), 2))
    places[is_placed] = _places(fused[is_placed], seed)
    low, high = places.min(axis=0), places.max(axis=0)
    places = _apart((places - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-9))
    counts = {kind: genes.obs[f"n_cells_{kind}"] for kind in kinds if f"n_cells_{kind}" in genes.obs}
    return {
        "names": names,
        "spaces": described,
        "xy": payload.array(places.astype(np.float32).ravel()),
        "n_cells": {kind: n.astype(int).tolist() for kind, n in counts.items()} or {kinds[0]: genes.obs["n_cells"]},
        "edges": _edges(edges, names, controls),
        "consistency": _consistency(guides, controls, seed),
        "guides": _guides(guides, names, spaces, efficacy),
        "has_guides": bool((genes.obs["n_guides"] > 1).any()),
    }


def _places(unit: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """t-SNE of a few hundred directions, which takes less time than a UMAP; their first two dimensions if too few."""
    if len(unit) < MIN_PLACED or unit.shape[1] < 2:
        padded = np.zeros((len(unit), 2))
        padded[:, : min(2, unit.shape[1])] = unit[:, :2]
        return padded
    tsne = TSNE(metric="cosine", perplexity=min(15.0, (len(unit) - 1) / 3), init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(unit), dtype=np.float64)


def _apart(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move points that lie on each other apart, so that each can be clicked and named; within -1 and 1."""
    n = len(places)
    if not 1 < n <= MAX_HEAT_MAP:
        return places
    least = 1.1 / np.sqrt(n)
    for _ in range(N_MOVES):
        step = places[:, None] - places  # (n, n, 2)
        distance = np.linalg.norm(step, axis=2)
        push = np.clip(least - distance, 0, None) / (2 * np.maximum(distance, 1e-9))
        np.fill_diagonal(push, 0)
        places = places + 0.5 * (push[..., None] * step).sum(axis=1)
    return places / max(float(np.abs(places).max()), 1.0)


def _space(
    payload: Payload, name: str, vectors: NDArray[np.float64], names: Sequence[str], controls: Sequence[str]
) -> dict[str, Any]:
    """Directions of the profiles as one byte per number, all 0 where there is none, and their clustered order."""
    unit = unit_rows(vectors)
    is_known = finite_rows(unit)
    unit = np.where(is_known[:, None], unit, 0.0)
    largest = np.abs(unit).max(axis=1, keepdims=True)
    codes = np.round(STEPS * unit / np.where(largest > 0, largest, 1)).astype(np.int8)
    rows = np.flatnonzero(is_known & ~np.isin(names, list(controls)))
    order = rows
    if 2 < len(rows) <= MAX_HEAT_MAP:
        distance = np.clip(1 - unit[rows] @ unit[rows].T, 0, 2)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
        order = rows[leaves_list(tree)]
    return {"name": name, "vectors": payload.array(codes), "d": unit.shape[1], "order": order.tolist()}


def _edges(edges: EdgeTable | None, names: Sequence[str], controls: Sequence[str]) -> list[list[int]] | None:
    """Known pairs, as positions of perturbations."""
    if edges is None:
        return None
    rows = np.flatnonzero(~np.isin(names, list(controls)))
    return rows[match_edges(edges, np.array(names)[rows], MIN_SCORE).positive].tolist()


def _consistency(guides: AnnData, controls: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """Guide consistency of each perturbation that has several guides, if it can be tested."""
    targets = guides.obs["target_gene"].astype(str)
    scored = targets[~targets.isin(controls)].to_numpy(dtype=np.str_)
    if len(scored) == 0 or why_not_testable(scored) is not None:
        return {}
    table = guides.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of perturbations with one guide: the page says so
        guide_consistency(table, control=sorted(set(controls) & set(targets)) or None, seed=seed)
    found = table.uns[UNS_KEY]["guide_consistency"]["table"].set_index("target_gene")
    kept = found[["similarity", "null_95", "q_value"]]
    return {str(name): row for name, row in kept.to_dict(orient="index").items()}


def _guides(
    guides: AnnData, names: Sequence[str], spaces: Sequence[tuple[str | None, str]], efficacy: pd.DataFrame | None
) -> list[dict[str, Any]]:
    """Each guide: cells, similarity to the mean of the other guides, and efficacy if that was inferred."""
    targets = guides.obs["target_gene"].astype(str).to_numpy()
    place = pd.Index(names).get_indexer(targets)
    known = pd.DataFrame() if efficacy is None else efficacy.set_index(efficacy["guide"].astype(str))
    cosines = {name: _to_others(unit_rows(read_vectors(guides, layer)), place) for layer, name in spaces}
    described = []
    for i, guide in enumerate(guides.obs_names.astype(str)):
        row: dict[str, Any] = {"name": guide, "of": place[i], "n": guides.obs["n_cells"].iloc[i]}
        row["cosine"] = {name: values[i] for name, values in cosines.items()}
        if guide in known.index:
            of_guide = known.loc[guide]
            row |= {
                column: of_guide[column]
                for column in ("efficacy", "efficacy_low", "efficacy_high", "p_dead")
                if column in known
            }
        described.append(row)
    return described


def _to_others(unit: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Cosine of each row with the mean of the other rows of its group, NaN if there are none."""
    is_known = finite_rows(unit)
    unit = np.where(is_known[:, None], unit, 0.0)
    sums = np.zeros((int(group.max()) + 1, unit.shape[1]))
    np.add.at(sums, group, unit)
    others = sums[group] - unit
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (unit * others).sum(axis=1) / np.linalg.norm(others, axis=1)
    return np.where(is_known & (np.linalg.norm(others, axis=1) > 1e-9), found, np.nan)


def read_strength(data: AnnData | MuData, key: str) -> dict[str, dict[str, list[float]]]:
    """Energy distance and q-value of each perturbation in each modality, if they were tested."""
    results = data.uns.get(UNS_KEY, {})
    for name in (f"{key}_scaled", key, f"{key}_scaled_whitened"):
        result = results.get(f"perturbation_strength_{name}")
        if result is not None:
            table = result["table"]
            columns = ("modality", "perturbation", "energy_distance", "q_value")
            rows = zip(*(table[column] for column in columns), strict=True)
            found: dict[str, dict[str, list[float]]] = {}
            for modality, perturbation, distance, q_value in rows:
                found.setdefault(str(modality), {})[str(perturbation)] = [float(distance), float(q_value)]
            return found
    return {}


def read_efficacy(data: AnnData | MuData, guide_model: AnnData | None) -> pd.DataFrame | None:
    """Table of guides that :func:`petri_scvi.tl.guide_model` wrote."""
    results = (data if guide_model is None else guide_model).uns.get(UNS_KEY, {})
    if guide_model is not None and "guide_model" not in results:
        raise KeyError(
            f"guide_model.uns[{UNS_KEY!r}] has no 'guide_model'; it has {sorted(results)}. Pass what "
            "petri_scvi.tl.guide_model returned."
        )
    found = results.get("guide_model")
    return None if found is None else found["guides"]
