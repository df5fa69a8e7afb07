"""Test whether perturbations change a dimension of a sparse code in the same way in two modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes, choose_modality_pair
from petri_scvi._constants import SAE_KEY
from petri_scvi.tl._arguments import check_alpha
from petri_scvi.tl._embedding import MODALITY
from petri_scvi.tl._results import adjust, data_to_change, null_p_values, write_result

from ._activations import activity, find_codes, group_sums, is_within, named_slots, sparse_chunks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

RESULT = "dimension_agreement"
MIN_CONTEXTS = 5
"""Fewer contexts have too few permutations for any agreement to be significant."""


def dimension_agreement(
    data: AnnData | MuData,
    keys: str | Sequence[str] | Mapping[str, str] = SAE_KEY,
    *,
    obs_key: str = "perturbation",
    modalities: Sequence[str] | None = None,
    min_activity: float = 0.1,
    max_activity: float = 0.9,
    modality_key: str | None = None,
    min_cells: int = 10,
    alpha: float = 0.05,
    n_permutations: int = 10_000,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Test whether perturbations change each multimodal dimension in the same way in both modalities.

    A dimension is multimodal (:func:`petri_scvi.tl.multimodal_dimensions`) if cells of both modalities activate it,
    which does not imply that it means the same in both. Here its mean activation per perturbation in one modality is
    correlated with that in the other. There are two tests: for each dimension, whether the correlation is larger than
    with shuffled perturbations; and for all dimensions together, whether it is larger within dimensions than between
    different ones. The second test is stricter: strong perturbations may change every dimension in every modality, and
    then different dimensions agree just as well.

    Parameters
    ----------
    data
        Cells of at least two modalities.
    keys
        As in :func:`petri_scvi.tl.multimodal_dimensions`: one slot of activations, several, or a dictionary from the
        name of a model to its slot.
    obs_key
        ``obs`` column of the perturbation, or of another label that both modalities have.
    modalities
        The two modalities to compare; the image and the RNA modality by default, or the first two.
    min_activity, max_activity, modality_key
        As in :func:`petri_scvi.tl.multimodal_dimensions`.
    min_cells
        Perturbations with fewer cells in either modality are left out.
    alpha
        Dimensions with a q-value below this count as agreeing.
    n_permutations
        Shuffles for each of the two tests; the smallest p-value is ``1 / (n_permutations + 1)``.
    seed
        Seed of the shuffles.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["dimension_agreement"]``.

    - ``table``: one row per model and multimodal dimension: ``model``, ``dimension``, ``correlation`` over
      perturbations (NaN if a modality does not vary), ``p_value`` (one-sided, perturbations shuffled), ``q_value``
      (Benjamini-Hochberg over the dimensions of the model) and ``agrees`` (``q_value < alpha``).
    - ``summary``: one row per model: ``model``, ``key``, ``n_multimodal``, ``n_agreeing``, ``mean_correlation``,
      ``mean_between`` (of one dimension in one modality with another in the other) and ``p_value`` (one-sided,
      dimensions of one modality shuffled; NaN with fewer than two).
    - ``perturbations``: names of those that were compared.
    - ``parameters``.

    Raises
    ------
    KeyError
        No autoencoder has been fitted, or a column is missing.
    ValueError
        There are fewer than two modalities, fewer than five perturbations have ``min_cells`` cells in both, or a number
        is out of range.

    Warns
    -----
    UserWarning
        Activations of some cells are NaN or infinite; these cells are left out.
    """
    data = data_to_change(data, copy)
    check_sizes(min_cells=min_cells, n_permutations=n_permutations)
    check_alpha(alpha)
    slot_of = named_slots(keys)
    tables, rows = [], []
    names: list[str] = []
    for model, key in slot_of.items():
        slots = find_codes(data, key, [obs_key], modality_key=modality_key)
        shares, _ = activity(slots)
        pair = choose_modality_pair(list(shares), modalities)
        dimensions = np.flatnonzero(is_within(shares, min_activity, max_activity).all(axis=1))
        names, means = _mean_activations(slots, dimensions, obs_key, pair, min_cells)
        rng = np.random.default_rng(seed)
        across, up = (_unit_columns(of_modality) for of_modality in means)
        correlation, p_values = _agreement(across, up, n_permutations, rng)
        q_values = adjust(p_values)
        table = pd.DataFrame({"model": model, "dimension": dimensions, "correlation": correlation})
        tables.append(table.assign(p_value=p_values, q_value=q_values, agrees=q_values < alpha))
        row: dict[str, Any] = {"model": model, "key": key, "n_multimodal": len(dimensions)}
        rows.append(row | {"n_agreeing": int((q_values < alpha).sum())} | _within(across.T @ up, n_permutations, rng))
    result = {"table": pd.concat(tables, ignore_index=True), "summary": pd.DataFrame(rows)}
    parameters: dict[str, Any] = {"models": list(slot_of), "keys": list(slot_of.values()), "modalities": list(pair)}
    parameters |= {"obs_key": obs_key, "min_activity": min_activity, "max_activity": max_activity, "seed": seed}
    parameters |= {"modality_key": modality_key, "min_cells": min_cells, "alpha": alpha}
    parameters |= {"n_permutations": n_permutations}
    write_result(data, RESULT, result | {"perturbations": np.asarray(names)}, parameters)
    return data if copy else None


def _mean_activations(
    slots: Sequence[Slot], dimensions: NDArray[np.intp], obs_key: str, pair: tuple[str, str], min_cells: int
) -> tuple[list[str], list[NDArray[np.float64]]]:
    """Perturbations with enough cells in both modalities; and per modality their means, perturbations x dimensions."""
    labels = [slot.cells[obs_key] for slot in slots]
    every = sorted({name for of_slot in labels for name in of_slot.dropna()})
    sums = {name: np.zeros((len(every), len(dimensions))) for name in pair}
    n_cells = {name: np.zeros(len(every), dtype=np.intp) for name in pair}
    for slot, of_slot in zip(slots, labels, strict=True):
        group_of = pd.Categorical(of_slot, categories=every).codes.astype(np.intp)
        modality = slot.cells[MODALITY].to_numpy()
        for rows, chunk in sparse_chunks(slot):
            codes = chunk[:, dimensions]
            for name in pair:
                here = np.where(modality[rows] == name, group_of[rows], -1)
                sums[name] += group_sums(codes, here, len(every))
                n_cells[name] += np.bincount(here[here >= 0], minlength=len(every))
    is_enough = np.all([n_cells[name] >= min_cells for name in pair], axis=0)
    names = [name for name, enough in zip(every, is_enough, strict=True) if enough]
    if len(names) < MIN_CONTEXTS:
        raise ValueError(
            f"{len(names)} values of {obs_key!r} have min_cells={min_cells} cells in both {pair[0]!r} and {pair[1]!r}; "
            f"at least {MIN_CONTEXTS} are needed. Pass the column of the perturbation as obs_key, or smaller min_cells"
        )
    return names, [sums[name][is_enough] / n_cells[name][is_enough, None] for name in pair]


def _unit_columns(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns with mean 0 and length 1, whose products are correlations; NaN where nothing varies."""
    centered = means - means.mean(axis=0)
    length = np.linalg.norm(centered, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return centered / np.where(length > 1e-12 * np.abs(means).max(axis=0, initial=0), length, np.nan)


def _agreement(
    across: NDArray[np.float64], up: NDArray[np.float64], n_permutations: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation of each dimension, and its p-value."""
    found = (across * up).sum(axis=0)
    null = np.stack([(across * up[rng.permutation(len(up))]).sum(axis=0) for _ in range(n_permutations)])
    p_values = np.full(len(found), np.nan)
    for i in np.flatnonzero(~np.isnan(found)):
        p_values[i] = null_p_values(found[i : i + 1], null[:, i])[0]
    return found, p_values


def _within(correlations: NDArray[np.float64], n_permutations: int, rng: np.random.Generator) -> dict[str, float]:
    """Test whether correlations within dimensions are larger than those between different ones."""
    varies = ~np.isnan(np.diag(correlations))
    correlations = correlations[np.ix_(varies, varies)]
    n = len(correlations)
    if n == 0:
        return {"mean_correlation": np.nan, "mean_between": np.nan, "p_value": np.nan}
    within = float(np.diag(correlations).mean())
    if n == 1:
        return {"mean_correlation": within, "mean_between": np.nan, "p_value": np.nan}
    between = float((correlations.sum() - n * within) / (n * (n - 1)))
    null = np.array([correlations[np.arange(n), rng.permutation(n)].mean() for _ in range(n_permutations)])
    p_value = float(null_p_values(np.array([within]), null)[0])
    return {"mean_correlation": within, "mean_between": between, "p_value": p_value}
