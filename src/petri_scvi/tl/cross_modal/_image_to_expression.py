"""Variance of expression that images predict, as a check that the modalities share information."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.model_selection import KFold

from petri_scvi._checks import check_is_mudata, check_sizes
from petri_scvi._constants import CONTEXT_KEY, IMAGE, RNA
from petri_scvi.tl._arguments import check_choice, check_folds
from petri_scvi.tl._results import data_to_change, write_result

from ._image_regression import Fold, RidgeRegression, ViTRegression
from ._regression_rows import image_inputs, paired_places, read_cells, rows_of_cells, rows_of_contexts, usable_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

    from ._regression_rows import RegressionRows

MIN_FIT_ROWS = 4
"""Smallest number of training rows per fold; two of them are used for early stopping only."""
LOW_R2 = 0.2
"""The paper reports the share of genes below this r2."""


def image_to_expression_r2(
    mdata: MuData,
    key: str | None = None,
    *,
    level: Literal["auto", "cell", "context"] = "auto",
    context_key: str = CONTEXT_KEY,
    layer: str | None = None,
    n_folds: int = 5,
    max_cells: int = 10_000,
    max_epochs: int = 30,
    vit_kwargs: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: bool = True,
    copy: bool = False,
) -> MuData | None:
    """Estimate the share of each gene's variance that images predict, by cross-validation :cite:p:`PETRI2026`.

    Parameters
    ----------
    mdata
        MuData with modalities ``"image"`` and ``"rna"``.
    key
        ``obsm`` slot with an embedding, shape ``(n_cells, D)``, from which ridge regression predicts: of ``mdata``, one
        matrix for all cells, or, if it has none of this name, of ``mdata["image"]``. By default a ViT of the package's
        own :class:`petri_scvi.nn.ImageEncoder` is trained on the crops in
        ``mdata["image"].obsm["single_cell_images"]``.
    level
        ``"cell"``: predict the transcriptome of a cell from its own image, which needs cells that were measured in both
        modalities. ``"context"``: predict the mean transcriptome of a context from the images of its cells, in contexts
        that were not fitted on. ``"auto"``: ``"cell"`` if there are such cells.
    context_key
        ``obs`` column of both modalities, for ``"context"``.
    layer
        Layer of ``mdata["rna"]``; ``X`` if ``None``. Whole numbers are treated as counts: they are divided by the
        cell's total, multiplied by the median total, and ``log1p`` is taken. Other values are used as they are.
    n_folds
        Folds of the cross-validation, by cell or by context. No row is predicted by a model that was fitted on it.
    max_cells
        Use at most this many cells of each modality; at ``"context"``, the same number from each context.
    max_epochs
        Passes of the ViT over the training cells. Training stops earlier if predictions of a tenth of the training
        rows, which is held out for this, no longer improve.
    vit_kwargs
        ``patch_size``, ``n_latent_tokens``, ``embed_dim``, ``image_encoder_depth`` and ``n_heads`` of
        :class:`petri_scvi.nn.ImageEncoder`; by default 1 token of width 64, 4 blocks, 4 heads, and the largest patch of
        at most 8 pixels that gives 16 or more.
    seed
        Seed of the choice of cells, of the folds and of training.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"]["image_to_expression_r2"]``, or ``"image_to_expression_r2_" +
    key`` with a key: ``table``, one row per gene: ``gene``, ``mean`` (of its values), ``r2`` (below 0 if the mean of
    the training rows is a better guess; NaN for a gene that does not vary) and, at ``"context"``, ``reliability``, the
    share of the variance between contexts that is not error of measurement: the largest ``r2`` to expect. ``summary``:
    ``level``, ``predictor``, ``n_rows`` (cells or contexts), ``n_image_cells``, ``n_rna_cells``, ``mean_r2``,
    ``median_r2`` and ``share_below_0.2`` over genes; ``parameters``.

    Raises
    ------
    TypeError
        The data are not a MuData.
    KeyError
        A modality, slot, layer or column is missing.
    ValueError
        ``level="cell"`` without cells in both modalities, no gene varies, there are too few cells or contexts for the
        folds, or crops have NaN or infinite pixels.

    Warns
    -----
    UserWarning
        Contexts have fewer than five cells in a modality, or cells have an embedding with NaN or infinity; they are
        left out.

    Notes
    -----
    The paper reports 0.117 on average, and 80 % of genes below 0.2, for matched cells of a screen in liver. At
    ``"context"`` the noise of single cells is averaged away and larger values are usual, so that only ``"cell"`` can be
    compared with these numbers. With only some tens of contexts, a value near 0 does not show that nothing is shared.
    """
    mdata = data_to_change(mdata, copy)
    check_is_mudata(mdata)
    check_choice("level", level, ("auto", "cell", "context"))
    check_sizes(max_cells=max_cells, max_epochs=max_epochs)
    check_folds(n_folds)
    regression = ViTRegression(max_epochs, vit_kwargs or {}) if key is None else RidgeRegression()
    _check_modalities(mdata)
    inputs = image_inputs(mdata, key)
    is_usable, rng = usable_cells(inputs), np.random.default_rng(seed)
    unit, rows = _choose_rows(mdata, is_usable, level, context_key, layer, max_cells, rng)
    n_rows = len(rows.targets)
    n_fit = n_rows - math.ceil(n_rows / n_folds)
    if n_rows < 2 * n_folds or n_fit < MIN_FIT_ROWS:
        needed = max(2 * n_folds, math.ceil(MIN_FIT_ROWS * n_folds / (n_folds - 1)))
        raise ValueError(
            f"{n_rows} {unit}s are too few for n_folds={n_folds}, which needs {needed}. Pass "
            f"{'fewer folds' if n_folds > 2 else 'more folds'}, or data with more {unit}s in both modalities."
        )
    r2 = _cross_validate(read_cells(inputs, rows.image_cells), rows, regression, n_folds, seed, progress)
    if np.isnan(r2).all():
        raise ValueError(f"none of {len(r2)} genes varies between {unit}s, so that there is nothing to predict.")
    table = pd.DataFrame({"gene": mdata.mod[RNA].var_names.astype(str), "mean": rows.targets.mean(axis=0), "r2": r2})
    if rows.reliability is not None:
        table["reliability"] = np.where(np.isnan(r2), np.nan, rows.reliability)
    summary = {
        "level": unit,
        "predictor": "ViT" if key is None else key,
        "n_rows": n_rows,
        "n_image_cells": len(rows.image_cells),
        "n_rna_cells": rows.n_rna_cells,
        "mean_r2": np.nanmean(r2),
        "median_r2": np.nanmedian(r2),
        f"share_below_{LOW_R2}": (r2[~np.isnan(r2)] < LOW_R2).mean(),
    }
    parameters: dict[str, Any] = {"key": key, "level": level, "context_key": context_key, "layer": layer}
    parameters |= {"n_folds": n_folds, "max_cells": max_cells, "max_epochs": max_epochs, "seed": seed}
    parameters |= regression.parameters
    name = "image_to_expression_r2" if key is None else f"image_to_expression_r2_{key}"
    write_result(mdata, name, {"table": table, "summary": pd.DataFrame([summary])}, parameters)
    return mdata if copy else None


def _check_modalities(mdata: MuData) -> None:
    for name in (IMAGE, RNA):
        if name not in mdata.mod:
            raise KeyError(f"mdata.mod has {list(mdata.mod)}; expected {IMAGE!r} and {RNA!r}. Rename the modalities.")


def _choose_rows(
    mdata: MuData,
    is_usable: NDArray[np.bool_],
    level: str,
    context_key: str,
    layer: str | None,
    max_cells: int,
    rng: np.random.Generator,
) -> tuple[str, RegressionRows]:
    """What a row is, ``"cell"`` or ``"context"``, and the rows."""
    places = paired_places(mdata)
    places = places[is_usable[places[:, 0]]]
    if level == "cell" and len(places) == 0:
        raise ValueError(
            "no cell was measured in both modalities, so that level='cell' has nothing to learn from; pass "
            "level='context'. If cells are the same, give them the same obs_names in both modalities."
        )
    if level == "context" or len(places) == 0:
        return "context", rows_of_contexts(mdata, is_usable, context_key, layer, max_cells, rng)
    return "cell", rows_of_cells(mdata, places, layer, max_cells, rng)


def _cross_validate(
    inputs: NDArray[Any],
    rows: RegressionRows,
    regression: RidgeRegression | ViTRegression,
    n_folds: int,
    seed: int,
    progress: bool,
) -> NDArray[np.float64]:
    """Cross-validated r2 of each gene: 1 minus its squared error over that of the mean of the training rows."""
    targets = rows.targets
    errors, reference = np.zeros((2, targets.shape[1]))
    folds = list(KFold(n_folds, shuffle=True, random_state=seed).split(targets))
    for fold, (fit, held_out) in enumerate(track(folds, "Images to expression", disable=not progress)):
        predicted = regression.predict(Fold(inputs, rows.row_of_image, targets, fit, held_out, seed + fold))
        errors += np.square(targets[held_out] - predicted).sum(axis=0)
        reference += np.square(targets[held_out] - targets[fit].mean(axis=0)).sum(axis=0)
    # The variance of a gene that does not vary is rounding error.
    is_flat = targets.std(axis=0) <= 1e-9 * np.maximum(1, np.abs(targets.mean(axis=0)))
    return np.where(is_flat, np.nan, 1 - errors / np.where(is_flat, 1.0, reference))
