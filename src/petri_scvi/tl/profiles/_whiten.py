"""PCA whitening that keeps every dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.utils.extmath import svd_flip

from petri_scvi._constants import CONTROL
from petri_scvi.common import RunningMoments
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice
from petri_scvi.tl._embedding import MODALITY, check_files, control_names, find_slots, finite_rows
from petri_scvi.tl._results import data_to_change, one_or_several, write_result

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels
    from petri_scvi.tl._embedding import Slot, Transform

FLAT = 1e-12
"""A component with less than this share of the largest variance is set to zero instead of amplified."""
ROUNDING = {np.dtype(np.float32): float(np.finfo(np.float32).eps), np.dtype(np.float64): FLAT}
"""So is one with less than this share of the variance that it would have if dimensions were uncorrelated."""


@dataclass(frozen=True)
class Whitener:
    """Mean, and the matrix that maps centered rows to whitened rows."""

    mean: NDArray[np.float64]  # (D,)
    weights: NDArray[np.float64]  # (D, D)
    explained_variance: NDArray[np.float64]  # (D,), largest first
    n_cells: int
    n_flat: int

    def __call__(self, chunk: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        """Transform some rows."""
        chunk[~finite_rows(chunk)] = np.nan  # infinity minus infinity would warn
        whitened: NDArray[np.float64] = (chunk - self.mean) @ self.weights
        return whitened


def whiten(
    data: AnnData | MuData,
    key: str = "X_petri_scaled",
    *,
    fit_on: Literal["all", "controls"] = "all",
    target_key: str = "target_gene",
    control: Labels = CONTROL,
    key_added: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Rotate an embedding to its principal components and give each unit variance.

    Parameters
    ----------
    data
        Cells. A slot that modalities share is whitened once, for all its cells together; slots of single modalities
        are whitened each on its own.
    key
        ``obsm`` slot of the embedding, shape ``(n_cells, D)``; see :func:`petri_scvi.tl.center_scale`.
    fit_on
        Estimate mean and components on all cells, or on non-targeting controls only.
    target_key
        ``obs`` column with the gene each cell's guide targets; needed for ``fit_on="controls"`` only.
    control
        Value of ``target_key`` that marks non-targeting controls, or several; needed for ``fit_on="controls"`` only.
    key_added
        Slot to write; ``f"{key}_whitened"`` by default. With ``key_added=key`` a plain NumPy array is overwritten in
        place.
    folder
        Where to write the result, as ``f"{key_added}.npy"`` with the modality in front if each has its own; it is then
        mapped into memory as ``obsm[key_added]``. If ``None``, the result is an array in memory.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``obsm[key_added]``, same shape, components by decreasing variance, and
    ``uns["petri_scvi"]["whiten_" + key_added]``: ``explained_variance`` (by modality if there is one slot per
    modality), ``n_cells`` that were fitted on, ``n_flat``, and ``parameters``.

    Raises
    ------
    FileExistsError
        ``folder`` has a file of this name.
    KeyError
        A slot or column is missing.
    ValueError
        There are too few finite cells to fit on, or no cell has a label of ``control``.

    Warns
    -----
    UserWarning
        Some components have no variance, because dimensions are constant or depend on others, or there are fewer cells
        than dimensions; they become 0. Or cells have NaN or infinite values: they stay out of the fit and become NaN.

    Notes
    -----
    Agrees with ``sklearn.decomposition.PCA(n_components=D, whiten=True)``, signs included, but reads the cells in
    chunks of 8,192. Memory holds a chunk, the covariance, and the result, unless that goes to a ``folder``.

    A component counts as having no variance if its variance is at most 1e-12 of the largest, or, of a float32
    embedding, at most 1.2e-7 (of a float64 one, 1e-12) of what it would be if dimensions were uncorrelated: dimensions
    that depend on each other leave only the rounding errors of the embedding there.
    """
    data = data_to_change(data, copy)
    check_choice("fit_on", fit_on, ("all", "controls"))
    key_added = f"{key}_whitened" if key_added is None else key_added
    slots = find_slots(data, key, [target_key] if fit_on == "controls" else [])
    check_files(slots, folder, key_added)
    fitted = {}
    controls = control_names(slots, target_key, control) if fit_on == "controls" else None
    for slot in slots:
        is_used = slot.cells[MODALITY].notna().to_numpy()
        if controls is not None:
            is_used = is_used & slot.cells[target_key].isin(controls).to_numpy()
        whitener = fit_whitener(slot, is_used)
        slot.write(key_added, whitener, folder)
        name = slot.cells[MODALITY].dropna().iloc[0]
        fitted[name] = {
            "explained_variance": whitener.explained_variance,
            "n_cells": whitener.n_cells,
            "n_flat": whitener.n_flat,
        }
    result = fitted if len(fitted) > 1 else next(iter(fitted.values()))
    parameters: dict[str, Any] = {"key": key, "fit_on": fit_on}
    if controls is not None:
        parameters |= {"target_key": target_key, "control": one_or_several(controls)}
    write_result(data, f"whiten_{key_added}", result, parameters)
    return data if copy else None


def fit_whitener(slot: Slot, is_used: NDArray[np.bool_], *transforms: Transform) -> Whitener:
    """Mean and principal components of the rows that are used, from one pass through the matrix."""
    n_dims = slot.shape[1]
    moments = RunningMoments(n_dims, covariance=True)
    n_bad = 0
    for rows, chunk in slot.chunks(*transforms):
        is_finite = finite_rows(chunk)
        n_bad += int((is_used[rows] & ~is_finite).sum())
        moments.update(chunk[is_used[rows] & is_finite])
    n = moments.n
    if n_bad:
        warn(f"{n_bad} of {int(is_used.sum())} cells are NaN or infinite; they are left out of the fit")
    if n < 2:
        raise ValueError(
            f"{n} finite cells to whiten on in obsm[{slot.key!r}]; at least two are needed. With fit_on='controls', "
            "name the controls with control=..."
        )
    variance, components = np.linalg.eigh(moments.squares / (n - 1))
    variance, components = variance[::-1].clip(min=0), components[:, ::-1].T
    _, components = svd_flip(u=None, v=components, u_based_decision=False)
    # Where dimensions depend on each other, only rounding errors of them are left.
    of_dimensions = np.square(components) @ np.diag(moments.squares) / (n - 1)
    is_flat = variance <= np.maximum(FLAT * variance[0], ROUNDING[slot.result_dtype] * of_dimensions)
    if n <= n_dims:
        is_flat[n - 1 :] = True
    if is_flat.any():
        equal = (
            ". With no more cells than dimensions, whitening removes all structure: all cells become equally far "
            "apart. Reduce the embedding to far fewer dimensions first, for example by PCA"
            if n <= n_dims
            else ""
        )
        warn(
            f"{int(is_flat.sum())} of {n_dims} components of obsm[{slot.key!r}] have no variance ({n} cells); they "
            f"become 0{equal}"
        )
    weights = components.T / np.sqrt(np.where(is_flat, np.inf, variance))
    return Whitener(moments.mean, weights, variance, n, int(is_flat.sum()))
