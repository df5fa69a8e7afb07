"""Split by cell into training and validation, and the loaders of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np

from petri_scvi._checks import check_flags, check_sizes
from petri_scvi.dataloaders._dataset import DocumentDataset
from petri_scvi.dataloaders._prefetch import PrefetchLoader
from petri_scvi.dataloaders._sampler import DocumentSampler, rows_by_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch.utils.data import DataLoader

    from petri_scvi.dataloaders._row_reader import RowReader


def split_cells(
    codes: NDArray[np.integer], train_size: float, validation_size: float | None, rng: np.random.Generator
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Split the cells of one modality so that every context keeps its share in each part.

    One cell of every context always trains: a context without training cells could not form a document.

    Parameters
    ----------
    codes
        Context code of each cell, shape ``(n,)``.
    train_size, validation_size
        Fractions of the cells; ``validation_size=None`` takes all that do not train.
    rng
        Source of the split.

    Returns
    -------
    Ascending rows that train, validate and test; what neither trains nor validates is for testing.

    Raises
    ------
    ValueError
        The fractions are out of range.
    """
    if validation_size is None:
        validation_size = 1.0 - train_size
    if not 0 < train_size <= 1 or not 0 <= validation_size <= 1 or train_size + validation_size > 1 + 1e-9:
        raise ValueError(
            f"train_size={train_size} and validation_size={validation_size}: train_size must lie in (0, 1], "
            "validation_size in [0, 1], and their sum may not exceed 1; for example train_size=0.9."
        )
    shuffled = rng.permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]  # by context, at random inside
    is_first = np.r_[True, np.diff(codes[order]) != 0] if len(order) else np.empty(0, dtype=bool)
    rest = order[~is_first]
    n_validation = min(round(len(codes) * validation_size), len(rest))
    n_held_out = min(round(len(codes) * (1 - train_size)), len(rest))
    n_held_out = max(n_held_out, n_validation)
    # Evenly spaced along the contexts: each loses its share, whatever its size.
    held_out = rest[((np.arange(n_held_out) + 0.5) * len(rest) / max(n_held_out, 1)).astype(int)]
    is_validation = np.zeros(n_held_out, dtype=bool)
    is_validation[((np.arange(n_validation) + 0.5) * n_held_out / max(n_validation, 1)).astype(int)] = True
    train = np.setdiff1d(np.arange(len(codes)), held_out)
    return train, np.sort(held_out[is_validation]), np.sort(held_out[~is_validation])


class DocumentDataModule(pl.LightningDataModule):
    """Minibatches of documents for training and validation.

    Parameters
    ----------
    readers
        Modality to its cells.
    codes
        Modality to the context code of each of its cells; the same code is the same context everywhere.
    train_size, validation_size
        Fractions of the cells of each context, as in :func:`split_cells`.
    n_contexts_per_minibatch
        Documents per minibatch (G).
    n_cells_per_context
        Cells per document and modality (S).
    seed
        Seed of split and draws.
    draw_runs
        Whether training documents are runs of neighbouring cells, as in :class:`DocumentSampler`; validation documents
        never are.
    pin_memory
        Whether to copy minibatches to page-locked memory, from which the transfer to a GPU is not waited for. By
        default where training runs on CUDA.

    Raises
    ------
    ValueError
        An argument is out of range.
    """

    def __init__(
        self,
        readers: Mapping[str, RowReader],
        codes: Mapping[str, NDArray[np.integer]],
        *,
        train_size: float = 0.9,
        validation_size: float | None = None,
        n_contexts_per_minibatch: int = 8,
        n_cells_per_context: int = 8,
        seed: int = 0,
        draw_runs: bool = False,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        check_sizes(n_contexts_per_minibatch=n_contexts_per_minibatch, n_cells_per_context=n_cells_per_context)
        check_flags(draw_runs=draw_runs)
        if pin_memory is not None:
            check_flags(pin_memory=pin_memory)
        self.readers = dict(readers)
        self.n_contexts_per_minibatch = n_contexts_per_minibatch
        self.n_cells_per_context = n_cells_per_context
        self.seed = seed
        self.draw_runs = draw_runs
        self.pin_memory = pin_memory
        # Modalities in order of their names: the split does not depend on how the MuData lists them.
        splits = {
            name: split_cells(codes[name], train_size, validation_size, np.random.default_rng([seed, i]))
            for i, name in enumerate(sorted(codes))
        }
        self.train_idx, self.val_idx, self.test_idx = (
            {name: splits[name][part] for name in codes} for part in range(3)
        )
        self.n_train, self.n_val = (sum(map(len, part.values())) for part in (self.train_idx, self.val_idx))
        self._train_rows = {name: rows_by_context(codes[name], rows) for name, rows in self.train_idx.items()}
        self._val_rows = _complete_contexts(
            {name: rows_by_context(codes[name], rows) for name, rows in self.val_idx.items()}, self._train_rows
        )

    @property
    def n_kinds_of_documents(self) -> int:
        """Different sets of modalities among the training documents; more than one if contexts lack a modality."""
        contexts = set().union(*self._train_rows.values())
        return len({tuple(context in rows for rows in self._train_rows.values()) for context in contexts})

    def train_dataloader(self) -> DataLoader:
        """Minibatches of training cells, other documents in every epoch."""
        return self._dataloader(self._train_rows, is_fixed=False)

    def val_dataloader(self) -> DataLoader | list:
        """Minibatches of validation cells, the same documents in every epoch."""
        if not any(self._val_rows.values()):
            return []
        return self._dataloader(self._val_rows, is_fixed=True)

    def _dataloader(self, rows_of: dict[str, dict[int, Any]], *, is_fixed: bool) -> DataLoader:
        sampler = DocumentSampler(
            rows_of,
            self.n_contexts_per_minibatch,
            self.n_cells_per_context,
            seed=self.seed,
            is_fixed=is_fixed,
            draw_runs=self.draw_runs and not is_fixed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        # batch_size=None: the sampler yields whole minibatches. Worker processes would cost more than they read.
        pin_memory = self._is_on_cuda if self.pin_memory is None else self.pin_memory
        return PrefetchLoader(DocumentDataset(self.readers), sampler=sampler, batch_size=None, pin_memory=pin_memory)

    @property
    def _is_on_cuda(self) -> bool:
        """Whether minibatches go to a CUDA device."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def _complete_contexts(
    held_out: dict[str, dict[int, Any]], training: dict[str, dict[int, Any]]
) -> dict[str, dict[int, Any]]:
    """Drop contexts whose held-out cells lack a modality that their training cells have.

    Scored in documents of another kind than they train in, they would blur the validation loss. If no context is
    complete, all are kept.
    """
    incomplete = {
        context
        for name, rows in training.items()
        for context in rows
        if context not in held_out[name] and any(context in other for other in held_out.values())
    }
    kept = {
        name: {context: rows for context, rows in part.items() if context not in incomplete}
        for name, part in held_out.items()
    }
    return kept if any(kept.values()) else held_out
