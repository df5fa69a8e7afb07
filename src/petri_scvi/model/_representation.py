"""Embed cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scvi
import torch

from petri_scvi._checks import check_sizes
from petri_scvi.model._documents import encode_cells
from petri_scvi.model._registered import RegisteredData, rows_from_indices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager
    from torch import Tensor


class EmbeddingMixin(RegisteredData):
    """One vector, or several, for each cell asked for."""

    def _embed(
        self,
        manager: AnnDataManager,
        modality: str | None,
        indices: Sequence[int] | None,
        shape: tuple[int, ...],
        vectors_of: Callable[[str, NDArray[np.integer]], Iterable[tuple[NDArray[np.integer], Tensor]]],
    ) -> NDArray[np.float32]:
        """Vectors of the cells of a modality, or of all, in the order of ``indices``; shape ``(n, *shape)``.

        ``vectors_of`` gets a modality and its rows, and yields positions in these rows and the vectors of the cells.
        """
        if modality is not None:
            n_cells = len(self._require_modality(manager, modality))
            rows_of = {modality: rows_from_indices(indices, n_cells)}
        else:
            chosen = rows_from_indices(indices, manager.adata.n_obs)
            rows_of = _rows_of_modalities(manager.adata, list(self._readers(manager)), chosen)
        embedding = np.empty((len(next(iter(rows_of.values()))), *shape), dtype=np.float32)
        for name, rows in rows_of.items():
            places = np.flatnonzero(rows >= 0)
            for positions, vectors in vectors_of(name, rows[places]):
                embedding[places[positions]] = vectors.float().cpu().numpy()
        return embedding

    def _encode(
        self, manager: AnnDataManager, modality: str, rows: NDArray[np.integer], batch_size: int | None
    ) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
        """Latents of rows in batches, and their positions in ``rows``."""
        batch_size = scvi.settings.batch_size if batch_size is None else batch_size
        check_sizes(batch_size=batch_size)
        reader = self._readers(manager)[modality]
        start = 0
        for latents in encode_cells(self.module, modality, reader, rows, batch_size=batch_size):
            yield np.arange(start, start + len(latents)), latents
            start += len(latents)


class RepresentationMixin(EmbeddingMixin):
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
            Cells per pass of the encoder; ``scvi.settings.batch_size`` if ``None``. Documents have a size of their own.
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
        Embedding, shape ``(n, D)`` for ``"mean"``, ``(n, L * D)`` for ``"concat"`` and ``(n, L, D)`` for ``None``.

        Raises
        ------
        ValueError
            A cell was measured in several modalities, or in none that the model knows, so that its row is ambiguous:
            pass ``modality``.
        """
        self._check_if_trained(warn=True)
        if pool not in ("mean", "concat", None):
            raise ValueError(f"pool={pool!r}; expected 'mean', 'concat' or None.")
        if position not in ("encoder", "set_transformer"):
            raise ValueError(f"position={position!r}; expected 'encoder' or 'set_transformer'.")
        if batch_size is not None:
            check_sizes(batch_size=batch_size)
        manager = self._manager_of(mdata)
        n_latent_tokens, embed_dim = self.module.latent_shape
        shapes = {"mean": (embed_dim,), "concat": (n_latent_tokens * embed_dim,), None: (n_latent_tokens, embed_dim)}

        def vectors_of(name: str, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
            latents = (
                self._encode(manager, name, rows, batch_size)
                if position == "encoder"
                else self._fuse(manager, name, rows, mask=None, n_cells=None, seed=seed)
            )
            for positions, batch in latents:
                yield positions, _pool(batch, pool)

        return self._embed(manager, modality, indices, shapes[pool], vectors_of)


def _rows_of_modalities(
    mdata: MuData, modalities: Sequence[str], chosen: NDArray[np.integer]
) -> dict[str, NDArray[np.integer]]:
    """Modality to the row of each chosen cell in it, -1 where the cell is not in the modality."""
    # obsmap holds 1-based rows, 0 where absent.
    row_of = {name: np.asarray(mdata.obsmap[name]).reshape(-1)[chosen].astype(np.int64) - 1 for name in modalities}
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
