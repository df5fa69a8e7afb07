"""Choose the rows for training and validation, and those of the next documents. Integers in, integers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from petri_scvi.common import rows_from_indices
from petri_scvi.dataloaders._group_documents import (
    GROUP_SHARE,
    cells_per_member,
    draw_documents,
    groups_by_modalities,
)
from petri_scvi.dataloaders._partners import Apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    RowsOf = dict[str, dict[int, NDArray[np.integer]]]
    """Rows by modality and context code."""


class DocumentRows(NamedTuple):
    """Rows of one minibatch of documents."""

    context: NDArray[np.integer]
    """Context code of each document, shape ``(G,)``; -1, -2, ... for documents of the first group, the second, ..."""
    rows: dict[str, NDArray[np.integer]]
    """Rows of each modality, shape ``(G, S)``."""


def rows_by_context(codes: NDArray[np.integer], rows: NDArray[np.integer] | None = None) -> dict[int, NDArray]:
    """Group rows of one modality by their context.

    Parameters
    ----------
    codes
        Context code of every cell of the modality, shape ``(n,)``.
    rows
        The rows to group; all if ``None``.

    Returns
    -------
    Rows by context code.
    """
    rows = np.arange(len(codes)) if rows is None else np.asarray(rows)
    order = rows[np.argsort(codes[rows], kind="stable")]
    found, starts = np.unique(codes[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}


def split_cells(
    codes: NDArray[np.integer], train_size: float | None, validation_size: float | None, rng: np.random.Generator
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Split the cells of one modality so that every context keeps its share in each part.

    One cell of every context is always a training cell: a context without any could not form a document.

    Parameters
    ----------
    codes
        Context code of each cell, shape ``(n,)``.
    train_size, validation_size
        Fractions of the cells; ``train_size=None`` is 0.9, and ``validation_size=None`` all that are not for training.
    rng
        Source of the split.

    Returns
    -------
    Ascending rows for training, validation and testing; those left over are for testing.

    Raises
    ------
    ValueError
        The fractions are out of range.
    """
    train_size = 0.9 if train_size is None else train_size
    if validation_size is None:
        validation_size = 1.0 - train_size
    if not 0 < train_size <= 1 or not 0 <= validation_size <= 1 or train_size + validation_size > 1 + 1e-9:
        raise ValueError(
            f"train_size={train_size} and validation_size={validation_size}: train_size must lie in (0, 1], "
            "validation_size in [0, 1], and their sum may not exceed 1; for example train_size=0.9."
        )
    shuffled = rng.permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]  # by context, in random order within each
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


def given_split(
    parts: Sequence[Mapping[str, Any]], n_cells: Mapping[str, int]
) -> dict[str, tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]]:
    """Ascending rows for training, validation and testing of each modality, as the user chose them.

    Parameters
    ----------
    parts
        Up to three mappings from modality to rows; rows that none of them has are not used.
    n_cells
        Number of cells of each modality.

    Raises
    ------
    ValueError
        There are more parts or other modalities, a modality has no training cells, or parts share a cell.
    """
    example = "external_indexing=[model.train_indices, model.validation_indices, model.test_indices]"
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= 3:
        raise ValueError(f"external_indexing is a {type(parts).__name__}; expected a list of 1 to 3 parts: {example}.")
    if not all(isinstance(part, Mapping) and set(part) <= set(n_cells) for part in parts):
        raise ValueError(
            f"external_indexing needs mappings from modality to rows, and the data has the modalities {list(n_cells)}; "
            f"for example {example}."
        )
    splits: dict[str, tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]] = {}
    for name, n in n_cells.items():
        train, validation, test = (
            np.unique(rows_from_indices(parts[i].get(name, []), n)) if i < len(parts) else np.arange(0)
            for i in range(3)
        )
        n_shared = len(train) + len(validation) + len(test) - len(np.unique(np.r_[train, validation, test]))
        if n_shared or not len(train):
            found = f"{n_shared} cells of {name!r} in several parts" if n_shared else f"no training cells of {name!r}"
            raise ValueError(f"external_indexing has {found}; give each cell to one part, and some to training.")
        splits[name] = (train, validation, test)
    return splits


class DocumentSampler(Sampler[DocumentRows]):
    """Draw documents: contexts evenly, and cells of a context with replacement :cite:p:`PETRI2026`.

    Every context is drawn once before any is drawn again, so that a perturbation with few cells is seen as often as one
    with many. All documents of a minibatch hold the same modalities, so a context measured in one modality only still
    trains, in minibatches of its own kind.

    Parameters
    ----------
    rows_of
        Rows by modality and context code.
    n_contexts_per_minibatch
        Documents per minibatch (G).
    n_cells_per_context
        Cells per document and modality (S).
    seed
        Seed of the draws.
    is_fixed
        Whether every epoch draws the same documents, for validation. The cells of a document are then distinct as far
        as the context has enough: copies of a cell have different masks and would reveal its masked tokens, and
        held-out cells are so few that copies would be common.
    n_minibatches
        Minibatches per epoch and rank. By default as many as it takes to draw as many cells as there are in the larger
        modality.
    groups
        Context codes of each group; groups may overlap. A share of the documents then holds cells of several contexts
        of a group, as many of each as there is room for, in every modality cells of the same contexts.
    group_share
        Share of the documents that are drawn by group, above 0 and up to 1.
    cells
        Number of the cell of each row, by modality: no document holds rows of one cell in two modalities.
    draw_runs
        Whether the cells of a document are neighbours, from a random one on, instead of drawn one by one. A disk reads
        them faster. In a training store neighbours of a context are a random choice of its cells, so this draws without
        replacement as far as the context has cells; in other files, neighbours may be similar.
    rank, world_size
        Rank of this process, and number of processes; each draws different documents, equally many. Together they draw
        what one process with ``world_size * n_contexts_per_minibatch`` documents per minibatch would.
    """

    def __init__(
        self,
        rows_of: RowsOf,
        n_contexts_per_minibatch: int,
        n_cells_per_context: int,
        *,
        seed: int = 0,
        is_fixed: bool = False,
        n_minibatches: int | None = None,
        groups: Sequence[NDArray[np.integer]] = (),
        group_share: float = GROUP_SHARE,
        cells: Mapping[str, NDArray[np.integer]] | None = None,
        draw_runs: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows_of = rows_of
        self.n_contexts_per_minibatch = n_contexts_per_minibatch
        self.n_cells_per_context = n_cells_per_context
        self.seed = seed
        self.is_fixed = is_fixed
        self.draw_runs = draw_runs
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.n_skipped = 0
        if n_minibatches is None:
            n_cells = max(sum(map(len, rows.values())) for rows in rows_of.values())
            n_minibatches = -(-n_cells // (n_contexts_per_minibatch * n_cells_per_context * world_size))
        self.n_minibatches = n_minibatches
        self.contexts_of = contexts_by_modalities(rows_of)
        self.groups_of = groups_by_modalities(groups, self.contexts_of)
        self.group_share = group_share
        self._apart = None if cells is None else Apart(rows_of, cells)

    def __len__(self) -> int:
        return self.n_minibatches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose documents the next iteration draws; Lightning calls this."""
        self.epoch = epoch

    def skip(self, n_minibatches: int) -> None:
        """Leave out the first minibatches of the next iteration, to resume an interrupted one."""
        self.n_skipped = n_minibatches

    def __iter__(self) -> Iterator[DocumentRows]:
        epoch = 0 if self.is_fixed else self.epoch
        n_skipped, self.n_skipped = self.n_skipped, 0
        # All ranks agree on the plan, and each draws the cells of its own documents.
        plan = self._plan(np.random.default_rng([self.seed, epoch]))
        for step, (modalities, contexts_of_ranks) in enumerate(plan[n_skipped:], start=n_skipped):
            contexts = contexts_of_ranks[self.rank]
            first = (step * self.world_size + self.rank) * self.n_contexts_per_minibatch
            # One generator per document, so that its cells depend neither on the rank nor on earlier documents.
            rngs = [np.random.default_rng([self.seed, epoch, 1, first + i]) for i in range(len(contexts))]
            documents = [
                self._document(context, modalities, rng) for context, rng in zip(contexts.tolist(), rngs, strict=True)
            ]
            rows = {modality: np.stack([document[modality] for document in documents]) for modality in modalities}
            yield DocumentRows(contexts, rows)

    def _document(
        self, context: int, modalities: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, NDArray[np.integer]]:
        """Rows of each modality of a document, by the code of its context or group."""
        n_each = [(context, self.n_cells_per_context)]
        if context < 0:
            n_each = cells_per_member(self.groups_of[modalities][context], self.n_cells_per_context, rng)
        if self._apart is None:
            found = {member: {name: self.rows_of[name][member] for name in modalities} for member, _ in n_each}
        else:
            found = {member: self._apart.draw(member, modalities, rng) for member, _ in n_each}
        return {
            modality: np.concatenate([self._draw(found[member][modality], n, rng) for member, n in n_each])
            for modality in modalities
        }

    def _draw(self, candidates: NDArray[np.integer], n: int, rng: np.random.Generator) -> NDArray[np.integer]:
        # Cells may repeat: a rare context may have fewer cells than a document holds. Requiring enough distinct cells
        # would silently drop exactly the perturbations that kill cells.
        if self.draw_runs:
            start = int(rng.integers(len(candidates)))
            return candidates.take(np.arange(start, start + n), mode="wrap")
        if self.is_fixed and len(candidates) >= n:
            return rng.choice(candidates, size=n, replace=False)
        return rng.choice(candidates, size=n)

    def _plan(self, rng: np.random.Generator) -> list[tuple[tuple[str, ...], NDArray[np.integer]]]:
        """Modalities of every step, the same on all ranks, and codes of its documents ``(world_size, G)``."""
        shares = np.array([len(contexts) for contexts in self.contexts_of.values()], dtype=float)
        counts = _apportion(self.n_minibatches, shares, rng)
        kinds = []
        for (modalities, contexts), count in zip(self.contexts_of.items(), counts.tolist(), strict=True):
            shape = (count, self.world_size, self.n_contexts_per_minibatch)
            drawn = draw_documents(contexts, self.groups_of[modalities], self.group_share, int(np.prod(shape)), rng)
            kinds.append(iter([(modalities, step) for step in drawn.reshape(shape)]))
        # Kinds alternate at random; within a kind the passes stay in order.
        return [next(kinds[kind]) for kind in rng.permutation(np.repeat(np.arange(len(kinds)), counts))]


def contexts_by_modalities(rows_of: RowsOf) -> dict[tuple[str, ...], NDArray[np.integer]]:
    """Group contexts by the modalities they were measured in."""
    contexts = sorted(set().union(*(rows.keys() for rows in rows_of.values())))
    groups: dict[tuple[str, ...], list[int]] = {}
    for context in contexts:
        groups.setdefault(tuple(name for name, rows in rows_of.items() if context in rows), []).append(context)
    return {modalities: np.array(members) for modalities, members in groups.items()}


def _apportion(n: int, shares: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.integer]:
    """Divide n in proportion to shares, exactly on average, so that small shares are not always rounded to 0."""
    edges = np.concatenate([[0.0], np.cumsum(shares) * n / shares.sum()])
    return np.diff(np.floor(np.round(edges, 9) + rng.random()).astype(int))


def complete_contexts(held_out: RowsOf, training: RowsOf) -> RowsOf:
    """Drop contexts whose held-out cells lack a modality that their training cells have.

    Scored in documents of another kind than in training, they would distort the validation loss. If no context is
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
