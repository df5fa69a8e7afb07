"""Interpretable features of image crops."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._checks import check_finite_images, check_sizes, crops_of, require
from petri_scvi._constants import IMAGE, IMAGES_KEY
from petri_scvi.common._channels import channel_names, find_channel, find_channels
from petri_scvi.dataloaders import ChannelReader, open_rows
from petri_scvi.imaging import channel_range, measure_crops, measure_rows
from petri_scvi.tl._embedding import subsample
from petri_scvi.tl._results import data_to_change, write_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

FEATURES_KEY = "image_features"
"""``obsm`` slot of the measurements."""
RANGE = (0.0, 0.9999)
"""Quantiles of a channel's pixels that are scaled to 0 and 1."""


def image_features(
    data: AnnData | MuData,
    *,
    max_cells: int | None = 5000,
    channels: Sequence[str | int] | None = None,
    mask_channel: str | int | None = None,
    modality: str = IMAGE,
    images_key: str = IMAGES_KEY,
    n_jobs: int = -1,
    seed: int = 0,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Measure image crops with scikit-image :cite:p:`vanderWalt2014`: brightness, texture, objects, overlap.

    Parameters
    ----------
    data
        Cells with images, or a MuData with such a modality.
    max_cells
        Number of cells to measure, chosen at random; all if ``None``. A cell takes a few milliseconds per channel.
    channels
        Channels to measure, by name or position; by default all. Leave out channels that hold masks.
    mask_channel
        One of ``channels`` that shows where the cell is: its largest object above Otsu's threshold, holes filled, is
        measured. By default the whole crop is measured.
    modality
        Modality of a MuData that has the images.
    images_key
        ``obsm`` slot of the crops, shape ``(n_cells, C, H, W)``, in memory or on disk. Only crops that are measured are
        read, and up to 1,000 more for the range of intensities.
    n_jobs
        Processes; -1 is one per core, 1 measures in the current process, which is faster for a few hundred cells.
    seed
        Seed of the choice of cells.
    progress
        Show a progress bar.
    copy
        Leave the data as they are, and write into a copy, which is returned.

    Returns
    -------
    ``None``, or the copy. Writes ``obsm["image_features"]`` of the imaging modality, a DataFrame of shape ``(n_cells,
    n_features)``, NaN in cells that were not measured and where a feature is not defined, and
    ``uns["petri_scvi"]["image_features"]``: ``n_cells`` measured; ``parameters``. A feature is named after what is
    measured and the channel, such as ``"intensity_mean__actin"``.

    Raises
    ------
    ImportError
        scikit-image is not installed; the extra ``images`` installs it.
    KeyError
        There is no such modality or slot.
    ValueError
        There is no such channel, one is named twice, or the slot holds no crops or crops with NaN or infinite pixels.

    Notes
    -----
    Of each channel, on a scale from 0 to 1 of its range in all cells: mean, standard deviation and 99 % quantile of the
    intensity; contrast, homogeneity, energy and correlation of neighbouring grey levels (of 16 between the darkest and
    the brightest pixel of the crop); ``granularity``, the mean of what a white top-hat of radius 2 keeps, that is of
    spots and lines; the number of objects above Otsu's threshold, and area (pixels), perimeter, eccentricity and
    solidity of the largest. Of each pair of channels, the correlation of their pixels. Measurements made with any other
    program can be stored in ``obsm`` instead.
    """
    data = data_to_change(data, copy)
    require("skimage", "images")
    if max_cells is not None:
        check_sizes(max_cells=max_cells)
    adata, images = crops_of(data, modality, images_key)
    stored = channel_names(adata, int(images.shape[1]), "the imaging modality")
    every = [name.replace("/", "_") for name in stored]  # HDF5 would read a slash as a group
    where = f"obsm[{images_key!r}]"
    positions = find_channels(channels, every, "channels", where)
    names = [every[position] for position in positions]
    reader = ChannelReader(open_rows(images), positions)
    rows = np.arange(adata.n_obs)
    if max_cells is not None:
        rows = subsample(rows, max_cells, np.random.default_rng([seed, 1]))
    measure = partial(
        measure_crops,
        channels=names,
        mask_channel=None if mask_channel is None else find_channel(mask_channel, names, "mask_channel", "channels"),
    )
    if reader.dtype.kind == "f":
        check_finite_images(reader.chunks(rows), where)
    scale = channel_range(reader, RANGE, seed)
    values, columns = measure_rows(reader, rows, scale, measure, n_jobs=n_jobs, show_progress=progress)
    table = np.full((adata.n_obs, len(columns)), np.nan, dtype=np.float32)
    table[rows] = values
    adata.obsm[FEATURES_KEY] = pd.DataFrame(table, index=adata.obs_names, columns=columns)
    parameters: dict[str, Any] = {"max_cells": max_cells, "channels": names, "mask_channel": mask_channel, "seed": seed}
    parameters |= {"modality": modality, "images_key": images_key}
    write_result(data, FEATURES_KEY, {"n_cells": len(rows)}, parameters)
    return data if copy else None
