"""Minibatches of documents: the loaders of training and validation cells, which read ahead in a thread."""

from __future__ import annotations

import queue
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from petri_scvi._checks import check_flags, check_sizes
from petri_scvi.common._warn import warn
from petri_scvi.dataloaders._group_documents import GROUP_SHARE, check_group_share, groups_by_modalities
from petri_scvi.dataloaders._partners import Apart, check_apart, codes_of_cells, rows_of_cells, without_contexts
from petri_scvi.dataloaders._sampler import (
    DocumentSampler,
    complete_contexts,
    contexts_by_modalities,
    given_split,
    rows_by_context,
    split_cells,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from petri_scvi.dataloaders._row_reader import RowReader
    from petri_scvi.dataloaders._sampler import DocumentRows

T = TypeVar("T")

N_AHEAD = 2
POLL_SECONDS = 0.1


class DocumentDataModule(pl.LightningDataModule):
    """Minibatches of documents for training and validation.

    Parameters
    ----------
    readers
        Reader of the cells of each modality.
    codes
        Context code of each cell, by modality; a code means the same context in all modalities.
    groups
        Context codes of each group, which may overlap; ``train`` takes them from ``setup_mudata(context_groups=...)``.
    cells
        Number of the cell of each row, by modality, to hide partners; ``train`` takes it from
        ``setup_mudata(hide_partners=True)``. Rows of one cell are in the same part of the split, but not in a document.
    train_size, validation_size
        Fractions of the cells of each context, as in ``split_cells``.
    external_indexing
        A split to use instead: rows for training, validation and testing, of which the last may be left out. Each is a
        mapping from modality to rows, such as ``[model.train_indices, model.validation_indices]``.
    n_contexts_per_minibatch
        Documents per minibatch (G).
    n_cells_per_context
        Cells per document and modality (S).
    group_share
        Share of the training documents that are drawn by group, above 0 and up to 1; 0.5 if ``None``. They hold cells
        of several contexts of one group, the same contexts in each modality; the rest are drawn by context. Contexts
        that lack a modality are drawn by group only with others that lack it. Validation documents are always drawn by
        context, so that their loss can be compared whatever the groups.
    seed
        Seed of split and draws.
    draw_runs
        Whether training documents are runs of neighbouring cells, as in :class:`DocumentSampler`; validation documents
        never are.
    pin_memory
        Whether to copy minibatches to page-locked memory, from which transfers to a GPU are asynchronous. By default if
        training runs on CUDA.

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
        groups: Sequence[NDArray[np.integer]] = (),
        cells: Mapping[str, NDArray[np.integer]] | None = None,
        train_size: float | None = 0.9,
        validation_size: float | None = None,
        external_indexing: Sequence[Mapping[str, Sequence[int] | NDArray[np.integer]]] | None = None,
        n_contexts_per_minibatch: int = 8,
        n_cells_per_context: int = 8,
        group_share: float | None = None,
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
        self.groups, self.cells = list(groups), cells
        self.group_share = check_group_share(group_share, bool(self.groups), n_cells_per_context)
        self.n_contexts_per_minibatch = n_contexts_per_minibatch
        self.n_cells_per_context = n_cells_per_context
        self.seed = seed
        self.draw_runs = draw_runs
        self.pin_memory = pin_memory
        self.train_size = train_size
        if external_indexing is not None:
            splits = given_split(external_indexing, {name: len(codes[name]) for name in codes})
        elif cells is not None:
            rng = np.random.default_rng([seed, 0])
            splits = rows_of_cells(split_cells(codes_of_cells(codes, cells), train_size, validation_size, rng), cells)
        else:
            # Modalities in order of their names, so that the split does not depend on their order in the MuData.
            splits = {
                name: split_cells(codes[name], train_size, validation_size, np.random.default_rng([seed, i]))
                for i, name in enumerate(sorted(codes))
            }
        self.train_idx, self.val_idx, self.test_idx = (
            {name: splits[name][part] for name in codes} for part in range(3)
        )
        self.n_train, self.n_val = (sum(map(len, part.values())) for part in (self.train_idx, self.val_idx))
        self._train_rows = {name: rows_by_context(codes[name], rows) for name, rows in self.train_idx.items()}
        self._val_rows = complete_contexts(
            {name: rows_by_context(codes[name], rows) for name, rows in self.val_idx.items()}, self._train_rows
        )
        if cells is not None:
            check_apart(Apart(self._train_rows, cells))
            self._val_rows = without_contexts(self._val_rows, Apart(self._val_rows, cells).close_contexts())
        if self.groups:
            self._check_groups()

    def _check_groups(self) -> None:
        contexts_of = contexts_by_modalities(self._train_rows)
        found = groups_by_modalities(self.groups, contexts_of)
        n_idle = sum(
            len(np.setdiff1d(contexts_of[kind], np.concatenate([*of_kind.values()])))
            for kind, of_kind in found.items()
            if of_kind
        )
        if self.group_share == 1 and n_idle:
            warn(
                f"group_share=1 draws all documents by group, and {n_idle} contexts are in no group: their cells do "
                "not train. Pass a smaller group_share, such as 0.5."
            )

    @property
    def n_obs(self) -> int:
        """Cells of the larger modality, which are as many as are drawn in an epoch if all of them train."""
        return max(map(len, self.readers.values()))

    @property
    def data_loader_kwargs(self) -> dict[str, Any]:
        """What determines the minibatches; scvi-tools logs it to MLflow."""
        names = ("n_contexts_per_minibatch", "n_cells_per_context", "group_share", "seed", "draw_runs")
        return {name: getattr(self, name) for name in names}

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
            groups=() if is_fixed else self.groups,
            group_share=self.group_share or GROUP_SHARE,
            cells=self.cells,
            draw_runs=self.draw_runs and not is_fixed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        # batch_size=None: the sampler yields whole minibatches. Worker processes would cost more time than they save.
        pin_memory = self._is_on_cuda if self.pin_memory is None else self.pin_memory
        return PrefetchLoader(DocumentDataset(self.readers), sampler=sampler, batch_size=None, pin_memory=pin_memory)

    @property
    def _is_on_cuda(self) -> bool:
        """Whether minibatches go to a CUDA device."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


class DocumentDataset(Dataset[dict[str, Any]]):
    """Minibatches of documents by their rows.

    Parameters
    ----------
    readers
        Reader of the cells of each modality.
    """

    def __init__(self, readers: Mapping[str, RowReader]) -> None:
        self.readers = dict(readers)

    def __getitem__(self, documents: DocumentRows) -> dict[str, Any]:
        """Read a minibatch.

        Returns
        -------
        ``cells``: per modality the raw cells, shape ``(G * S, ...)`` in their own dtype, document by document;
        ``context``: the code of each document, shape ``(G,)``.
        """
        cells = {
            # Integers stay integers, because they need only a half or a quarter of the bytes.
            name: torch.from_numpy(self.readers[name].read(rows.reshape(-1)))
            for name, rows in documents.rows.items()
        }
        return {"cells": cells, "context": torch.from_numpy(documents.context)}


class PrefetchLoader(DataLoader[Any]):
    """A ``DataLoader`` without worker processes that reads ahead in a thread.

    Lightning saves its state with a checkpoint, so that training can resume in the middle of an epoch. Its sampler has
    ``epoch`` and ``skip``, as :class:`petri_scvi.dataloaders.DocumentSampler`.
    """

    _n_yielded = 0
    _resumed: dict[str, int] | None = None

    def __iter__(self) -> Any:
        """Minibatches in order."""
        sampler: Any = self.sampler
        resumed, self._resumed = self._resumed, None
        self._n_yielded = 0
        # The checkpoint may lie at the end of its epoch, after which the next one is drawn from its start.
        if resumed is not None and resumed["epoch"] == sampler.epoch:
            self._n_yielded = resumed["n_minibatches"]
            sampler.skip(self._n_yielded)
        with closing(prefetch(super().__iter__())) as minibatches:
            for minibatch in minibatches:
                # Without minibatches that were read ahead, which have not been used yet.
                self._n_yielded += 1
                yield minibatch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its minibatches were taken."""
        sampler: Any = self.sampler
        return {"epoch": sampler.epoch, "n_minibatches": self._n_yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration where the saved one was."""
        self._resumed = dict(state)


def prefetch(source: Iterable[T], n_ahead: int = N_AHEAD) -> Generator[T]:
    """Yield the items of ``source`` in order, preparing the next ones while the current one is used.

    A thread, not a process: reading releases the interpreter's lock, and nothing has to be copied between processes.

    Parameters
    ----------
    source
        What to iterate over; an error in it is raised after the items before it.
    n_ahead
        Number of items to prepare ahead.

    Yields
    ------
    The items.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=n_ahead)
    is_abandoned = threading.Event()

    def put(is_item: bool, item: Any) -> None:
        while not is_abandoned.is_set():
            try:
                waiting.put((is_item, item), timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def fill() -> None:
        try:
            for item in source:
                put(True, item)
                if is_abandoned.is_set():
                    return
            put(False, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            put(False, error)

    thread = threading.Thread(target=fill, name="petri_scvi-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = waiting.get()
            if is_item:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        is_abandoned.set()
        thread.join()
