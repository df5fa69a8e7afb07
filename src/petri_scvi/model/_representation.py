"""Embed cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scvi
import torch

from petri_scvi.model._documents import encode_cells
from petri_scvi.model._registered import RegisteredData, rows_from_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager


class RepresentationMixin(RegisteredData):
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
            Cells per pass; ``scvi.settings.batch_size`` if ``None``.
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
        manager = self._manager_of(mdata)
        embed = {"batch_size": batch_size or scvi.settings.batch_size, "pool": pool, "position": position, "seed": seed}
        if modality is not None:
            n_cells = len(self._require_modality(manager, modality))
            return self._embed(manager, modality, rows_from_indices(indices, n_cells), **embed)
        chosen = rows_from_indices(indices, manager.adata.n_obs)
        embedding = None
        for name, row_of in _rows_of_modalities(manager.adata, list(self._readers(manager)), chosen).items():
            places = np.flatnonzero(row_of >= 0)
            part = self._embed(manager, name, row_of[places], **embed)
            if embedding is None:
                embedding = np.empty((len(chosen), *part.shape[1:]), dtype=part.dtype)
            embedding[places] = part
        return embedding

    def _embed(
        self,
        manager: AnnDataManager,
        modality: str,
        rows: NDArray[np.integer],
        *,
        batch_size: int,
        pool: str | None,
        position: str,
        seed: int,
    ) -> NDArray[np.float32]:
        """Embed rows of one modality into one preallocated array."""
        n_latent_tokens, embed_dim = self.module.latent_shape
        shape = {"mean": (embed_dim,), "concat": (n_latent_tokens * embed_dim,), None: (n_latent_tokens, embed_dim)}
        embedding = np.empty((len(rows), *shape[pool]), dtype=np.float32)
        readers = self._readers(manager)
        if position == "encoder":
            start = 0
            for latents in encode_cells(self.module, modality, readers[modality], rows, batch_size=batch_size):
                embedding[start : start + len(latents)] = _pool(latents, pool)
                start += len(latents)
            return embedding
        for placed, latents in self._fuse(manager, modality, rows, mask=None, n_cells=None, seed=seed):
            embedding[placed] = _pool(latents, pool)
        return embedding


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


def _pool(latents: torch.Tensor, pool: str | None) -> NDArray[np.float32]:
    """Shapes ``(B, L, D)`` -> ``(B, D)``, ``(B, L * D)`` or ``(B, L, D)``."""
    if pool == "mean":
        latents = latents.mean(dim=1)
    elif pool == "concat":
        latents = latents.flatten(1)
    return latents.float().cpu().numpy()
