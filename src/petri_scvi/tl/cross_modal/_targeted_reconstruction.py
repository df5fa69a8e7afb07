"""Reconstruct bright patches of a channel with and without transcriptomes that are informative about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from rich.progress import track

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL, IMAGE
from petri_scvi.common._channels import find_channel
from petri_scvi.common._labels import label_list
from petri_scvi.tl._embedding import subsample
from petri_scvi.tl._results import data_to_change, one_or_several, write_result

from ._cells_to_reconstruct import check_kind, chosen_contexts, other_modality, target_rows
from ._context_tests import context_tests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from petri_scvi.common._labels import Labels

    from ._cells_to_reconstruct import TrainedModel

CONDITIONS = ("none", "mixed", "own", "changed")
"""Companions of a cell: no transcriptome, or some of all contexts, of its own, or of one that changes the signal."""
PAIRS = (("own", "none"), ("own", "mixed"), ("changed", "own"), ("changed", "mixed"))
"""What is compared with what."""
SCORES = ("mse", "intensity")
N_DOCUMENTS = 4
"""Draws of companions whose scores are averaged."""
N_COMPARED = 100
"""At most this many cells are also reconstructed next to other contexts."""
N_CROPS = 8
"""Number of cells whose images are stored."""


def targeted_reconstruction(
    model: TrainedModel,
    mdata: MuData | None = None,
    *,
    channel: str,
    changed_context: Labels,
    context: Labels = CONTROL,
    threshold: float | None = None,
    quantile: float = 0.9,
    indices: Sequence[int] | None = None,
    max_cells: int = 500,
    n_other_contexts: int = 99,
    modality: str = IMAGE,
    source: str | None = None,
    seed: int = 0,
    key_added: str = "targeted_reconstruction",
    progress: bool = True,
    copy: bool = False,
) -> MuData | None:
    """Mask the bright patches of a channel and reconstruct them next to different transcriptomes :cite:p:`PETRI2026`.

    Each cell is reconstructed with the same mask four times: alone (``"none"``), next to transcriptomes of its own
    context (``"own"``), of a context that is known to change the signal (``"changed"``), and of any context
    (``"mixed"``).

    Parameters
    ----------
    model
        A trained model of images and expression.
    mdata
        Data; that of the model if ``None``.
    channel
        Name of the image channel.
    changed_context
        Context, or contexts, that change the signal of this channel.
    context
        Context, or contexts, whose cells are reconstructed.
    threshold
        Patches with a larger mean intensity in the channel are masked in all channels. Units of the images.
    quantile
        If ``threshold`` is ``None``, this quantile of all patches of the cells is the threshold.
    indices
        Rows of ``mdata[modality]`` to choose from. By default the validation cells of the model's own data, all cells
        of other data.
    max_cells
        Reconstruct at most this many cells, drawn at random.
    n_other_contexts
        At most this many other contexts, drawn at random, show how much transcriptomes of any context change the
        scores; 0 for no p-values.
    modality
        Modality with the images.
    source
        Modality that is called "transcriptomes" here; the other one by default. A model of more than two needs it.
    seed
        Seed of the choice of cells and of their companions.
    key_added
        Name of the result.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``uns["petri_scvi"][key_added]`` of the data:

    - ``cells``: one row per cell and condition: ``row``, ``context``, ``condition``, ``n_hidden`` (patches) and, over
      the hidden pixels of the channel, ``mse`` (intensity squared), ``intensity`` (mean prediction) and ``measured``
      (mean measurement), in the units of the images.
    - ``summary``: means per condition, with ``n_cells``.
    - ``tests``: one row per ``score`` (``"mse"`` or ``"intensity"``), ``condition`` and ``reference`` it is compared
      with, over the same cells: ``n_cells``, mean ``difference``, ``effect_size`` (Cohen's d of the paired
      differences), ``share_of_cells`` where the score is higher, ``n_other_contexts``, the middle 95 % of the
      difference with other contexts in the place of the condition's, ``null_low`` to ``null_high``, and ``p_value``
      (two-sided, from the rank of the condition among the other contexts, over at most 100 of the cells).
    - ``images`` ``(k, H, W)`` of the channel, ``mask`` ``(k, N)`` and ``predictions`` ``(4, k, H, W)`` of some of the
      cells, chosen at random, for :func:`petri_scvi.pl.targeted_reconstruction`; ``rows``, their place.
    - ``threshold`` in intensity; ``n_cells_left_out``, those without a patch above it, or without one below that could
      stay visible; ``parameters``.

    Raises
    ------
    TypeError
        The model does not reconstruct cells, such as CLIP.
    ValueError
        The model or the data has no such channel, the model knows one modality only or has no set transformer, a
        context has no cells, or no cell has a patch above the threshold.

    Notes
    -----
    A document of one cell never occurs in training, so the difference to ``"none"`` includes the effect of adding any
    transcriptomes. ``"mixed"`` transcriptomes carry no information about the context but form a document like the
    others, so only a difference to these is information about the context.

    Masked patches are bright because they were selected for it. A mean prediction is therefore too dark, whatever the
    context, and anything that raises it lowers the error. Read ``mse`` together with ``intensity``, and compare with
    models trained on permuted contexts: with few contexts, these learn chance associations, which are small in
    intensity but just as consistent across cells.

    All cells share their context and the changed one, so they are not independent, and a test over cells would call any
    difference significant. The p-value asks how often transcriptomes of other contexts change the score as much. It is
    at least 2 / (``n_other_contexts`` + 1), whatever the number of cells.

    Examples
    --------
    >>> petri_scvi.tl.targeted_reconstruction(model, channel="lipid_droplets", changed_context="TARGET01")
    >>> petri_scvi.pl.targeted_reconstruction(model.adata)
    """
    check_sizes(max_cells=max_cells)
    if n_other_contexts:
        check_sizes(n_other_contexts=n_other_contexts)
    if threshold is None and not 0 <= quantile < 1:
        raise ValueError(f"quantile={quantile!r} is not accepted; pass a number from 0 to below 1, for example 0.9")
    expression = other_modality(model, modality, source)
    check_kind(model, modality, "patch_size", "images")
    position = find_channel(channel, list(model.get_var_names()[modality]), "channel", "the model")
    contexts = model.get_contexts(mdata, modality=modality)
    rows = target_rows(model, mdata, modality, indices)
    rows = chosen_contexts(rows, contexts, context, where=f"mdata[{modality!r}]", argument="context")
    changed = label_list(changed_context, "changed_context")
    if set(changed) & set(contexts[rows]):
        raise ValueError(
            f"changed_context={changed_context!r} is the context of cells to reconstruct; name another one."
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(rows, size=min(max_cells, len(rows)), replace=False))
    images = _measured_channel(model, mdata, modality, position, rows)
    patch_size = cast("int", model.module.modality(modality).patch_size)
    mask, threshold_used = _bright_patches(images, patch_size, threshold, quantile)
    is_kept = np.asarray(mask.any(axis=1) & ~mask.all(axis=1))
    _check_kept(images, is_kept, threshold_used, channel)
    rows, images, mask = rows[is_kept], images[is_kept], mask[is_kept]
    shown = np.sort(rng.choice(len(rows), size=min(N_CROPS, len(rows)), replace=False))
    hidden = _HiddenCells(model, mdata, modality, position, rows, images, mask, seed)
    every = sorted(set(model.get_contexts(mdata, modality=expression).tolist()))
    joining: list[list[str] | None] = [every, None, changed]
    companions: list[dict[str, Any]] = [{}, *({expression: wanted} for wanted in joining)]
    scores, pictures = hidden.in_conditions(companions, shown, progress)
    rng = np.random.default_rng([seed, 1])
    compared = subsample(np.arange(len(rows)), N_COMPARED, rng)
    others = rng.permutation(np.setdiff1d(every, [*changed, *contexts[rows]]))[:n_other_contexts].tolist()
    tracked = track(others, "Reconstructing next to other contexts", disable=not progress)
    null = [hidden.reconstruct(compared, {expression: name})[0].mean() for name in tracked]
    tables = {}
    for condition in CONDITIONS:
        place = {"row": rows, "context": contexts[rows], "condition": condition, "n_hidden": mask.sum(axis=1)}
        tables[condition] = pd.DataFrame(place).join(scores[condition])
    cells = pd.concat(tables.values(), ignore_index=True)
    means = cells.groupby("condition", sort=False)[["mse", "intensity", "measured"]].mean()
    result: dict[str, Any] = {
        "cells": cells,
        "summary": means.reset_index().assign(n_cells=len(rows)),
        "tests": context_tests(tables, pd.DataFrame(null, columns=SCORES), compared, PAIRS),
        "images": images[shown].astype(np.float32),
        "mask": mask[shown],
        "predictions": np.stack(pictures),
        "rows": rows[shown],
        "threshold": threshold_used,
        "n_cells_left_out": int((~is_kept).sum()),
    }
    parameters: dict[str, Any] = {"channel": channel, "context": one_or_several(label_list(context, "context"))}
    parameters |= {"changed_context": one_or_several(changed), "quantile": quantile}
    parameters |= {"threshold": threshold, "max_cells": max_cells, "modality": modality, "seed": seed}
    parameters |= {"n_other_contexts": n_other_contexts, "source": expression}
    # The model tells its own data from others, so the copy is made last.
    mdata = data_to_change(model.adata if mdata is None else mdata, copy)
    write_result(mdata, key_added, result, parameters)
    return mdata if copy else None


@dataclass(frozen=True)
class _HiddenCells:
    """Cells to reconstruct, with their masks."""

    model: TrainedModel
    mdata: MuData | None
    modality: str
    position: int  # of the channel
    rows: NDArray[np.integer]
    images: NDArray[np.float64]  # (n, H, W)
    mask: NDArray[np.bool_]  # (n, N)
    seed: int

    def reconstruct(
        self, chosen: NDArray[np.intp], joined: dict[str, Any], repeat: int = 0
    ) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Scores and channel of some of the cells next to companions; shape ``(len(chosen), H, W)``."""
        mask = self.mask[chosen]
        found = self.model.get_reconstruction(
            self.mdata,
            modality=self.modality,
            indices=self.rows[chosen].tolist(),
            mask=mask,
            companions=joined,
            seed=self.seed + 1000 * repeat,
        )
        prediction = found.prediction[:, self.position]
        return _scores(self.images[chosen], prediction, mask), prediction

    def in_conditions(
        self, companions: Sequence[dict[str, Any]], shown: NDArray[np.intp], progress: bool
    ) -> tuple[dict[str, pd.DataFrame], list[NDArray[np.float32]]]:
        """Scores in each condition, means over draws of companions, and the channel of some of the cells."""
        passes = [
            (condition, joined, repeat)
            for condition, joined in zip(CONDITIONS, companions, strict=True)
            for repeat in range(N_DOCUMENTS if joined else 1)
        ]
        scores: dict[str, list[pd.DataFrame]] = {condition: [] for condition in CONDITIONS}
        pictures = []
        for condition, joined, repeat in track(passes, "Reconstructing cells", disable=not progress):
            found, prediction = self.reconstruct(np.arange(len(self.rows)), joined, repeat)
            scores[condition].append(found)
            if repeat == 0:
                pictures.append(prediction[shown])
        return {condition: pd.concat(parts).groupby(level=0).mean() for condition, parts in scores.items()}, pictures


def _measured_channel(
    model: TrainedModel, mdata: MuData | None, modality: str, position: int, rows: NDArray[np.integer]
) -> NDArray[np.float64]:
    """A channel of some cells, shape ``(n, H, W)``."""
    crops = model.get_measurement(mdata, modality=modality, indices=rows.tolist())  # (n, C, H, W)
    is_missing = np.isnan(crops[0, :, 0, 0])
    if is_missing[position]:
        names = model.get_var_names()[modality]
        raise ValueError(
            f"channel {str(names[position])!r} was not measured in mdata[{modality!r}], so that its reconstruction "
            f"cannot be scored. Pass one of {names[~is_missing].tolist()}."
        )
    return crops[:, position].astype(np.float64)


def _bright_patches(
    images: NDArray[np.float64], patch_size: int, threshold: float | None, quantile: float
) -> tuple[NDArray[np.bool_], float]:
    """Patches brighter than the threshold, shapes ``(n, H, W)`` -> ``(n, N)``, and the threshold."""
    n_cells, height, width = images.shape
    grid = images.reshape(n_cells, height // patch_size, patch_size, width // patch_size, patch_size)
    intensity = grid.mean(axis=(2, 4)).reshape(n_cells, -1)  # (n, N)
    used = float(np.quantile(intensity, quantile)) if threshold is None else float(threshold)
    return intensity > used, used


def _check_kept(images: NDArray[np.float64], is_kept: NDArray[np.bool_], threshold: float, channel: str) -> None:
    if not is_kept.any():
        raise ValueError(
            f"none of {len(is_kept)} cells has patches both above and below the threshold of {threshold:.4g} in "
            f"channel {channel!r}, whose pixels go from {images.min():.4g} to {images.max():.4g}. Pass another "
            "threshold, in these units, or another quantile."
        )


def _scores(images: NDArray[np.float64], prediction: NDArray[np.float32], mask: NDArray[np.bool_]) -> pd.DataFrame:
    """Error, prediction and measurement over the hidden pixels of each cell; twice ``(n, H, W)`` and ``(n, N)``."""
    n_cells, height, width = images.shape
    side = round((height * width / mask.shape[1]) ** 0.5)
    hidden = mask.reshape(n_cells, height // side, width // side).repeat(side, axis=1).repeat(side, axis=2)
    n_pixels = hidden.sum(axis=(1, 2))
    values = {"mse": (prediction - images) ** 2, "intensity": prediction.astype(np.float64), "measured": images}
    return pd.DataFrame({name: (value * hidden).sum(axis=(1, 2)) / n_pixels for name, value in values.items()})
