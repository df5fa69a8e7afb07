"""Activity of a dimension by modality, perturbation and cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes
from petri_scvi._constants import ALL, CONTEXT_KEY, IMAGE, SAE_KEY
from petri_scvi.common._labels import read_labels
from petri_scvi.tl._results import data_to_change, write_result

from ._activations import check_any_cell, find_activations

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._activations import Activations


def dimension_activity(
    data: AnnData | MuData,
    key: str = SAE_KEY,
    *,
    perturbation_key: str = CONTEXT_KEY,
    modality: str | None = None,
    n_examples: int = 8,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Average each dimension of an embedding per perturbation, and find the cells that activate it most and least.

    Parameters
    ----------
    data
        Cells.
    key
        ``obsm`` slot of the activations, sparse or dense, shape ``(n_cells, D)``; of a sparse autoencoder, or any
        embedding.
    perturbation_key
        ``obs`` column to average over.
    modality
        Modality of a MuData from which examples are taken; by default ``"image"``, or the first if there are no images.
    n_examples
        Number of example cells at either end.
    seed
        Seed of the choice among cells of equal activation, of which there are many at the lower end.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_activity_" + key]``: ``perturbations``, the names in
    order; ``mean``, per modality an array of shape ``(n_perturbations, D)`` with the mean activation, NaN without
    cells; ``overall``, per modality that of all cells, shape ``(D,)``; ``active``, per modality the share of cells with
    a positive activation, shape ``(D,)``; ``most`` and ``least``, the names of example cells, shape ``(D,
    n_examples)``, the most extreme first and empty where there are no more cells that differ from the other end;
    ``n_dimensions``; ``parameters``.

    Raises
    ------
    KeyError
        A slot, column or modality is missing.
    ValueError
        A cell has been measured in two modalities, no cell has a perturbation, or all activations of the modality with
        the examples are NaN or infinite.
    """
    data = data_to_change(data, copy)
    check_sizes(n_examples=n_examples)
    every = find_activations(data, key)
    labels = {part.modality: _labels(part, perturbation_key) for part in every}
    names = sorted({name for values in labels.values() for name in values.dropna()})
    source = _source(every, modality, key)
    check_any_cell(source, key)
    if not names:
        raise ValueError(f"obs[{perturbation_key!r}] is missing for all cells; name the column to average over")
    result: dict[str, Any] = {"perturbations": np.array(names, dtype=np.str_), "mean": {}, "overall": {}, "active": {}}
    for part in every:
        codes = pd.Categorical(labels[part.modality], categories=names).codes.astype(np.intp)
        n_cells = np.bincount(codes[codes >= 0], minlength=len(names))[:, None]
        with np.errstate(invalid="ignore"):
            result["mean"][part.modality] = (part.sums(codes, len(names)) / n_cells).astype(np.float32)
            result["overall"][part.modality] = part.sums(np.zeros_like(codes), 1)[0].astype(np.float32) / len(codes)
            result["active"][part.modality] = (part.n_active() / len(codes)).astype(np.float32)
    result["most"], result["least"] = _examples(source, n_examples, np.random.default_rng(seed))
    result["n_dimensions"] = source.n_dimensions
    parameters: dict[str, Any] = {"key": key, "perturbation_key": perturbation_key, "modality": source.modality}
    write_result(data, f"dimension_activity_{key}", result, parameters | {"n_examples": n_examples, "seed": seed})
    return data if copy else None


def _source(every: list[Activations], modality: str | None, key: str) -> Activations:
    """Activations to take examples from."""
    found = {part.modality: part for part in every}
    if modality is None or ALL in found:  # an AnnData does not name its modality
        return found.get(IMAGE, every[0])
    if modality not in found:
        raise KeyError(
            f"modality={modality!r} has no activations in obsm[{key!r}]; {list(found)} have. Name one of these."
        )
    return found[modality]


def _labels(part: Activations, perturbation_key: str) -> pd.Series:
    where = "adata.obs" if part.modality == ALL else f"mdata[{part.modality!r}].obs"
    return read_labels(part.adata.obs, perturbation_key, where, argument="perturbation_key").iloc[part.rows]


def _examples(
    source: Activations, n_examples: int, rng: np.random.Generator
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Names of the cells at both ends of each dimension."""
    n_cells = len(source.rows)
    n = min(n_examples, n_cells)
    # In random order, so that cells of equal activation do not all come from one plate.
    order = rng.permutation(n_cells)
    cells = source.adata.obs_names.to_numpy(dtype=np.str_)[source.rows[order]]
    ends = np.full((2, source.n_dimensions, n_examples), "", dtype=cells.dtype)
    for dimensions, block in source.blocks(np.arange(source.n_dimensions), order):
        low, high = block.min(axis=0), block.max(axis=0)
        for end, sign in enumerate((-1, 1)):
            place = np.argpartition(sign * block, n - 1, axis=0)[:n]  # (n, d)
            values = np.take_along_axis(block, place, axis=0)
            inner = np.argsort(sign * values, axis=0, kind="stable")
            place, values = np.take_along_axis(place, inner, axis=0), np.take_along_axis(values, inner, axis=0)
            is_other_end = values == (low if end == 0 else high)
            ends[end, dimensions, :n] = np.where(is_other_end, "", cells[place]).T
    return ends[0], ends[1]
