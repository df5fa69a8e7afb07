"""A trained sparse autoencoder, which turns embeddings into sparse activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from petri_scvi._checks import check_sizes
from petri_scvi.common import (
    UnreadableFileError,
    check_stored,
    one_writer,
    read_sealed,
    user_path,
    write_sealed,
    written_whole,
)
from petri_scvi.common._numbers import check_float32, check_numbers
from petri_scvi.nn import choose_device
from petri_scvi.nn._batch_top_k_autoencoder import BatchTopKAutoencoder
from petri_scvi.tl._embedding import finite_rows
from petri_scvi.tl._read_rows import read_rows

from ._sparse_rows import SparseRows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Self

    from numpy.typing import NDArray

FORMAT = "petri-scvi sparse autoencoder 1"
VALUES_AT_ONCE = 2**24
"""Activations computed together at inference, zeros included."""


class SparseAutoencoder:
    """Sparse autoencoder of an embedding, made by :func:`petri_scvi.tl.fit_sae` or read by ``load``.

    A cell's embedding is close to ``decoder_bias + activations @ decoder``, where few activations are not zero.

    Attributes
    ----------
    decoder
        Direction of each dimension, of length 1; shape ``(n_dimensions, D)``.
    decoder_bias
        Embedding of a cell without active dimensions; shape ``(D,)``.
    n_active
        Average number of active dimensions per cell that it was trained for.
    threshold
        Smallest activation that is kept, in the unit of the embedding; smaller ones become 0.

    Examples
    --------
    >>> sae = petri_scvi.tl.fit_sae(mdata)
    >>> sae.save("sae.pt")
    >>> sae = petri_scvi.SparseAutoencoder.load("sae.pt")
    >>> other.obsm["X_sae"] = sae.encode(other.obsm["X_petri"])
    """

    def __init__(self, network: BatchTopKAutoencoder) -> None:
        self._network = network.eval().requires_grad_(False)
        self.n_active = network.n_active
        self.threshold = float(network.threshold)
        self.decoder: NDArray[np.float32] = network.decoder.cpu().numpy()
        self.decoder_bias: NDArray[np.float32] = network.decoder_bias.cpu().numpy()

    def __repr__(self) -> str:
        n_dimensions, n_inputs = self.decoder.shape
        return f"SparseAutoencoder of {n_inputs} inputs, n_dimensions: {n_dimensions}, n_active: {self.n_active}"

    def encode(self, embedding: Any) -> sparse.csr_matrix:
        """Encode cells, each on its own.

        Parameters
        ----------
        embedding
            Any array that ``obsm`` can hold, read in chunks; shape ``(n_cells, D)``.

        Returns
        -------
        Activations of at least 0, in the unit of the embedding; float32, shape ``(n_cells, n_dimensions)``.

        Raises
        ------
        ValueError
            The embedding has another width, or is not finite.
        """
        check_numbers(embedding, "the embedding")
        _check_width("the embedding", embedding, self.decoder.shape[1], "the width that the autoencoder was fitted on")
        codes = SparseRows(int(embedding.shape[0]), self.decoder.shape[0], self.n_active)
        for rows in self.pieces(int(embedding.shape[0])):
            values = read_rows(embedding, rows)
            check_float32(values, "the embedding")
            codes.append(self.encode_rows(values.astype(np.float32)))
        return codes.finish()

    def decode(self, activations: sparse.spmatrix | NDArray[Any]) -> NDArray[np.float32]:
        """Reconstruct the embedding from activations; shape ``(n_cells, n_dimensions)`` -> ``(n_cells, D)``.

        Raises
        ------
        ValueError
            There is not one activation per dimension.
        """
        _check_width("the matrix of activations", activations, self.decoder.shape[0], "one column per dimension")
        decoded: NDArray[np.float32] = np.asarray(activations @ self.decoder, dtype=np.float32)
        return decoded + self.decoder_bias

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Save to one file; an interrupted save leaves what was there before.

        The file contains tensors, plain values and a checksum, so it can be read without running code. In a distributed
        run, one process saves and the others wait.

        Parameters
        ----------
        path
            File to write.
        overwrite
            Whether to replace an existing file.

        Raises
        ------
        ValueError
            The file exists and ``overwrite`` is ``False``.
        """
        path = user_path(path)
        content = {"format": FORMAT, "n_active": self.n_active, "weights": dict(self._network.state_dict())}
        with one_writer(path) as is_writer:
            if not is_writer:
                return
            if path.exists() and not overwrite:
                raise ValueError(f"{path} already exists. Choose another file, or pass overwrite=True.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as unfinished:
                write_sealed(unfinished, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, accelerator: str = "auto") -> Self:
        """Load what :meth:`save` wrote.

        Parameters
        ----------
        path
            The file.
        accelerator
            Where to encode; ``"cpu"``, ``"gpu"`` or, if there is one, a GPU for ``"auto"``.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file does not contain a sparse autoencoder, is incomplete or was changed, or torch cannot use the
            accelerator.
        """
        path = user_path(path)
        try:
            content = read_sealed(path)
            network = _network(content)
        except ValueError as error:
            raise ValueError(
                f"{path} {error}; it does not hold a complete sparse autoencoder. Pass the file that sae.save() was "
                "given; if this is the one, save the autoencoder again or fetch another copy of the file."
            ) from None
        return cls(network.to(choose_device(accelerator)))

    def pieces(self, n_cells: int) -> Iterator[slice]:
        """Rows to encode together."""
        n_rows = max(1, VALUES_AT_ONCE // self.decoder.shape[0])
        return (slice(start, min(start + n_rows, n_cells)) for start in range(0, n_cells, n_rows))

    @torch.inference_mode()
    def encode_rows(self, values: NDArray[np.float32]) -> sparse.csr_matrix:
        """Activations of cells that are in memory.

        Parameters
        ----------
        values
            Embedding of the cells, ``(n_cells, n_inputs)``, of the kind that was fitted.

        Returns
        -------
        Sparse activations, ``(n_cells, n_dimensions)``, none of them negative.

        Raises
        ------
        ValueError
            A cell has NaN or infinite values.
        """
        n_bad = int((~finite_rows(values)).sum())
        if n_bad:
            raise ValueError(
                f"{n_bad} of {len(values)} cells have NaN or infinite values. Leave them out, or replace the values "
                "with numpy.nan_to_num(embedding)."
            )
        activations = self._network.encode(torch.from_numpy(values).to(self._network.decoder.device))
        is_active = activations > 0
        columns = is_active.nonzero()[:, 1].to(torch.int32)
        ends = np.append(0, is_active.sum(dim=1).cumsum(dim=0).cpu().numpy())
        parts = (activations[is_active].cpu().numpy(), columns.cpu().numpy(), ends)
        return sparse.csr_matrix(parts, shape=tuple(activations.shape))


def _network(content: dict[str, Any]) -> BatchTopKAutoencoder:
    """The network that a file describes."""
    found = content.get("format")
    if found != FORMAT:
        raise UnreadableFileError(f"has the format {found!r}, where this version of petri-scvi reads {FORMAT!r}")
    try:
        weights = {name: check_stored(weight) for name, weight in content["weights"].items()}
        n_dimensions, n_inputs = weights["decoder"].shape
        check_sizes(n_active=content["n_active"])
        network = BatchTopKAutoencoder(n_inputs, n_dimensions, content["n_active"])
        network.load_state_dict(weights)
    except UnreadableFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UnreadableFileError(f"does not contain an autoencoder ({error!r})") from error
    return network


def _check_width(what: str, matrix: Any, width: int, meaning: str) -> None:
    if len(matrix.shape) != 2 or matrix.shape[1] != width:
        raise ValueError(f"{what} has shape {tuple(matrix.shape)}; expected (n_cells, {width}), {meaning}")
