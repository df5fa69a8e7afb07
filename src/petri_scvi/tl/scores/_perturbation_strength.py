"""Strength of perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import track
from scipy.spatial.distance import cdist

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL
from petri_scvi.common import in_markup, joined_columns
from petri_scvi.common._labels import column_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_alpha
from petri_scvi.tl._embedding import MODALITY, control_names, find_slots, finite_rows, subsample
from petri_scvi.tl._results import adjust, data_to_change, one_or_several, write_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._embedding import Slot

MIN_CELLS = 2
FLAT = 1e-6
"""A deviation of less than this share of the dimension's mean counts as zero."""


def perturbation_strength(
    data: AnnData | MuData,
    key: str = "X_petri_scaled",
    *,
    perturbation_key: str = "perturbation",
    replicate_key: str | Sequence[str] | None = "replicate",
    control: Labels = CONTROL,
    n_permutations: int = 999,
    max_cells: int = 300,
    alpha: float = 0.05,
    seed: int = 0,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compute each perturbation's energy distance :cite:p:`Szekely2013` to the controls, with a permutation p-value.

    Parameters
    ----------
    data
        Cells. In a MuData each modality is tested on its own.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`. Scaling it
        beforehand does not change the result.
    perturbation_key
        ``obs`` column of what to test: the perturbation, or the guide.
    replicate_key
        ``obs`` column of the replicate, or several that define it together. Labels are exchanged within replicates
        only, and only replicates that have cells of both the perturbation and the controls are compared, so that
        replicates that differ do not look like an effect. ``None`` exchanges freely.
    control
        Value of ``perturbation_key`` that marks controls, or several.
    n_permutations
        Exchanges of labels; the smallest p-value is ``1 / (n_permutations + 1)``.
    max_cells
        Compare at most this many cells of the perturbation, and as many controls.
    alpha
        Perturbations with a Benjamini-Hochberg q-value below this are active; corrected within each modality.
    seed
        Seed of the choice of cells and of the permutations.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["perturbation_strength_" + key]``: ``table``, one row per modality
    and perturbation, strongest first: ``modality``, ``perturbation``, ``n_cells``, ``n_cells_compared``,
    ``n_controls_compared``, ``energy_distance`` (in standard deviations of a replicate's cells, 0 on average without an
    effect), ``p_value``, ``q_value``, ``is_active``; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        A label of ``control`` does not occur, a modality has no controls, or ``n_permutations``, ``max_cells`` or
        ``alpha`` is out of range.

    Warns
    -----
    UserWarning
        Perturbations have fewer than two cells or share no replicate with controls: their row has NaN. Or cells are
        left out, because their replicate has no control or is not named, or because they have NaN or infinite values.

    Notes
    -----
    ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` with Euclidean distances and means over distinct cells, used as for
    transcriptomes in :cite:t:`Peidli2024`, but with exchanges within replicates. First each dimension
    is standardised within each replicate, by mean and standard deviation of all its cells that have a perturbation.
    After scaling on the controls alone, these are closer to the origin than cells without an effect, and with few
    controls and many dimensions p-values are far too small.
    """
    data = data_to_change(data, copy)
    check_sizes(n_permutations=n_permutations, max_cells=max_cells)
    check_alpha(alpha)
    replicate_keys = [] if replicate_key is None else column_list(replicate_key, "replicate_key")
    tables = []
    slots = find_slots(data, key, [perturbation_key, *replicate_keys])
    controls = control_names(slots, perturbation_key, control)
    for slot in slots:
        for modality in pd.unique(slot.cells[MODALITY].dropna()):
            tests = _Tests(slot, str(modality), perturbation_key, replicate_keys, controls)
            table = tests.run(n_permutations, max_cells, np.random.default_rng(seed), progress)
            table["q_value"] = adjust(table["p_value"].to_numpy(dtype=np.float64))
            tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    table["is_active"] = table["q_value"] < alpha
    n_untested = int(table["p_value"].isna().sum())
    if n_untested:
        warn(
            f"{n_untested} of {len(table)} perturbations have fewer than {MIN_CELLS} cells, or fewer than {MIN_CELLS} "
            "controls in the same replicates; they are not tested"
        )
    parameters: dict[str, Any] = {
        "key": key,
        "perturbation_key": perturbation_key,
        "replicate_key": None if replicate_key is None else one_or_several(replicate_keys),
        "control": one_or_several(controls),
    }
    parameters |= {"n_permutations": n_permutations, "max_cells": max_cells, "alpha": alpha, "seed": seed}
    write_result(data, f"perturbation_strength_{key}", {"table": table}, parameters)
    return data if copy else None


class _Tests:
    """The tests of one modality."""

    def __init__(
        self,
        slot: Slot,
        modality: str,
        perturbation_key: str,
        replicate_keys: Sequence[str],
        controls: Sequence[str],
    ) -> None:
        cells = slot.cells
        is_here = ((cells[MODALITY] == modality) & cells[perturbation_key].notna()).to_numpy()
        self.slot, self.modality = slot, modality
        labels = cells[perturbation_key].where(is_here)
        is_control = labels.isin(controls)
        self.controls = np.flatnonzero(is_control.to_numpy())
        if len(self.controls) == 0:
            raise ValueError(
                f"no cell of modality {modality!r} has an obs[{perturbation_key!r}] of {list(controls)}; name the "
                "labels that mark its controls, too, with control=..."
            )
        treated = labels[labels.notna() & ~is_control]
        self.rows_of = {
            str(name): treated.index[places].to_numpy(dtype=np.intp)
            for name, places in treated.groupby(treated).indices.items()
        }
        replicate = joined_columns(cells[list(replicate_keys)], " | ") if replicate_keys else np.zeros(len(cells))
        self.stratum = pd.factorize(replicate)[0]  # -1 where it is not named
        self.center, self.scale = _replicate_statistics(slot, np.where(is_here, self.stratum, -1))
        self.is_comparable = np.isin(self.stratum, self.stratum[self.controls]) & (self.stratum >= 0)

    def run(self, n_permutations: int, max_cells: int, rng: np.random.Generator, progress: bool) -> pd.DataFrame:
        """One row per perturbation."""
        records = []
        is_bad = np.zeros(len(self.stratum), dtype=bool)
        self._warn_not_comparable()
        names = track(self.rows_of, in_markup(f"Strength, {self.modality}"), disable=not progress)
        for name in names:
            rows = self.rows_of[name]
            rows = subsample(rows[self.is_comparable[rows]], max_cells, rng)
            shared = self.controls[np.isin(self.stratum[self.controls], self.stratum[rows])]
            controls = subsample(shared, max_cells, rng)
            both = np.concatenate([rows, controls])
            vectors = self.slot.take(both).astype(np.float64)
            is_finite = finite_rows(vectors)
            vectors = (vectors - self.center[self.stratum[both]]) / self.scale[self.stratum[both]]
            is_bad[both[~is_finite]] = True  # controls are compared with many perturbations but counted once
            is_treated = (np.arange(len(both)) < len(rows))[is_finite]
            n, m = int(is_treated.sum()), int((~is_treated).sum())
            distance = p_value = np.nan
            if min(n, m) >= MIN_CELLS:
                strata = self.stratum[both][is_finite]
                distance, p_value = energy_test(vectors[is_finite], is_treated, strata, n_permutations, rng)
            records.append((self.modality, name, len(self.rows_of[name]), n, m, distance, p_value))
        if is_bad.any():
            warn(f"{int(is_bad.sum())} cells of modality {self.modality!r} are NaN or infinite; they are left out")
        columns = ["modality", "perturbation", "n_cells", "n_cells_compared", "n_controls_compared"]
        table = pd.DataFrame(records, columns=[*columns, "energy_distance", "p_value"])
        return table.sort_values("energy_distance", ascending=False, ignore_index=True)

    def _warn_not_comparable(self) -> None:
        n_left_out = sum(int((~self.is_comparable[rows]).sum()) for rows in self.rows_of.values())
        if n_left_out:
            warn(
                f"{n_left_out} cells of modality {self.modality!r} are in replicates without controls, or in none; "
                "they are left out. Pass a coarser replicate_key, for example 'batch', to keep them."
            )


def _replicate_statistics(slot: Slot, stratum: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each dimension within each replicate, from two passes; -1 is no replicate."""
    n_strata = int(stratum.max(initial=0)) + 1  # at least one, so that -1 is a row
    total, counts, _ = slot.sum_groups(stratum, n_strata)
    n_cells = np.maximum(counts, 1)[:, None]
    center = total / n_cells

    def square_deviation(chunk: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        return np.square(chunk - center[stratum[rows]])

    squares, _, _ = slot.sum_groups(stratum, n_strata, square_deviation)
    scale = np.sqrt(squares / n_cells)
    # A dimension that does not vary is uninformative, and dividing by its deviation would amplify rounding errors.
    is_flat = scale <= FLAT * np.abs(center)
    scale[is_flat] = np.inf
    return center, scale


def energy_test(
    vectors: NDArray[np.floating],
    is_treated: NDArray[np.bool_],
    strata: NDArray[np.intp],
    n_permutations: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Energy distance between two groups of rows, and its p-value when labels are exchanged within strata."""
    distances = cdist(vectors, vectors)
    labels = np.empty((len(vectors), n_permutations + 1))
    labels[:, 0] = is_treated
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        keys = rng.random((len(rows), n_permutations)).argsort(axis=0)
        labels[rows, 1:] = is_treated[rows][keys]
    to_treated = distances @ labels  # (n, n_permutations + 1)
    within = np.einsum("ij,ij->j", labels, to_treated)
    between = to_treated.sum(axis=0) - within
    among_controls = distances.sum() - within - 2 * between
    n, m = int(is_treated.sum()), int((~is_treated).sum())
    energy = 2 * between / (n * m) - within / (n * (n - 1)) - among_controls / (m * (m - 1))
    tie = 1e-12 * distances.max()
    return float(energy[0]), float((1 + np.sum(energy[1:] >= energy[0] - tie)) / (1 + n_permutations))
