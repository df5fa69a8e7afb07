"""Cells that were measured in several modalities: split together, and drawn so that no document holds one twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    RowsOf = Mapping[str, Mapping[int, NDArray[np.integer]]]
    Split = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]
    Cells = Mapping[str, NDArray[np.integer]]
    """Number of the cell that each row of a modality measures."""


def codes_of_cells(codes: Cells, cells: Cells) -> NDArray[np.integer]:
    """Context code of each cell, from those of the rows of each modality; shape ``(n_cells,)``."""
    found = np.zeros(1 + max(int(numbers.max(initial=-1)) for numbers in cells.values()), dtype=np.int64)
    for name, numbers in cells.items():
        found[numbers] = codes[name]
    return found


def rows_of_cells(parts: Split, cells: Cells) -> dict[str, Split]:
    """Rows of each modality by training, validation and test cells."""

    def rows(numbers: NDArray[np.integer], part: NDArray[np.integer]) -> NDArray[np.integer]:
        return np.flatnonzero(np.isin(numbers, part))

    train, validation, test = parts
    return {name: (rows(found, train), rows(found, validation), rows(found, test)) for name, found in cells.items()}


def without_partners(
    candidates: NDArray[np.integer], name: str, targets: NDArray[np.integer], modality: str, cells: Cells | None
) -> NDArray[np.integer]:
    """Candidates of the modality ``name`` that do not measure a cell of ``targets``, rows of ``modality``."""
    if cells is None:
        return candidates
    return candidates[~np.isin(cells[name][candidates], cells[modality][targets])]


class Apart:
    """Divides the cells of a context at random between its modalities, so that none is in two.

    Parameters
    ----------
    rows_of
        Rows by modality and context code.
    cells
        Number of the cell of each row, by modality.
    """

    def __init__(self, rows_of: RowsOf, cells: Cells) -> None:
        self.rows_of = rows_of
        self.cells = cells
        self._places: dict[tuple[int, tuple[str, ...]], list[NDArray[np.integer]]] = {}

    def draw(
        self, context: int, modalities: tuple[str, ...], rng: np.random.Generator
    ) -> dict[str, NDArray[np.integer]]:
        """Rows of each modality that a document may hold; each modality gets one at least."""
        places = self._places_of(context, modalities)
        n_cells = 1 + max(int(found.max()) for found in places)
        n_modalities = np.bincount(np.concatenate(places), minlength=n_cells)
        owner = rng.permutation(n_cells) % len(modalities)
        if not all((owner[found] == i).any() for i, found in enumerate(places)):
            matched = _matching(places, n_cells, rng.permutation(n_cells))
            owner[matched] = np.arange(len(modalities))
        # A cell of one modality only has no partner to be kept apart from.
        return {
            name: self.rows_of[name][context][(owner[found] == i) | (n_modalities[found] == 1)]
            for i, (name, found) in enumerate(zip(modalities, places, strict=True))
        }

    def close_contexts(self) -> list[int]:
        """Contexts with so few cells that a modality would get none."""
        contexts = sorted(set().union(*(rows.keys() for rows in self.rows_of.values())))
        return [context for context in contexts if self._is_close(context)]

    def _is_close(self, context: int) -> bool:
        modalities = tuple(name for name, rows in self.rows_of.items() if context in rows)
        if min(len(self.rows_of[name][context]) for name in modalities) >= len(modalities):
            return False
        places = self._places_of(context, modalities)
        n_cells = 1 + max(int(found.max()) for found in places)
        return bool((_matching(places, n_cells, np.arange(n_cells)) < 0).any())

    def _places_of(self, context: int, modalities: tuple[str, ...]) -> list[NDArray[np.integer]]:
        """Of each row of the context, by modality, the place of its cell among those of the context."""
        if (context, modalities) not in self._places:
            numbers = [self.cells[name][self.rows_of[name][context]] for name in modalities]
            places = np.unique(np.concatenate(numbers), return_inverse=True)[1].reshape(-1)
            self._places[context, modalities] = np.split(places, np.cumsum([len(found) for found in numbers])[:-1])
        return self._places[context, modalities]


def check_apart(apart: Apart) -> None:
    """Require enough training cells in every context.

    Raises
    ------
    ValueError
        A context has too few.
    """
    if close := apart.close_contexts():
        raise ValueError(
            f"{len(close)} contexts have fewer training cells than modalities, so that the partner of a cell cannot be "
            "hidden and each modality have a cell. Drop contexts with few cells, pass a larger train_size, or set the "
            "data up without hide_partners=True."
        )


def without_contexts(rows_of: RowsOf, contexts: Iterable[int]) -> dict[str, dict[int, NDArray[np.integer]]]:
    """The same rows without those of some contexts."""
    left_out = set(contexts)
    return {
        name: {context: found for context, found in rows.items() if context not in left_out}
        for name, rows in rows_of.items()
    }


def _matching(places: Sequence[NDArray[np.integer]], n_cells: int, order: NDArray[np.integer]) -> NDArray[np.integer]:
    """A cell of its own for each modality, -1 where there is none; ``order`` decides between equals."""
    rank = np.argsort(order)
    modality = np.repeat(np.arange(len(places)), [len(found) for found in places])
    columns = rank[np.concatenate(places)]
    graph = sparse.csr_array((np.ones(len(columns)), (modality, columns)), shape=(len(places), n_cells))
    graph.sort_indices()
    matched = maximum_bipartite_matching(graph, perm_type="column")
    return np.where(matched >= 0, order[matched], -1)
