"""Reconstruct masked cells, and measure what their companions contribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from petri_scvi._checks import check_sizes
from petri_scvi.common import rows_from_indices
from petri_scvi.dataloaders import rows_by_context
from petri_scvi.model._companions import CompanionsMixin
from petri_scvi.model._documents import CELLS_PER_CHUNK, RandomMask, random_mask
from petri_scvi.model.reconstruction._cross_modal import gain_of_context, masked_losses, summarise_gain
from petri_scvi.model.reconstruction._measurement import MeasurementMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager
    from torch import Tensor

    from petri_scvi.dataloaders import RowReader

N_CELLS_FOR_AVERAGES = 5_000
"""Number of training cells over which model-free baselines average."""


class Reconstruction(NamedTuple):
    """What the decoders predict for cells whose tokens were masked."""

    prediction: NDArray[np.float32]
    """Images ``(n, C, H, W)`` in intensity units, or expected expression ``(n, n_genes)``."""
    mask: NDArray[np.bool_]
    """True where a patch ``(n, n_patches)`` or a gene ``(n, n_genes)`` was masked."""


class ReconstructionMixin(MeasurementMixin, CompanionsMixin):
    """What the decoders predict."""

    @torch.inference_mode()
    def get_reconstruction(
        self,
        mdata: MuData | None = None,
        *,
        modality: str,
        indices: Sequence[int] | None = None,
        mask: NDArray[np.bool_] | None = None,
        companions: Mapping[str, str | Sequence[str] | None] | None = None,
        n_cells_per_context: int | None = None,
        seed: int = 0,
    ) -> Reconstruction:
        """Reconstruct cells from what is visible of them and of companions of the same context.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        modality
            Modality to reconstruct.
        indices
            Rows of ``mdata[modality]``; all if ``None``.
        mask
            True where a patch ``(n, n_patches)`` or gene ``(n, n_genes)`` is hidden; random, with the model's
            ``mask_ratio``, if ``None``. Patches are numbered row by row.
        companions
            For each modality, the context or contexts whose cells join each target, ``None`` for the target's own; for
            example ``{"rna": "non-targeting"}``. Modalities that are not named contribute no companions, so ``{}``
            reconstructs each target alone. By default all modalities have cells of the target's context, as in
            training.
        n_cells_per_context
            Cells of each modality in a document (S); as in training if ``None``.
        seed
            Seed of random masks and companions.

        Returns
        -------
        ``prediction`` for all patches or genes, visible ones included, and the ``mask`` used.

        Raises
        ------
        ValueError
            The mask does not fit, or masks every token of a cell. A context of ``companions`` has no cells, or the
            model has no set transformer that could use them.
        """
        self._check_if_trained(warn=True)
        manager = self._manager_of(mdata)
        reader = self._require_modality(manager, modality)
        rows = rows_from_indices(indices, len(reader))
        network = self.module.modality(modality)
        if mask is None:
            mask = random_mask(len(rows), network.n_tokens, self.module.mask_ratio_of(modality), seed)
        else:
            mask = _check_mask(mask, (len(rows), network.n_tokens))
        prediction = np.empty((len(rows), *reader.shape[1:]), dtype=np.float32)
        fused = self._fuse(
            manager, modality, rows, mask=mask, n_cells=n_cells_per_context, seed=seed, companions=companions
        )
        for placed, latents in fused:
            inputs = self._prepared(modality, reader, rows[placed])
            prediction[placed] = network.to_measurement(network.decode(latents, inputs)).cpu().numpy()
        return Reconstruction(prediction, mask)

    @torch.inference_mode()
    def get_reconstruction_error(
        self,
        mdata: MuData | None = None,
        *,
        indices: Mapping[str, Sequence[int]] | None = None,
        n_cells_per_context: int | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Compute the loss of masked patches and genes, and that of model-free baselines, which predict averages.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        indices
            Rows to reconstruct, per modality. By default the validation cells of the model's own data, and all cells
            of other data.
        n_cells_per_context
            Cells of each modality in a document (S); as in training if ``None``.
        seed
            Seed of masks and companions.

        Returns
        -------
        One row per ``modality`` and ``predictor``: ``n_cells``, mean ``loss`` (squared error of normalised pixels, or
        negative log-likelihood per gene), and ``margin``, by how much of its loss PETRI is below it, NaN if that is 0.
        Averages are taken of the model's training cells, or of the data itself if it is other data.

        Raises
        ------
        ValueError
            There are no cells to reconstruct.
        """
        self._check_if_trained(warn=True)
        manager = self._manager_of(mdata)
        readers = self._readers(manager)
        tables = []
        for name, rows in self._targets(manager, indices).items():
            network, reader = self.module.modality(name), readers[name]
            documents = self._documents_of(manager, name, rows, n_cells_per_context, seed)
            losses = {"PETRI": masked_losses(self.module, readers, name, rows, documents, seed=seed)}
            is_split = self._is_own(manager) and self.train_indices is not None
            known = self.train_indices[name] if is_split else np.arange(len(reader))
            known = np.random.default_rng([seed, 2]).permutation(known)[:N_CELLS_FOR_AVERAGES]
            mask = RandomMask(network.n_tokens, self.module.mask_ratio_of(name), seed)
            scores = network.model_free_scores(self._prepared(name, reader, known))
            parts: dict[str, list[NDArray[np.float32]]] = {predictor: [] for predictor in scores}
            for part in np.array_split(np.arange(len(rows)), -(-len(rows) // CELLS_PER_CHUNK)):
                inputs = self._prepared(name, reader, rows[part])
                hidden = torch.from_numpy(mask[part]).to(self.module.device)
                for predictor, score in scores.items():
                    parts[predictor].append(score(inputs, hidden).cpu().numpy())
            losses |= {predictor: np.concatenate(found) for predictor, found in parts.items()}
            means = {predictor: float(loss.mean()) for predictor, loss in losses.items()}
            tables += [
                {
                    "modality": name,
                    "predictor": predictor,
                    "n_cells": len(rows),
                    "loss": mean,
                    "margin": 1 - means["PETRI"] / mean if mean else np.nan,
                }
                for predictor, mean in means.items()
            ]
        return pd.DataFrame(tables)

    def cross_modal_gain(
        self,
        mdata: MuData | None = None,
        *,
        indices: Mapping[str, Sequence[int]] | None = None,
        n_cells_per_context: int | None = None,
        n_documents: int = 2,
        seed: int = 0,
        is_summarised: bool = True,
    ) -> pd.DataFrame:
        """Measure how much companions of a cell's own context help to reconstruct it, relative to another context.

        Each target cell is masked as in training and reconstructed twice with the same mask: next to S cells of its
        own context, and next to S cells of another. With the other modality as ``source``, the target has no companion
        of its own modality, so that only information that crosses modalities can distinguish the two. A model that
        learned nothing shared, such as one trained on permuted contexts, shows no gain.

        Parameters
        ----------
        mdata
            Data; that of the model if ``None``.
        indices
            Rows to reconstruct, per modality. By default the validation cells of the model's own data, and all cells
            of other data.
        n_cells_per_context
            Companions of each modality (S); as in training if ``None``.
        n_documents
            Documents of each kind that a cell is reconstructed in; its losses are averaged.
        seed
            Seed of masks, companions and other contexts.
        is_summarised
            Whether to return one row per pair of modalities, or the losses of every cell.

        Returns
        -------
        One row per ``modality`` of the target and ``source`` of the companions (a modality, or ``"all"``): ``n_cells``
        and their ``n_contexts``, ``loss_own``, ``loss_other``, ``gain`` (their difference, mean over cells) with its
        95 % interval ``gain_low`` and ``gain_high``, ``relative_gain``, ``effect_size`` (Cohen's d of the paired
        differences of cells), ``share_of_cells`` that gain, and ``p_value`` (two-sided Wilcoxon signed-rank test of
        the mean gain of each context). Not summarised: ``modality``, ``source``, ``row``, ``context``, ``loss_own``
        and ``loss_other`` of each cell.

        Raises
        ------
        ValueError
            There are no validation cells, or fewer than two contexts to compare.

        Notes
        -----
        Cells of a context are reconstructed next to the same few companions and share their effect on the loss, so the
        interval and the p-value treat contexts, not cells, as independent. With six contexts no p-value is below 0.03;
        with a single one both are NaN.
        """
        self._check_if_trained(warn=True)
        check_sizes(n_documents=n_documents)
        manager = self._manager_of(mdata)
        readers, codes = self._readers(manager), self._codes(manager)
        targets = self._targets(manager, indices)
        self.module.eval()
        per_cell = gain_of_context(
            self.module,
            readers,
            codes,
            targets,
            {name: rows_by_context(codes[name]) for name in readers},
            n_cells_per_context=self._document_size(n_cells_per_context),
            n_documents=n_documents,
            seed=seed,
            cells=self._numbered_cells(manager),
        )
        names = manager.get_state_registry(f"context_{next(iter(readers))}")["categories"]  # of all modalities
        per_cell["context"] = np.asarray(names, dtype=object)[per_cell["context"]]
        return summarise_gain(per_cell) if is_summarised else per_cell

    def _prepared(self, modality: str, reader: RowReader, rows: NDArray[np.integer]) -> Tensor:
        """Cells as they are encoded and scored, on the device of the module."""
        return self.module.modality(modality).prepare(torch.from_numpy(reader.read(rows)).to(self.module.device))

    def _targets(
        self, manager: AnnDataManager, indices: Mapping[str, Sequence[int]] | None
    ) -> dict[str, NDArray[np.integer]]:
        """Rows to reconstruct, per modality: those given, else validation cells, else all."""
        readers = self._readers(manager)
        if indices is None:
            held_out = self.validation_indices if self._is_own(manager) else None
            indices = held_out or {name: np.arange(len(reader)) for name, reader in readers.items()}
        elif not isinstance(indices, Mapping) or set(indices) - set(readers):
            given = list(indices) if isinstance(indices, Mapping) else f"a {type(indices).__name__}"
            raise ValueError(
                f"indices has {given}; expected rows for some of {list(readers)}, for example "
                f"indices={{{next(iter(readers))!r}: [0, 1]}}."
            )
        rows = {name: rows_from_indices(indices[name], len(readers[name])) for name in readers if name in indices}
        targets: dict[str, NDArray[np.integer]] = {name: found for name, found in rows.items() if len(found)}
        if not targets:
            raise ValueError(
                "there are no cells to reconstruct: no validation cells, or no indices. Pass "
                "indices={'image': ..., 'rna': ...}, or train with train_size=0.9."
            )
        return targets


def _check_mask(mask: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"mask has dtype {mask.dtype} and shape {mask.shape}; expected bool and {shape}: one row per cell, one "
            "column per patch or gene, True where hidden."
        )
    n_blind = int(mask.all(axis=1).sum())
    if n_blind:
        raise ValueError(f"mask hides every token of {n_blind} cells; leave at least one visible.")
    return mask
