"""Effect of a document's context on the reconstruction of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from petri_scvi.model._documents import RandomMask, documents_of_targets, fuse_cells
from petri_scvi.model.reconstruction._paired import paired_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from petri_scvi._module import PETRIModule
    from petri_scvi.dataloaders import DocumentRows, RowReader

    RowsOf = Mapping[str, dict[int, NDArray[np.integer]]]


def masked_losses(
    module: PETRIModule,
    readers: Mapping[str, RowReader],
    modality: str,
    targets: NDArray[np.integer],
    documents: Sequence[tuple[DocumentRows, NDArray[np.integer]]],
    *,
    seed: int,
) -> NDArray[np.float32]:
    """Loss of the masked tokens of each target, given its document; shape ``(n,)``."""
    network = module.modality(modality)
    mask = RandomMask(network.n_tokens, module.mask_ratio_of(modality), seed)
    losses = np.empty(len(targets), dtype=np.float32)
    fused = fuse_cells(
        module,
        readers,
        modality,
        targets,
        documents,
        target_mask=mask,
        companions_are_masked=True,
        seed=seed + 1,
    )
    with torch.inference_mode():
        for placed, latents in fused:
            inputs = network.prepare(torch.from_numpy(readers[modality].read(targets[placed])).to(module.device))
            hidden = torch.from_numpy(mask[placed]).to(module.device)
            losses[placed] = network.loss(network.decode(latents, inputs), inputs, hidden).cpu().numpy()
    return losses


def gain_of_context(
    module: PETRIModule,
    readers: Mapping[str, RowReader],
    codes: Mapping[str, NDArray[np.integer]],
    targets: Mapping[str, NDArray[np.integer]],
    pool: RowsOf,
    *,
    n_cells_per_context: int,
    n_documents: int,
    seed: int,
    cells: Mapping[str, NDArray[np.integer]] | None = None,
) -> pd.DataFrame:
    """Loss of each target among companions of its own context against companions of another.

    Parameters
    ----------
    module
        The module, in evaluation mode.
    readers, codes
        Cells and context codes of each modality.
    targets
        Rows to reconstruct, per modality.
    pool
        Modality to context code to rows that may be companions.
    n_cells_per_context
        Companions of each modality (S).
    n_documents
        Documents of each kind that a target is reconstructed in; its losses are averaged.
    seed
        Seed of masks, companions and other contexts.
    cells
        Number of the cell of each row, by modality, if a target has no companion that is the same cell.

    Returns
    -------
    One row per target cell and source: ``modality``, ``source``, ``row``, ``context`` (its code), ``loss_own``,
    ``loss_other``.
    """
    tables = []
    for modality, rows in targets.items():
        sources: dict[str, tuple[str, ...]] = {name: (name,) for name in pool}
        if len(pool) > 1:
            sources["all"] = tuple(pool)
        for source, names in sources.items():
            usable, other = _other_contexts(rows, codes[modality], pool, names, np.random.default_rng([seed, 0]))
            losses = {"own": np.zeros(len(usable)), "other": np.zeros(len(usable))}
            for repeat in range(n_documents):
                for kind in losses:
                    # One stream for both kinds: masks and, where contexts coincide, companions are the same.
                    rng = np.random.default_rng([seed, 1, repeat])
                    contexts = codes[modality][usable] if kind == "own" else other
                    documents = documents_of_targets(
                        usable, modality, dict.fromkeys(names, contexts), pool, n_cells_per_context, rng, cells=cells
                    )
                    losses[kind] += masked_losses(
                        module, readers, modality, usable, documents, seed=seed + 1000 * repeat
                    )
            tables.append(
                pd.DataFrame(
                    {
                        "modality": modality,
                        "source": source,
                        "row": usable,
                        "context": codes[modality][usable],
                        "loss_own": losses["own"] / n_documents,
                        "loss_other": losses["other"] / n_documents,
                    }
                )
            )
    per_cell = pd.concat(tables, ignore_index=True)
    if per_cell.empty:
        raise ValueError(
            "no cell to reconstruct has companions of its own context; pass indices of cells whose context has two or "
            "more cells in some modality."
        )
    return per_cell


def summarise_gain(per_cell: pd.DataFrame) -> pd.DataFrame:
    """Paired statistics of :func:`gain_of_context`, one row per modality and source.

    Parameters
    ----------
    per_cell
        Losses of each cell.

    Returns
    -------
    ``n_cells`` and ``n_contexts``; mean ``loss_own`` and ``loss_other``; ``gain``, their difference, with its 95 %
    interval ``gain_low`` and ``gain_high``, and ``p_value``, both between contexts, as
    :func:`paired_statistics` has them; ``relative_gain`` to ``loss_other``, NaN if that is 0; ``effect_size``, Cohen's
    d over cells; ``share_of_cells`` that gain.
    """
    rows = []
    for (modality, source), cells in per_cell.groupby(["modality", "source"], sort=False):
        found = paired_statistics((cells["loss_other"] - cells["loss_own"]).to_numpy(), cells["context"].to_numpy())
        own, other = cells["loss_own"].mean(), cells["loss_other"].mean()
        rows.append(
            {
                "modality": modality,
                "source": source,
                "n_cells": found["n_cells"],
                "n_contexts": found["n_contexts"],
                "loss_own": own,
                "loss_other": other,
                "gain": found["mean"],
                "gain_low": found["low"],
                "gain_high": found["high"],
                "relative_gain": found["mean"] / other if other else np.nan,
                "effect_size": found["effect_size"],
                "share_of_cells": found["share_of_cells"],
                "p_value": found["p_value"],
            }
        )
    return pd.DataFrame(rows)


def _other_contexts(
    rows: NDArray[np.integer],
    codes: NDArray[np.integer],
    pool: RowsOf,
    names: Sequence[str],
    rng: np.random.Generator,
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Targets whose context has companions in the source modalities, and another such context for each."""
    measured = np.array(
        sorted(set.intersection(*({c for c, cells in pool[name].items() if len(cells) > 1} for name in names))),
        dtype=int,
    )
    if len(measured) < 2:
        raise ValueError(
            f"{len(measured)} contexts have two or more cells in {list(names)}; comparing a context with another needs "
            "at least two."
        )
    usable = rows[np.isin(codes[rows], measured)]
    own = np.searchsorted(measured, codes[usable])
    shift = rng.integers(1, len(measured), size=len(usable))
    return usable, measured[(own + shift) % len(measured)]
