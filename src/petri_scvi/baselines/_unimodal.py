"""Base class of baselines of one modality."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import sparse

from petri_scvi._checks import check_sizes
from petri_scvi.common import rows_from_indices
from petri_scvi.modalities import ExpressionModality, ImageModality
from petri_scvi.model import SetupMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader
    from petri_scvi.modalities import Modality


class UnimodalModel(SetupMixin):
    """A system that embeds the cells of one modality; the base of the unimodal baselines.

    ``setup_mudata`` is that of :class:`petri_scvi.PETRI`, so that one set of arguments registers data for all systems;
    the other modality may be registered: its contexts are checked then, and its cells are not read.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    """

    _reads_all = False
    _masks_missing = False
    _modality_class: ClassVar[type[Modality]]
    """Kind of modality that is embedded."""
    _batch_size = 1024
    """Cells embedded at a time by default."""
    _device = torch.device("cpu")

    def __init__(self, mdata: MuData) -> None:
        super().__init__(mdata)
        name = type(self).__name__
        states = self._modality_states()
        found = [modality for modality, (kind, _) in states.items() if issubclass(kind, self._modality_class)]
        if not found:
            argument = self._modality_class.argument
            raise ValueError(
                f"{name} embeds the modality that {argument} refers to, and the data was set up without it: it has "
                f"{list(states)}. Call {name}.setup_mudata(mdata) on data with that modality, naming "
                f"it with modalities={{{argument!r}: ...}} if necessary."
            )
        if len(found) > 1:
            raise ValueError(
                f"{name} embeds one modality, and {found} are of its kind. Register one of them: "
                f"{name}.setup_mudata(mdata, modalities={{{found[0]!r}: {states[found[0]][0].kind!r}}})."
            )
        self.modality_ = found[0]
        """The modality whose cells are embedded."""
        self._check_cells(mdata)
        self._model_summary_string = f"{name} of modality {self.modality_!r}"

    @property
    def _state(self) -> dict[str, Any]:
        """What the field recorded when the data was set up: genes, or channels and size."""
        return self._modality_states()[self.modality_][1]

    def _check_modality(self, modality: str, cells: Any) -> None:
        """Accept any cells; subclasses may be stricter."""

    @property
    def device(self) -> Any:
        """The device on which the model computes, the CPU unless the argument ``accelerator`` chose another."""
        return self._device

    def to_device(self, device: Any) -> None:
        """Not available: a model stays on the device it was made on."""
        name = type(self).__name__
        raise NotImplementedError(
            f"{name} stays on {str(self.device)!r}. Make a new one with {name}(..., accelerator='cuda') if it has that "
            "argument; models without it compute on the CPU."
        )

    @abstractmethod
    def train(self) -> None:
        """Fit to the registered data."""

    @abstractmethod
    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        """Embedding of the rows, in their order, shape ``(len(rows), D)``."""

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed the cells of the one modality that this system reads.

        Parameters
        ----------
        mdata, indices
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.
        modality
            The modality that the system reads, which is also the default; any other is refused. Unlike
            :class:`petri_scvi.PETRI`, there is no embedding of all modalities: the result belongs in
            ``mdata[modality].obsm``.
        batch_size
            Cells read and embedded at a time. It changes memory and speed, not the result.

        Returns
        -------
        Embedding, shape ``(n, D)``.

        Raises
        ------
        ValueError
            The model is not trained, or the modality is another one.
        """
        name = type(self).__name__
        if not self.is_trained_:
            raise ValueError(f"this {name} is not trained; call model.train() first.")
        if modality is not None and modality != self.modality_:
            raise ValueError(
                f"modality={modality!r}; {name} embeds {self.modality_!r} only. Leave modality out, and put the result "
                f"in mdata[{self.modality_!r}].obsm."
            )
        batch_size = self._batch_size if batch_size is None else batch_size
        check_sizes(batch_size=batch_size)
        manager = self._manager_of(mdata)
        reader = self._require_modality(manager, self.modality_)
        rows = rows_from_indices(indices, len(reader))
        return self._embed(manager, reader, rows, batch_size)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Not available: keep the embedding instead."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be saved. Keep its embedding: mdata[{self.modality_!r}].obsm['X_baseline'] "
            "= model.get_latent_representation(); mdata.write('screen.h5mu')."
        )

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: see :meth:`save`."""
        raise NotImplementedError(f"{cls.__name__} cannot be loaded, since it cannot be saved; train it again.")


class ImageModel(UnimodalModel):
    """A system that embeds images."""

    _modality_class = ImageModality


class ExpressionModel(UnimodalModel):
    """A system that embeds transcriptomes."""

    _modality_class = ExpressionModality


def read_sparse(reader: RowReader, rows: NDArray[np.integer]) -> sparse.csr_matrix:
    """Rows as single-precision CSR, read in chunks; shape ``(len(rows), n_genes)``."""
    chunks = [sparse.csr_matrix(chunk.astype(np.float32, copy=False)) for chunk in reader.chunks(rows)]
    return sparse.vstack(chunks, format="csr") if chunks else sparse.csr_matrix((0, reader.shape[1]), dtype=np.float32)
