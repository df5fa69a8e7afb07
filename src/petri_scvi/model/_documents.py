"""Use a trained module: encode cells, and fuse given cells with companions, the other cells of their documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from petri_scvi.dataloaders import DocumentRows, prefetch, rows_by_context, without_partners

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from petri_scvi._module import PETRIModule
    from petri_scvi.dataloaders import RowReader

    Documents = Sequence[tuple[DocumentRows, NDArray[np.integer]]]
    """Documents (G = 1) and, of each, the positions of the targets that are its first cells."""

DOCUMENTS_PER_CHUNK = 64
CELLS_PER_CHUNK = 512


class RandomMask:
    """Masks that do not depend on the device, computed only for the requested cells.

    Computing those of all cells at once would need twenty bytes per token.

    Parameters
    ----------
    n_tokens
        Tokens of a cell (T).
    mask_ratio
        Fraction of them to mask.
    seed
        Seed of the masks.
    """

    def __init__(self, n_tokens: int, mask_ratio: float, seed: int) -> None:
        self.n_tokens = n_tokens
        self.n_visible = n_tokens - int(n_tokens * mask_ratio)
        self._bits = np.random.PCG64(seed)
        self._start = self._bits.state
        self._last: tuple[Any, Any] = (None, None)

    def __getitem__(self, positions: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Masks of the cells at these positions, shape ``(len(positions), T)``, True where masked."""
        if positions is self._last[0]:
            return self._last[1]
        noise = np.empty((len(positions), self.n_tokens), dtype=np.float32)
        # Consecutive cells are drawn together.
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        for run in np.split(np.arange(len(positions)), breaks):
            if len(run):
                noise[run[0] : run[-1] + 1] = self._draw(int(positions[run[0]]), len(run))
        rank = noise.argsort(axis=1).argsort(axis=1)
        self._last = (positions, rank >= self.n_visible)
        return self._last[1]

    def _draw(self, position: int, n_cells: int) -> NDArray[np.float32]:
        """Noise of consecutive cells: the same as if the noise of all cells was drawn in order."""
        self._bits.state = self._start
        n_before = position * self.n_tokens
        self._bits.advance(n_before // 2)  # each step makes two of these numbers
        drawn = np.random.Generator(self._bits).random(n_before % 2 + n_cells * self.n_tokens, dtype=np.float32)
        return drawn[n_before % 2 :].reshape(n_cells, self.n_tokens)


def random_mask(n_cells: int, n_tokens: int, mask_ratio: float, seed: int) -> NDArray[np.bool_]:
    """Masks of :class:`RandomMask` of all cells, shape ``(n_cells, T)``."""
    source = RandomMask(n_tokens, mask_ratio, seed)
    mask = np.empty((n_cells, n_tokens), dtype=bool)
    for start in range(0, n_cells, CELLS_PER_CHUNK):
        positions = np.arange(start, min(start + CELLS_PER_CHUNK, n_cells))
        mask[positions] = source[positions]
    return mask


@torch.inference_mode()
def encode_cells(
    module: PETRIModule,
    modality: str,
    reader: RowReader,
    rows: NDArray[np.integer],
    *,
    batch_size: int,
    mask: NDArray[np.bool_] | None = None,
) -> Iterator[Tensor]:
    """Latents of cells in batches, shape ``(batch, L, D)``, on the module's device."""
    starts = range(0, len(rows), batch_size)
    # Copies to a GPU overlap with its computations only from page-locked memory.
    is_pinned = module.device.type == "cuda"
    read = (_read(reader, rows[start : start + batch_size], is_pinned) for start in starts)
    # A single batch is read as fast without a thread.
    for start, cells in zip(starts, prefetch(read) if len(starts) > 1 else read, strict=True):
        hidden = None if mask is None else torch.from_numpy(mask[start : start + batch_size]).to(module.device)
        yield module.encode(modality, cells.to(module.device, non_blocking=True), hidden)


def _read(reader: RowReader, rows: NDArray[np.integer], is_pinned: bool) -> Tensor:
    """Cells in their own dtype."""
    cells = torch.from_numpy(reader.read(rows))
    return cells.pin_memory() if is_pinned else cells


@torch.inference_mode()
def fuse_cells(
    module: PETRIModule,
    readers: Mapping[str, RowReader],
    modality: str,
    targets: NDArray[np.integer],
    documents: Documents,
    *,
    target_mask: NDArray[np.bool_] | RandomMask | None,
    companions_are_masked: bool,
    seed: int,
) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
    """Latents of given cells after the set transformer.

    Parameters
    ----------
    module
        The module, in evaluation mode.
    readers
        Reader of the cells of each modality.
    modality
        Modality of the targets.
    targets
        Rows of ``modality``, shape ``(n,)``.
    documents
        Documents, and which targets are their first cells of ``modality``.
    target_mask
        Mask of each target, shape ``(n, T)``.
    companions_are_masked
        Whether tokens of companions are masked as in training.
    seed
        Seed of the companions' masks.

    Yields
    ------
    Positions in ``targets``, and their fused latents, shape ``(len(positions), L, D)``, on the module's device.
    """
    for chunk in _chunks_of_one_kind(documents):
        placed = np.concatenate([positions for _, positions in chunk])
        n_targets = np.array([len(positions) for _, positions in chunk])
        latents = {}
        for name in chunk[0][0].rows:
            rows = np.concatenate([document.rows[name] for document, _ in chunk])  # (G, S)
            is_target = np.zeros(rows.shape, dtype=bool)
            if name == modality:
                is_target = np.arange(rows.shape[1]) < n_targets[:, None]
            cells = _encode_companions(module, name, readers[name], rows, is_target, companions_are_masked, seed)
            if name == modality:
                hidden = None if target_mask is None else target_mask[placed]
                encoded = encode_cells(
                    module, name, readers[name], targets[placed], batch_size=CELLS_PER_CHUNK, mask=hidden
                )
                cells[torch.from_numpy(is_target).to(module.device)] = torch.cat(list(encoded))
                target_places = torch.from_numpy(is_target).to(module.device)
            latents[name] = cells
        yield placed, module.set_transformer(latents)[modality][target_places]


def arrange_documents(
    targets: NDArray[np.integer],
    codes: NDArray[np.integer],
    modality: str,
    companions: Mapping[str, Mapping[int, NDArray[np.integer]]],
    n_cells_per_context: int,
    rng: np.random.Generator,
    *,
    cells: Mapping[str, NDArray[np.integer]] | None = None,
) -> list[tuple[DocumentRows, NDArray[np.integer]]]:
    """Place given cells in documents of their own context, for use after training.

    Cells of a context share documents. A document that is not full is filled with draws of other cells of the context;
    if there are none, it stays smaller.

    Parameters
    ----------
    targets
        Rows of ``modality`` to place; a row that occurs twice is placed in two documents.
    codes
        Context code of every cell of ``modality``.
    modality
        Modality of the targets.
    companions
        Rows that may be drawn, by modality and context code.
    n_cells_per_context
        Cells per document and modality (S).
    rng
        Source of the draws.
    cells
        Number of the cell of each row, by modality, if rows of the same cells as the targets are not drawn.

    Returns
    -------
    One document (G = 1) at a time, and the positions in ``targets`` of its first cells.
    """
    # Never twice in one document: a second copy of a target would reveal the masked tokens of the first.
    repeat = pd.Series(targets).groupby(targets).cumcount().to_numpy()
    groups = [
        positions[repeat[positions] == i]
        for positions in rows_by_context(codes[targets]).values()
        for i in range(repeat[positions].max() + 1)
    ]
    documents = []
    for positions in groups:
        context = int(codes[targets[positions[0]]])
        for start in range(0, len(positions), n_cells_per_context):
            placed = positions[start : start + n_cells_per_context]
            rows = {}
            for name, rows_of_context in companions.items():
                candidates = rows_of_context.get(context, np.empty(0, dtype=int))
                if name == modality:
                    # Other cells only, for the same reason.
                    others = np.setdiff1d(candidates, targets[placed])
                    n_drawn = n_cells_per_context - len(placed) if len(others) else 0
                    rows[name] = np.concatenate([targets[placed], rng.choice(others, size=n_drawn)])[None]
                elif len(candidates := without_partners(candidates, name, targets[placed], modality, cells)):
                    rows[name] = rng.choice(candidates, size=n_cells_per_context)[None]
            documents.append((DocumentRows(np.array([context]), rows), placed))
    return documents


def documents_of_targets(
    targets: NDArray[np.integer],
    modality: str,
    contexts: Mapping[str, NDArray[np.integer]],
    pool: Mapping[str, Mapping[int, NDArray[np.integer]]],
    n_cells_per_context: int,
    rng: np.random.Generator,
    *,
    cells: Mapping[str, NDArray[np.integer]] | None = None,
) -> list[tuple[DocumentRows, NDArray[np.integer]]]:
    """One document per target: the target first, then companions of chosen contexts.

    Parameters
    ----------
    targets
        Rows of ``modality``, shape ``(n,)``.
    modality
        Modality of the targets.
    contexts
        Context code of each target's companions, shape ``(n,)``, by modality of the companions.
    pool
        Rows that may be companions, by modality and context code; a target is never its own.
    n_cells_per_context
        Companions of each modality (S).
    rng
        Source of the draws.
    cells
        Number of the cell of each row, by modality, if a target has no companion that is the same cell.

    Returns
    -------
    Documents (G = 1), and of each the position of its target. Their context is -1, as they may mix several.
    """
    documents = []
    for position, target in enumerate(targets.tolist()):
        rows = {modality: np.array([[target]])}
        for name, codes in contexts.items():
            candidates = pool[name][int(codes[position])]
            if name == modality:  # a cell that is its own companion would reveal its masked tokens
                candidates = candidates[candidates != target]
            else:
                candidates = without_partners(candidates, name, targets[position : position + 1], modality, cells)
            drawn = rng.choice(candidates, size=n_cells_per_context)[None]
            rows[name] = np.concatenate([rows[name], drawn], axis=1) if name == modality else drawn
        documents.append((DocumentRows(np.array([-1]), rows), np.array([position])))
    return documents


def _encode_companions(
    module: PETRIModule,
    name: str,
    reader: RowReader,
    rows: NDArray[np.integer],
    is_target: NDArray[np.bool_],
    is_masked: bool,
    seed: int,
) -> Tensor:
    """Latents of all companions ``(G, S, L, D)``; each distinct cell is read and encoded once."""
    set_rows = np.where(is_target, -1, rows)
    distinct, inverse = np.unique(set_rows, return_inverse=True)
    inverse = inverse.reshape(rows.shape)
    n_skipped = int(len(distinct) > 0 and distinct[0] == -1)
    companions = distinct[n_skipped:]
    mask = None
    if is_masked:
        mask = random_mask(len(companions), module.modality(name).n_tokens, module.mask_ratio_of(name), seed)
    encoded = list(encode_cells(module, name, reader, companions, batch_size=CELLS_PER_CHUNK, mask=mask))
    n_latent_tokens, embed_dim = module.latent_shape
    table = torch.zeros(len(distinct), n_latent_tokens, embed_dim, device=module.device)
    if encoded:
        table[n_skipped:] = torch.cat(encoded)
    return table[torch.from_numpy(inverse).to(module.device)]


def _chunks_of_one_kind(documents: Documents) -> Iterator[Documents]:
    """Chunks of documents that hold the same modalities and as many cells of each."""
    kinds: dict[tuple[tuple[str, int], ...], list[Any]] = {}
    for document in documents:
        kind = tuple((name, rows.shape[1]) for name, rows in document[0].rows.items())
        kinds.setdefault(kind, []).append(document)
    for members in kinds.values():
        for start in range(0, len(members), DOCUMENTS_PER_CHUNK):
            yield members[start : start + DOCUMENTS_PER_CHUNK]
