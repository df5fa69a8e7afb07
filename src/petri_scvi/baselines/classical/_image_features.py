"""Classical image features."""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._checks import check_seed, check_sizes, require
from petri_scvi._constants import CONTEXT_KEY, CONTROL
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ImageModel
from petri_scvi.baselines.classical._measure import GROUPS, measure_cells
from petri_scvi.common._channels import find_channel
from petri_scvi.common._labels import as_text, check_controls, read_column
from petri_scvi.dataloaders import rows_by_context
from petri_scvi.imaging import channel_range, measure_rows
from petri_scvi.model.setup._context_field import context_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.common._labels import Labels
    from petri_scvi.dataloaders import RowReader

CONTROL_COLUMNS = ("target_gene", CONTEXT_KEY)
MAX_MISSING = 0.05
"""Largest share of cells in which a feature may be undefined."""


class ImageFeatures(ImageModel):
    """CellProfiler's measurements :cite:p:`Stirling2021`, made by cp_measure :cite:p:`Munoz2025` on a sample of cells.

    A cell takes a tenth of a second or more, so that by default 20 cells of each context and 500 non-targeting
    controls are measured, in parallel processes. The mask that the measurements need is the largest object above Otsu's
    threshold in one channel of the crop, holes filled. Intensities are scaled to 0 to 1 by the range of each channel in
    the training data.

    Training measures the sample, drops features that do not vary or are undefined in more than 5 % of it, and keeps
    mean and standard deviation of the rest, by which features are scaled. A feature that is undefined in a cell is set
    to its median. Measurements are kept: a cell of the sample is measured again only if its pixels have changed.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    max_cells_per_context
        Cells of each context to measure, chosen at random; all if ``None``. If a context has several guides, the cells
        are divided among these.
    n_control_cells
        Smallest number of non-targeting controls to measure, chosen at random; all if ``None`` or if there are fewer.
        Replicates are scaled on their own controls, of which each needs some tens: pass more if there are many
        replicates.
    control
        Label of controls, or several, in ``obs["target_gene"]`` or ``obs["perturbation"]``, or as their context;
        ``None`` if there are none.
    mask_channel
        Name or position of the registered channel that shows where the cell is.
    groups
        Kinds of measurement, as cp_measure names them: ``"intensity"``, ``"texture"`` and so on; all if ``None``.
    n_jobs
        Processes; -1 is one per core, 1 measures in the current process, which is faster for a few hundred cells,
        because a process takes some seconds to start.
    seed
        Seed of the sample of cells.

    Attributes
    ----------
    feature_names_
        Name of each column of the embedding, with the channel.

    Raises
    ------
    ImportError
        cp_measure is not installed; the extra ``features`` installs it.
    ValueError
        Images were not registered, there is no such channel or kind of measurement, or a number is out of range.
    """

    def __init__(
        self,
        mdata: MuData,
        *,
        max_cells_per_context: int | None = 20,
        n_control_cells: int | None = 500,
        control: Labels | None = CONTROL,
        mask_channel: str | int = 0,
        groups: Sequence[str] | None = None,
        n_jobs: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__(mdata)
        require("cp_measure.featurizer", "features")
        check_seed(seed)
        numbers = {"max_cells_per_context": max_cells_per_context, "n_control_cells": n_control_cells}
        check_sizes(**{name: number for name, number in numbers.items() if number is not None})
        self.groups = list(GROUPS if groups is None else groups)
        unknown = sorted(set(self.groups) - set(GROUPS))
        if unknown or not self.groups:
            raise ValueError(f"groups={groups!r}; choose from {list(GROUPS)}, or pass None for all.")
        self._channels = list(self._state["channels"])
        self._mask_position = find_channel(mask_channel, self._channels, "mask_channel", "the registered channels")
        self.max_cells_per_context, self.n_control_cells = max_cells_per_context, n_control_cells
        labels = {f"mdata[{self.modality_!r}].obs": pd.concat(self._labels(self._manager_of(None)))}
        self._control = [] if control is None else check_controls(labels, control, remedy=", or pass control=None.")
        self.n_jobs, self.seed = n_jobs, seed

    @no_epochs
    def train(self, *, enable_progress_bar: bool = True) -> None:
        """Measure the sample of cells and choose the features.

        Parameters
        ----------
        enable_progress_bar
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            No feature varies.
        """
        manager = self._manager_of(None)
        reader = self._require_modality(manager, self.modality_)
        self._low, self._high = channel_range(reader, (0.0, 0.9999), self.seed)
        self._sample_rows = self._sample(manager)
        values, names = self._measure(reader, self._sample_rows, enable_progress_bar)
        is_defined = np.isfinite(values)
        self._is_kept = is_defined.mean(axis=0) >= 1 - MAX_MISSING
        values = np.where(is_defined, values, np.nan)[:, self._is_kept]
        self._median = np.nanmedian(values, axis=0)
        filled = np.where(np.isfinite(values), values, self._median)
        mean, std = filled.mean(axis=0), filled.std(axis=0)
        varies = std > 1e-9 * np.maximum(np.abs(mean), 1.0)
        if not varies.any():
            raise ValueError(
                f"none of {len(names)} features varies between {len(values)} cells. Measure more cells, with "
                "max_cells_per_context, or more groups."
            )
        self._is_kept[np.flatnonzero(self._is_kept)[~varies]] = False
        self._median, self._mean, self._std = self._median[varies], mean[varies], std[varies]
        self.feature_names_ = [name for name, is_kept in zip(names, self._is_kept, strict=True) if is_kept]
        self._measured = self._scale(filled[:, varies])
        self._checksums = _checksums(reader, self._sample_rows)
        self.is_trained_ = True

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Compute the scaled features of cells.

        Parameters
        ----------
        mdata
            Data to measure; that of the model if ``None``.
        modality
            The modality that was registered as images, which is also the default; any other is refused.
        indices
            Rows of ``mdata[modality]`` to measure, in this order, each of them. If ``None``, the result has a row for
            every cell, NaN for all but ``max_cells_per_context`` of each context and ``n_control_cells`` controls;
            ``petri_scvi.tl`` leaves such cells out.
        batch_size
            Cells measured at a time.

        Returns
        -------
        Features, shape ``(n, D)``.

        Raises
        ------
        ValueError
            The model is not trained, or the modality is another one.
        """
        if indices is not None:
            return super().get_latent_representation(mdata, modality=modality, indices=indices, batch_size=batch_size)
        manager = self._manager_of(mdata)
        sample = self._sample(manager).tolist()
        found = super().get_latent_representation(mdata, modality=modality, indices=sample, batch_size=batch_size)
        embedding = np.full((len(self._require_modality(manager, self.modality_)), found.shape[1]), np.float32(np.nan))
        embedding[sample] = found
        return embedding

    def _sample(self, manager: AnnDataManager) -> NDArray[np.integer]:
        """Rows to measure, ascending."""
        rng = np.random.default_rng([self.seed, 1])
        rows_of = rows_by_context(context_codes(manager, self.modality_))
        chosen = np.concatenate([rng.permutation(rows)[: self.max_cells_per_context] for rows in rows_of.values()])
        controls = self._controls(manager)
        others = rng.permutation(np.setdiff1d(controls, chosen))
        n_chosen = len(controls) - len(others)
        n_more = None if self.n_control_cells is None else max(0, self.n_control_cells - n_chosen)
        return np.sort(np.concatenate([chosen, others[:n_more]]))

    def _controls(self, manager: AnnDataManager) -> NDArray[np.integer]:
        """Rows of non-targeting controls."""
        return np.flatnonzero(np.any([labels.isin(self._control) for labels in self._labels(manager)], axis=0))

    def _labels(self, manager: AnnDataManager) -> list[pd.Series]:
        """Labels of all cells that may say which are controls."""
        obs = manager.adata.mod[self.modality_].obs
        contexts = manager.get_state_registry(f"context_{self.modality_}")["categories"]
        of_context = pd.Series(np.array(contexts, dtype=object)[context_codes(manager, self.modality_)])
        columns = [column for column in CONTROL_COLUMNS if column in obs]
        return [of_context, *(as_text(read_column(obs, column, "obs")).reset_index(drop=True) for column in columns)]

    def _measure(
        self, reader: RowReader, rows: NDArray[np.integer], show_progress: bool
    ) -> tuple[NDArray[np.float64], list[str]]:
        """All features of some cells, and their names."""
        measure = partial(measure_cells, mask_channel=self._mask_position, channels=self._channels, groups=self.groups)
        scale = (self._low, self._high)
        return measure_rows(reader, rows, scale, measure, n_jobs=self.n_jobs, show_progress=show_progress)

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        filled = np.where(np.isfinite(values), values, self._median)
        return ((filled - self._mean) / self._std).astype(np.float32)

    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        embedding = np.empty((len(rows), len(self.feature_names_)), dtype=np.float32)
        is_known = np.isin(rows, self._sample_rows) if self._is_own(manager) else np.zeros(len(rows), dtype=bool)
        place = np.searchsorted(self._sample_rows, rows[is_known])
        embedding[is_known] = self._measured[place]
        # Pixels may have changed since then; reading them is fast compared with measuring.
        is_known[is_known] = _checksums(reader, rows[is_known]) == self._checksums[place]
        others = np.flatnonzero(~is_known)
        for start in range(0, len(others), batch_size):
            places = others[start : start + batch_size]
            values, _ = self._measure(reader, rows[places], show_progress=False)
            embedding[places] = self._scale(values[:, self._is_kept])
        return embedding


def _checksums(reader: RowReader, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Checksum of the pixels of each row."""
    found = [zlib.crc32(image.tobytes()) for chunk in reader.chunks(rows) for image in chunk]
    return np.array(found, dtype=np.int64)
