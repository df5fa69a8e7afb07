"""Share of perturbations with consistent replicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL
from petri_scvi.common import joined_columns, split_labels
from petri_scvi.common._labels import column_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_alpha
from petri_scvi.tl._embedding import MODALITY, control_names, find_slots, finite_rows
from petri_scvi.tl._results import data_to_change, null_p_values, one_or_several, write_result
from petri_scvi.tl._similarity import Similarities, unit_rows
from petri_scvi.tl.profiles._aggregate import SEPARATOR, fold_guides

from ._guide_consistency import consistent_share, draw_distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._embedding import Slot


PROFILE = "\0profile"
"""Internal column next to those of the user; a name that no user column has."""


def replicate_consistency(
    data: AnnData | MuData,
    key: str = "X_petri_scaled_whitened",
    *,
    perturbation_key: str = "perturbation",
    replicate_key: str | Sequence[str] = "replicate",
    control: Labels | None = CONTROL,
    n_null: int = 20_000,
    alpha: float = 0.05,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compute the share of perturbations whose replicate profiles are more similar than expected by chance.

    Parameters
    ----------
    data
        Cells. In a MuData each modality is scored on its own.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    perturbation_key
        ``obs`` column of what to score: the perturbation, or the guide.
    replicate_key
        ``obs`` column of the replicate, or several that define it together.
    control
        Value of ``perturbation_key`` that marks controls, or several, or ``None`` if there are none. They are not
        scored.
    n_null
        Draws per set of replicates that some perturbation was seen in.
    alpha
        Perturbations with a Benjamini-Hochberg q-value below this are consistent.
    seed
        Seed of the draws.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["replicate_consistency_" + key]``: ``table``, one row per modality
    and perturbation that was seen in at least two replicates: ``modality``, ``perturbation``, ``n_replicates``,
    ``similarity`` (mean pairwise cosine), ``null_mean``, ``null_95`` (95 % quantile of the null), ``p_value``,
    ``q_value``, ``is_consistent``; ``score``, the share that is consistent, with its 95 % Wilson interval,
    ``score_low`` and ``score_high``; ``n_not_scored``; ``parameters``.

    Raises
    ------
    KeyError
        A slot or column is missing.
    ValueError
        No perturbation was seen in two replicates, no cell has a label of ``control``, or ``n_null`` or ``alpha`` is
        out of range.

    Warns
    -----
    UserWarning
        Perturbations cannot be scored: seen in one replicate only, or together with too few others to draw from. Or a
        modality has no controls.

    Notes
    -----
    A null draw takes, from the same replicates, profiles of different perturbations. What all profiles of one replicate
    have in common, such as a batch effect, therefore does not count as agreement.
    """
    data = data_to_change(data, copy)
    check_sizes(n_null=n_null)
    check_alpha(alpha)
    rng = np.random.default_rng(seed)
    tables, n_not_scored = [], 0
    replicate_keys = column_list(replicate_key, "replicate_key")
    slots = find_slots(data, key, [perturbation_key, *replicate_keys])
    controls = [] if control is None else control_names(slots, perturbation_key, control)
    for slot in slots:
        for modality in pd.unique(slot.cells[MODALITY].dropna()):
            cells = slot.cells.loc[slot.cells[MODALITY] == modality, [perturbation_key, *replicate_keys]].dropna()
            if cells[perturbation_key].isin(controls).all():  # or there are none
                warn(
                    f"no cell of modality {modality!r} but controls has both an obs[{perturbation_key!r}] and an "
                    f"obs[{replicate_keys}]; it is not scored"
                )
                continue
            table, n_missed = _score_modality(
                slot, str(modality), perturbation_key, replicate_keys, controls, n_null, rng
            )
            tables.append(table)
            n_not_scored += n_missed
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(table) == 0:
        raise ValueError(
            f"no perturbation was seen in two values of obs[{replicate_key!r}] together with enough others; name a "
            "column that splits the cells of each perturbation with replicate_key=..."
        )
    if n_not_scored:
        warn(f"{n_not_scored} perturbations have too few replicates, or too few others beside them, to be scored")
    parameters: dict[str, Any] = {"key": key, "perturbation_key": perturbation_key}
    parameters |= {"replicate_key": one_or_several(replicate_keys), "n_null": n_null, "alpha": alpha, "seed": seed}
    parameters |= {"control": None if control is None else one_or_several(controls)}
    result = consistent_share(table, alpha) | {"n_not_scored": n_not_scored}
    write_result(data, f"replicate_consistency_{key}", result, parameters)
    return data if copy else None


def _score_modality(
    slot: Slot,
    modality: str,
    perturbation_key: str,
    replicate_keys: Sequence[str],
    controls: Sequence[str],
    n_null: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, int]:
    """Similarity and p-value of each perturbation, and how many could not be scored."""
    similarities, place = _replicate_profiles(slot, modality, perturbation_key, replicate_keys, controls)
    is_seen = place.to_numpy() >= 0  # (n_perturbations, n_replicates)
    patterns, pattern_of = np.unique(is_seen, axis=0, return_inverse=True)
    parts = []
    for i, pattern in enumerate(patterns):
        replicates = np.flatnonzero(pattern)
        pools = [np.flatnonzero(is_seen[:, replicate]) for replicate in replicates]
        if len(replicates) < 2 or min(len(pool) for pool in pools) <= len(replicates):
            continue
        rows = np.flatnonzero(pattern_of.ravel() == i)
        drawn = draw_distinct(pools, n_null, rng)
        similarity = similarities.of_sets(place.to_numpy()[np.ix_(rows, replicates)])
        null = similarities.of_sets(place.to_numpy()[drawn, replicates])
        names = place.index[rows]
        part = pd.DataFrame({"modality": modality, "perturbation": names, "n_replicates": len(replicates)})
        part = part.assign(similarity=similarity, null_mean=null.mean(), null_95=np.quantile(null, 0.95))
        parts.append(part.assign(p_value=null_p_values(similarity, null)))
    if not parts:
        return pd.DataFrame(), len(place)
    table = pd.concat(parts).sort_values("perturbation", ignore_index=True)
    return table, len(place) - len(table)


def _replicate_profiles(
    slot: Slot, modality: str, perturbation_key: str, replicate_keys: Sequence[str], controls: Sequence[str]
) -> tuple[Similarities, pd.DataFrame]:
    """Profile of each perturbation in each replicate, and its row by perturbation and replicate (-1 if absent)."""
    cells = slot.cells
    columns = {"perturbation": cells[perturbation_key], "replicate": joined_columns(cells[list(replicate_keys)], " | ")}
    names = joined_columns(pd.DataFrame(columns), SEPARATOR)
    is_used = (cells[MODALITY] == modality) & names.notna() & ~cells[perturbation_key].isin(controls)
    labelled = cells.assign(**{PROFILE: names.where(is_used), MODALITY: cells[MODALITY].where(is_used)})
    fold = fold_guides(type(slot)(slot.owner, slot.key, slot.array, labelled), PROFILE, perturbation_key)
    if fold.n_not_finite:
        warn(f"{fold.n_not_finite} cells are NaN or infinite in the embedding; they are left out of the profiles")
    unit = unit_rows(fold.means[modality])
    rows: NDArray[np.intp] = np.flatnonzero(finite_rows(unit))
    labels = [split_labels(name, SEPARATOR) for name in fold.targets.index[rows]]
    found = pd.DataFrame(labels, columns=["perturbation", "replicate"]).assign(row=np.arange(len(rows)))
    place = found.pivot(index="perturbation", columns="replicate", values="row").fillna(-1).astype(np.intp)
    return Similarities(unit[rows]), place
