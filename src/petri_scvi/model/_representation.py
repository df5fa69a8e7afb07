"""Embed cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scvi
import torch

from petri_scvi._checks import check_sizes
from petri_scvi._constants import EMBEDDING_KEY
from petri_scvi.common import one_writer, rows_from_indices, rows_in_modality, user_path
from petri_scvi.model._companions import CompanionsMixin
from petri_scvi.model._documents import encode_cells
from petri_scvi.model._embedding_file import array_in_file, check_storable, check_target, tables_of
from petri_scvi.model.setup._context_groups import note_groups
from petri_scvi.model.setup._registered import RegisteredData

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager
    from torch import Tensor

    VectorsOf = Callable[[str, NDArray[np.integer]], Iterable[tuple[NDArray[np.integer], Tensor]]]


class EmbeddingMixin(RegisteredData):
    """Embed cells as one or several vectors each."""

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed cells: the mean of the latent tokens of each, with nothing masked.

        Parameters
        ----------
        mdata, modality, indices, batch_size
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.

        Returns
        -------
        Embedding, shape ``(n, D)``.

        Raises
        ------
        ValueError
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.
        """
        self._check_if_trained(warn=True)
        manager = self._manager_of(mdata)
        vectors_of = self._encoded(manager, batch_size, lambda name, latents: latents.mean(dim=1))
        return self._embed(manager, modality, indices, self.module.latent_shape[1:], vectors_of)

    def _embed(
        self,
        manager: AnnDataManager,
        modality: str | None,
        indices: Sequence[int] | None,
        shape: tuple[int, ...],
        vectors_of: VectorsOf,
    ) -> NDArray[np.float32]:
        """Vectors of the cells of a modality, or of all, in the order of ``indices``; shape ``(n, *shape)``.

        ``vectors_of`` gets a modality and its rows, and yields positions in these rows and the vectors of the cells.
        """
        if modality is not None:
            n_cells = len(self._require_modality(manager, modality))
            rows_of: dict[str, NDArray[np.integer]] = {modality: rows_from_indices(indices, n_cells)}
        else:
            chosen = rows_from_indices(indices, manager.adata.n_obs)
            rows_of = _rows_of_modalities(manager.adata, list(self._readers(manager)), chosen)
        embedding = np.empty((len(next(iter(rows_of.values()))), *shape), dtype=np.float32)
        _fill(embedding, rows_of, vectors_of)
        return embedding

    def _encoded(
        self, manager: AnnDataManager, batch_size: int | None, make_vectors: Callable[[str, Tensor], Tensor]
    ) -> VectorsOf:
        """Encode rows in batches, and turn a modality and the latents ``(B, L, D)`` of its cells into vectors."""
        n_at_once = scvi.settings.batch_size if batch_size is None else batch_size
        check_sizes(batch_size=n_at_once)

        def vectors_of(name: str, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
            start = 0
            reader = self._readers(manager)[name]
            for latents in encode_cells(self.module, name, reader, rows, batch_size=n_at_once):
                yield np.arange(start, start + len(latents)), make_vectors(name, latents)
                start += len(latents)

        return vectors_of


class RepresentationMixin(EmbeddingMixin, CompanionsMixin):
    """Embeddings before and after the set transformer."""

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        pool: Literal["mean", "concat"] | None = "mean",
        position: Literal["encoder", "set_transformer"] = "encoder",
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Embed cells.

        Parameters
        ----------
        mdata
            Data to embed; that of the model if ``None``. It may have one of the modalities only, and new contexts.
        modality
            Embed the cells of this modality; by default those of all, aligned with ``mdata.obs``.
        indices
            Rows of ``mdata[modality]``, or of ``mdata``, to embed, in this order; all if ``None``.
        batch_size
            Cells per pass of the encoder; ``scvi.settings.batch_size`` if ``None``. Documents have their own size.
        pool
            How the L latent tokens of a cell become one vector: ``"mean"`` of them, or ``"concat"``; ``None`` keeps
            them apart.
        position
            ``"encoder"``: before the set transformer, where a cell's embedding depends on that cell alone; this is the
            embedding of the paper. ``"set_transformer"``: after it, in documents of the cell's context.
        seed
            Seed of these documents.

        Returns
        -------
        Embedding, shape ``(n, D)`` for ``"mean"``, ``(n, L * D)`` for ``"concat"`` and ``(n, L, D)`` for ``None``. If
        the model was trained with ``context_groups``, they are recorded in ``uns["petri_scvi"]["context_groups"]``.

        Raises
        ------
        ValueError
            A cell was measured in several modalities, or in none that the model knows, so that its row is ambiguous:
            pass ``modality``.
        """
        _check_arguments(pool, position, batch_size)
        manager = self._manager_of(mdata)
        shape, vectors_of = self._vectors(manager, batch_size, pool, position, seed)
        note_groups(self.registry_, manager.adata)
        return self._embed(manager, modality, indices, shape, vectors_of)

    @torch.inference_mode()
    def write_latent_representation(
        self,
        path: str | os.PathLike[str],
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        key_added: str = EMBEDDING_KEY,
        batch_size: int | None = None,
        pool: Literal["mean", "concat"] = "mean",
        position: Literal["encoder", "set_transformer"] = "encoder",
        seed: int = 0,
    ) -> None:
        """Embed cells into a new file, for embeddings that do not fit into memory.

        Memory holds a minibatch and the tables of the cells, not their embedding. :func:`petri_scvi.io.open_screen`
        opens the file, and ``petri_scvi.tl`` works on it from there. It is separate from the file of the images,
        because an open HDF5 file cannot be changed, and an interrupted change could destroy the images.

        Parameters
        ----------
        path
            File to write: ``.h5mu`` for all modalities, ``.h5ad`` for one, ``.zarr`` (extra ``zarr``) for either. It is
            written in a hidden folder beside it and renamed when it is complete.
        key_added
            Slot of the embedding in ``obsm``.
        mdata, modality, batch_size, pool, position, seed
            As for :meth:`get_latent_representation`.

        Returns
        -------
        ``None``. The file has ``obs`` of each modality and ``obsm[key_added]``, shape ``(n, D)`` or ``(n, L * D)``,
        float32: of the MuData, since modalities share one space, or of the AnnData of one modality.

        Raises
        ------
        FileExistsError
            ``path`` exists.
        OSError
            The disk is too small: it needs space for two copies of the embedding until the file is complete.
        ValueError
            As for :meth:`get_latent_representation`, ``path`` has another suffix, or a file cannot hold a column of
            ``obs`` or the name of the slot.

        Examples
        --------
        >>> model.write_latent_representation("embedding.h5mu")
        >>> cells = petri_scvi.io.open_screen("embedding.h5mu")
        >>> petri_scvi.tl.center_scale(cells, folder=".")
        >>> petri_scvi.tl.whiten(cells, folder=".")
        >>> profiles = petri_scvi.tl.aggregate_profiles(cells)
        """
        if pool not in ("mean", "concat"):
            raise ValueError(f"pool={pool!r}; expected 'mean' or 'concat', which give one vector per cell.")
        _check_arguments(pool, position, batch_size)
        path = user_path(path).resolve()
        manager = self._manager_of(mdata)
        shape, vectors_of = self._vectors(manager, batch_size, pool, position, seed)
        if modality is not None:
            self._require_modality(manager, modality)
        with one_writer(path) as is_writer:
            if is_writer:
                self._write(path, manager, modality, key_added, shape, vectors_of)

    def _write(
        self,
        path: Path,
        manager: AnnDataManager,
        modality: str | None,
        key_added: str,
        shape: tuple[int, ...],
        vectors_of: VectorsOf,
    ) -> None:
        """Embed cells into a new file."""
        tables = tables_of(manager.adata, modality, list(self._readers(manager)))
        note_groups(self.registry_, tables)
        check_target(path, tables)
        check_storable(tables, key_added)
        if modality is not None:
            rows_of = {modality: np.arange(tables.n_obs)}
        else:
            _rows_of_modalities(manager.adata, list(self._readers(manager)), np.arange(manager.adata.n_obs))
            rows_of = _rows_of_modalities(tables, list(tables.mod), np.arange(tables.n_obs))
        with array_in_file(path, tables, key_added, (tables.n_obs, *shape)) as embedding:
            _fill(embedding, rows_of, vectors_of)

    def _vectors(
        self,
        manager: AnnDataManager,
        batch_size: int | None,
        pool: str | None,
        position: str,
        seed: int,
    ) -> tuple[tuple[int, ...], VectorsOf]:
        """Shape of the vectors of a cell, and what computes them."""
        self._check_if_trained(warn=True)
        n_latent_tokens, embed_dim = self.module.latent_shape
        shapes = {"mean": (embed_dim,), "concat": (n_latent_tokens * embed_dim,), None: (n_latent_tokens, embed_dim)}

        def fused(name: str, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
            for positions, latents in self._fuse(manager, name, rows, mask=None, n_cells=None, seed=seed):
                yield positions, _pool(latents, pool)

        if position == "set_transformer":
            return shapes[pool], fused
        return shapes[pool], self._encoded(manager, batch_size, lambda name, latents: _pool(latents, pool))


def _check_arguments(pool: str | None, position: str, batch_size: int | None) -> None:
    if pool not in ("mean", "concat", None):
        raise ValueError(f"pool={pool!r}; expected 'mean', 'concat' or None.")
    if position not in ("encoder", "set_transformer"):
        raise ValueError(f"position={position!r}; expected 'encoder' or 'set_transformer'.")
    if batch_size is not None:
        check_sizes(batch_size=batch_size)


def _fill(embedding: NDArray[np.float32], rows_of: dict[str, NDArray[np.integer]], vectors_of: VectorsOf) -> None:
    """Put the vectors of the rows of each modality, -1 where a cell is in another one, into an array."""
    for name, rows in rows_of.items():
        places = np.flatnonzero(rows >= 0)
        for positions, vectors in vectors_of(name, rows[places]):
            embedding[places[positions]] = vectors.float().cpu().numpy()


def _rows_of_modalities(
    mdata: MuData, modalities: Sequence[str], chosen: NDArray[np.integer]
) -> dict[str, NDArray[np.integer]]:
    """Modality to the row of each chosen cell in it, -1 where the cell is not in the modality."""
    row_of = {name: rows_in_modality(mdata, name)[chosen] for name in modalities}
    n_modalities = sum((rows >= 0).astype(int) for rows in row_of.values())
    for n_found, problem in [(n_modalities > 1, "several of"), (n_modalities == 0, "none of")]:
        if np.any(n_found):
            raise ValueError(
                f"{int(np.sum(n_found))} cells of mdata were measured in {problem} {list(modalities)}, so that one "
                "embedding per row of mdata is not defined. Pass modality=... and put the result in "
                "mdata[modality].obsm."
            )
    return row_of


def _pool(latents: Tensor, pool: str | None) -> Tensor:
    """Shapes ``(B, L, D)`` -> ``(B, D)``, ``(B, L * D)`` or ``(B, L, D)``."""
    if pool == "mean":
        return latents.mean(dim=1)
    return latents.flatten(1) if pool == "concat" else latents
