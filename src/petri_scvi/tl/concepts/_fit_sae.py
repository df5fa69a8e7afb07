"""Fit a sparse autoencoder to an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData
from rich.progress import track
from scipy import sparse

from petri_scvi._checks import check_sizes
from petri_scvi._constants import SAE_KEY
from petri_scvi.common import rows_in_modality
from petri_scvi.common._warn import warn
from petri_scvi.tl._embedding import MODALITY, find_slots
from petri_scvi.tl._read_rows import read_rows
from petri_scvi.tl._results import forget_results, write_result

from ._sae_explained_variance import Fidelity
from ._sae_minibatches import mean_and_scale, shuffled_batches
from ._sae_training import fit_autoencoder
from ._sparse_rows import SparseRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from petri_scvi.tl._embedding import Slot

    from ._sparse_autoencoder import SparseAutoencoder

RESULT = "sae"
PUBLISHED_DIMENSIONS, PUBLISHED_ACTIVE = 15_360, 500
CELLS_PER_DIMENSION = 16
CELLS_TO_SEE = 2_000_000
"""Cells that a fit sees by default, repeats included."""


def fit_sae(
    data: AnnData | MuData,
    key: str = "X_petri",
    *,
    n_dimensions: int | None = None,
    n_active: int | None = None,
    max_epochs: float | None = None,
    batch_size: int = 1024,
    key_added: str = SAE_KEY,
    accelerator: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> SparseAutoencoder:
    """Fit a BatchTopK sparse autoencoder to an embedding :cite:p:`Bussmann2024`.

    Parameters
    ----------
    data
        Cells. Modalities are fitted together.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``, scaled or not (see Notes). Only a small one is loaded as
        a whole.
    n_dimensions
        Dimensions of the sparse code. By default one for every 16 cells, but at most the 15,360 of the paper.
    n_active
        Dimensions that are active per cell, on average over cells. By default the same share as in the paper, 500 of
        15,360.
    max_epochs
        Passes over the cells; a value below 1 uses a part of them. By default as many as are needed to see 2 million
        cells, and at least one.
    batch_size
        Cells of a minibatch.
    key_added
        Slot to write.
    accelerator
        Where to compute; ``"cpu"``, ``"gpu"`` or, if there is one, a GPU for ``"auto"``.
    seed
        Seed of the first directions and of the order of the cells.
    progress
        Show progress bars.

    Returns
    -------
    The autoencoder, to save or to encode other cells with. Writes ``obsm[key_added]``, the activations: a CSR matrix of
    float32, shape ``(n_cells, n_dimensions)``, at least 0 and in the unit of the embedding. The slot is in the MuData
    if each of its cells has one embedding, otherwise in each modality or in the AnnData. Writes
    ``uns["petri_scvi"]["sae"]``, or ``"sae_" + key_added`` if that is not ``"X_sae"``: ``table``, one row per modality
    with ``modality``, ``n_cells``, ``explained_variance`` (of the variance around the modality's mean) and ``n_active``
    (per cell); ``explained_variance`` of all cells, ``n_dead`` (dimensions that no cell activates), ``threshold``,
    ``losses`` (mean squared error of each step over the variance of the embedding) and ``parameters``.

    Raises
    ------
    KeyError
        There is no such slot.
    ValueError
        The embedding is not finite or the same in all cells, modalities have embeddings of different width,
        ``n_active`` is larger than ``n_dimensions``, or another number is out of range.

    Warns
    -----
    UserWarning
        More than half of the dimensions are never active.

    Notes
    -----
    If modalities are far apart in the embedding, some dimensions encode only the distance between them.
    :func:`petri_scvi.tl.center_scale` removes it beforehand; then pass ``"X_petri_scaled"``.

    Results that any tool computed from the previous content of ``key_added`` are removed.

    An activation does not depend on which cells are encoded together: it is kept if it reaches ``threshold``, which
    is the mean over the last minibatches of the smallest activation that was kept there. Dimensions that 20,000 cells
    did not activate are revived by an auxiliary loss :cite:p:`Gao2025`.
    """
    check_sizes(batch_size=batch_size)
    slots = find_slots(data, key)
    n_rows = sum(slot.shape[0] for slot in slots)
    n_dimensions, n_active = _sizes(n_rows, n_dimensions, n_active)
    batch_size = min(batch_size, n_rows)
    n_steps = _n_steps(n_rows, batch_size, max_epochs)
    mean, scale = _check_embedding(data, slots, key)
    sae, losses = fit_autoencoder(
        shuffled_batches(slots, batch_size, np.random.default_rng(seed)),
        n_steps,
        n_dimensions=n_dimensions,
        n_active=n_active,
        mean=mean,
        scale=scale,
        accelerator=accelerator,
        seed=seed,
        progress=progress,
    )
    fidelity = Fidelity(mean)
    codes = [_encode(sae, slot, fidelity, progress) for slot in slots]
    _write(data, slots, codes, key_added)
    forget_results(data, key_added)
    result: dict[str, Any] = {"table": fidelity.table(), "explained_variance": fidelity.explained_variance()}
    result["n_dead"] = int((sum(part.getnnz(axis=0) for part in codes) == 0).sum())
    if result["n_dead"] > n_dimensions / 2:
        warn(
            f"{result['n_dead']} of {n_dimensions} dimensions are active in no cell. Pass fewer, for example "
            f"n_dimensions={max(1, n_dimensions // 4)}, or more max_epochs."
        )
    result |= {"threshold": sae.threshold, "losses": losses}
    parameters = {"key": key, "key_added": key_added, "n_dimensions": n_dimensions, "n_active": n_active}
    parameters |= {"max_epochs": n_steps * batch_size / n_rows, "batch_size": batch_size, "seed": seed}
    write_result(data, RESULT if key_added == SAE_KEY else f"{RESULT}_{key_added}", result, parameters)
    return sae


def _sizes(n_rows: int, n_dimensions: int | None, n_active: int | None) -> tuple[int, int]:
    if n_dimensions is None:
        n_dimensions = min(PUBLISHED_DIMENSIONS, max(n_rows // CELLS_PER_DIMENSION, 1))
    if n_active is None:
        n_active = max(1, round(n_dimensions * PUBLISHED_ACTIVE / PUBLISHED_DIMENSIONS))
    check_sizes(n_dimensions=n_dimensions, n_active=n_active)
    if n_active > n_dimensions:
        raise ValueError(
            f"n_active={n_active} is more than n_dimensions={n_dimensions}. Pass more dimensions or fewer active ones, "
            f"for example n_active={max(1, round(n_dimensions * PUBLISHED_ACTIVE / PUBLISHED_DIMENSIONS))}, the share "
            "of the paper."
        )
    return n_dimensions, n_active


def _n_steps(n_rows: int, batch_size: int, max_epochs: float | None) -> int:
    if max_epochs is None:
        max_epochs = max(1.0, CELLS_TO_SEE / n_rows)
    if not 0 < max_epochs < float("inf"):
        raise ValueError(f"max_epochs={max_epochs!r} is not accepted; pass a positive number, for example 10 or 0.5")
    return max(1, round(max_epochs * n_rows / batch_size))


def _check_embedding(data: AnnData | MuData, slots: Sequence[Slot], key: str) -> tuple[NDArray[np.float64], float]:
    """Require an embedding that can be fitted; return its mean and scale."""
    widths = {str(slot.cells[MODALITY].iloc[0]): slot.shape[1] for slot in slots}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"obsm[{key!r}] of the modalities have different widths, {widths}, so they do not share a space. Fit each "
            f"by itself, for example petri_scvi.tl.fit_sae(mdata[{next(iter(widths))!r}], {key!r})."
        )
    mean, scale, n_rows, n_bad = mean_and_scale(slots)
    if n_bad:
        raise ValueError(
            f"obsm[{key!r}] is NaN or infinite in {n_bad} of {n_rows} cells. Leave these out, for example "
            f"{_without_bad_cells(data, slots, key)}, or embed them again."
        )
    if scale == 0:
        raise ValueError(f"obsm[{key!r}] is the same in all {n_rows} cells; there is nothing to fit. Embed them again.")
    return mean, scale


def _without_bad_cells(data: AnnData | MuData, slots: Sequence[Slot], key: str) -> str:
    """The call that drops the cells without an embedding."""
    bad = next(slot for slot in slots if mean_and_scale([slot])[3])
    if bad.owner is data:
        return f"data[numpy.isfinite(data.obsm[{key!r}]).all(axis=1)].copy()"
    part = f"mdata[{str(bad.cells[MODALITY].iloc[0])!r}]"
    return f"{part.replace('mdata', 'mdata.mod')} = {part}[numpy.isfinite({part}.obsm[{key!r}]).all(axis=1)].copy()"


def _encode(sae: SparseAutoencoder, slot: Slot, fidelity: Fidelity, progress: bool) -> sparse.csr_matrix:
    """Encode a slot and update the explained variance."""
    codes = SparseRows(slot.shape[0], len(sae.decoder), sae.n_active)
    modality = slot.cells[MODALITY].to_numpy()
    for rows in track(list(sae.pieces(slot.shape[0])), "Encoding", disable=not progress):
        values = read_rows(slot.array, rows, np.float32)
        part = sae.encode_rows(values)
        codes.append(part)
        fidelity.add(modality[rows], values, sae.decode(part), np.diff(part.indptr))
    return codes.finish()


def _write(data: AnnData | MuData, slots: Sequence[Slot], codes: Sequence[sparse.csr_matrix], key_added: str) -> None:
    """Write to the MuData if each of its cells has one row, otherwise next to each embedding."""
    if isinstance(data, MuData) and data is not slots[0].owner:
        places = [rows_in_modality(data, slot.cells[MODALITY].iloc[0]) for slot in slots]
        if (np.sum([place >= 0 for place in places], axis=0) == 1).all():
            starts = np.cumsum([0, *(slot.shape[0] for slot in slots[:-1])])
            row = sum(np.where(place >= 0, start + place, 0) for place, start in zip(places, starts, strict=True))
            data.obsm[key_added] = sparse.vstack(codes, format="csr")[row]
            return
    for slot, part in zip(slots, codes, strict=True):
        slot.owner.obsm[key_added] = part
