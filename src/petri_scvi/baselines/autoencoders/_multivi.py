"""MULTIVI on unpaired cells."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scipy import sparse
from scvi.model import MULTIVI as ScviModel

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi._compat import columns_stay_in_modalities, forget_data, forget_setup
from petri_scvi.baselines._unimodal import read_sparse
from petri_scvi.baselines.classical._pca_pixels import PixelComponents
from petri_scvi.modalities import ExpressionModality, ImageModality, check_counts
from petri_scvi.model import EmbeddingMixin, SetupMixin, UnfinishedEpoch, interrupted_model_is_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

GENES, BINS = "genes", "bins"
"""The two tables passed to scvi-tools: counts, and bins of images in place of chromatin."""
FIT_BATCH_SIZE = 1024


class MULTIVI(EmbeddingMixin, SetupMixin):
    """MULTIVI :cite:p:`Ashuach2023` on unpaired cells, by :class:`scvi.model.MULTIVI`.

    MULTIVI models counts of genes and open regions of chromatin, not pixels. Images take the place of chromatin: each
    principal component of their pixels is cut at its quantiles into bins, each bin is a region, and a cell is open in
    the bin that it lies in. A cell has zeros for the modality that it was not measured in, and the modality is the
    batch, which is how scvi-tools describes unpaired cells; an adversarial classifier mixes the modalities. The model
    does not see contexts. No publication uses MULTIVI on images; it represents general-purpose models of several
    modalities.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`, with both modalities.
    n_components
        Principal components of pixels; a choice of this package.
    n_bins
        Bins per component; a choice of this package.
    n_latent, n_hidden
        Dimensions of the embedding (D) and width of hidden layers. scVI's defaults; those of MULTIVI depend on the
        numbers of genes and regions, and are very small here.
    seed
        Seed of the order in which cells are read for their principal components.

    Raises
    ------
    ValueError
        An argument is out of range, a modality was not registered, or the expression is not counts.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen()
    >>> petri_scvi.baselines.MULTIVI.setup_mudata(mdata)
    >>> model = petri_scvi.baselines.MULTIVI(mdata)
    >>> model.train()
    >>> mdata.obsm["X_multivi"] = model.get_latent_representation()
    """

    _reads_all = False  # images and expression only
    _masks_missing = False
    _lonely_contexts = "MULTIVI reads their cells as it reads all others."

    def __init__(
        self,
        mdata: MuData,
        *,
        n_components: int = 50,
        n_bins: int = 8,
        n_latent: int = 10,
        n_hidden: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(mdata)
        check_sizes(n_components=n_components, n_bins=n_bins, n_latent=n_latent, n_hidden=n_hidden)
        check_seed(seed)
        if n_bins < 2:
            raise ValueError("n_bins=1; a single bin carries no information. Pass 2 or more.")
        states = self._modality_states()
        modality_of = {
            kind: modality
            for kind in (ImageModality, ExpressionModality)
            for modality, (found, _) in states.items()
            if issubclass(found, kind)
        }
        if len(modality_of) < 2 or len(states) > 2:
            raise ValueError(
                f"MULTIVI reads images and expression, and the data was set up with {list(states)}. Call "
                "MULTIVI.setup_mudata(mdata) on data with both, or use baselines.SCVI or baselines.PCAPixels."
            )
        self._images, self._rna = modality_of[ImageModality], modality_of[ExpressionModality]
        self._check_cells(mdata)
        images = self._require_modality(self._manager_of(None), self._images)
        n_most = min(len(images), int(np.prod(images.shape[1:])))
        if n_components > n_most:
            raise ValueError(f"n_components={n_components}; the cells and pixels allow at most {n_most}. Pass fewer.")
        self.n_components, self.n_bins, self.n_latent, self.n_hidden = n_components, n_bins, n_latent, n_hidden
        self.seed = seed
        self._model_summary_string = f"MULTIVI of {n_components} components of pixels in {n_bins} bins and of counts"

    def train(self, max_epochs: int | None = None, **kwargs: Any) -> None:
        """Find the principal components of pixels, and train MULTIVI; a second call starts again.

        Parameters
        ----------
        max_epochs
            Passes over the cells; scvi-tools' default, 500 with early stopping, if ``None``.
        kwargs
            Arguments of :meth:`scvi.model.MULTIVI.train`, such as ``accelerator``, ``early_stopping`` or
            ``plan_kwargs``.
        """
        manager = self._manager_of(None)
        reader = self._require_modality(manager, self._images)
        self._components = PixelComponents(reader, self.n_components, FIT_BATCH_SIZE, self.seed)
        found = self._project(manager)
        inner = np.arange(1, self.n_bins) / self.n_bins
        self._edges = np.quantile(found, inner, axis=0).astype(np.float32)  # (n_bins - 1, n_components)
        tables = self._tables(manager, found)
        ScviModel.setup_mudata(
            tables, batch_key="modality", modalities={"rna_layer": GENES, "atac_layer": BINS, "batch_key": GENES}
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # its encoder of no proteins
            self.scvi_ = ScviModel(tables, n_latent=self.n_latent, n_hidden=self.n_hidden)
        """The model of scvi-tools, for its other methods; created by :meth:`train`."""
        forget_setup(self.scvi_)
        self.module = self.scvi_.module
        chosen = {} if max_epochs is None else {"max_epochs": max_epochs}
        callbacks = [UnfinishedEpoch(), *(kwargs.get("callbacks") or [])]
        # Losses are logged per epoch; a larger value only warns about short epochs.
        arguments = {"log_every_n_steps": 1, **chosen, **kwargs, "callbacks": callbacks}
        self.is_trained_ = False
        try:
            with interrupted_model_is_kept(self.scvi_, callbacks):
                self.scvi_.train(**arguments)
        finally:
            if self.scvi_.is_trained_:
                self.train_indices = self._rows_by_modality(self.scvi_.train_indices)
                self.validation_indices = self._rows_by_modality(self.scvi_.validation_indices)
                self.test_indices = self._rows_by_modality(self.scvi_.test_indices)
                self.is_trained_ = True

    @property
    def history(self) -> dict[str, Any] | None:
        """Losses of MULTIVI by epoch; ``None`` before training."""
        return self.scvi_.history if self.is_trained_ else None

    @property
    def device(self) -> Any:
        """Device of the model of scvi-tools, which :meth:`train` makes."""
        self._require_trained()
        return self.scvi_.device

    def to_device(self, device: Any) -> None:
        """Move the model of scvi-tools, which :meth:`train` makes, to a device."""
        self._require_trained()
        self.scvi_.to_device(device)

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed cells in the space of both modalities.

        Parameters
        ----------
        mdata, modality, indices, batch_size
            As for :meth:`petri_scvi.PETRI.get_latent_representation`.

        Returns
        -------
        Embedding, shape ``(n, n_latent)``.

        Raises
        ------
        ValueError
            The model is not trained; and as for :meth:`petri_scvi.PETRI.get_latent_representation`.
        """
        self._require_trained()
        if batch_size is not None:
            check_sizes(batch_size=batch_size)
        manager = self._manager_of(mdata)
        # All cells, not only the rows, because scvi-tools warns about data too small for training.
        tables = self._tables(manager, self._project(manager))
        first_row = _first_rows(tables)

        def vectors_of(name: str, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], torch.Tensor]]:
            if len(rows):  # scvi-tools cannot embed an empty selection
                found = self.scvi_.get_latent_representation(
                    tables, indices=rows + first_row[name], batch_size=batch_size
                )
                yield np.arange(len(rows)), torch.as_tensor(found)

        embedding = self._embed(manager, modality, indices, (self.n_latent,), vectors_of)
        forget_data(self.scvi_, tables)
        return embedding

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Not available: keep the embedding instead."""
        raise NotImplementedError(
            "MULTIVI cannot be saved. Keep its embedding: mdata.obsm['X_multivi'] = model.get_latent_representation(); "
            "mdata.write('screen.h5mu')."
        )

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: see :meth:`save`."""
        raise NotImplementedError("MULTIVI cannot be loaded, since it cannot be saved; train it again.")

    def _require_trained(self) -> None:
        if not self.is_trained_:
            raise ValueError("this MULTIVI is not trained; call model.train() first.")

    def _check_modality(self, modality: str, cells: Any) -> None:
        """Require counts."""
        if modality == self._rna:
            check_counts(cells, modality)

    def _rows_by_modality(self, rows: NDArray[np.integer]) -> dict[str, NDArray[np.integer]]:
        """Rows of each modality, from rows of the tables that scvi-tools was trained on."""
        of_modality = self.scvi_.adata[GENES].obs["modality"].astype(str).to_numpy()[rows]
        return {name: rows[of_modality == name] - first for name, first in _first_rows(self.scvi_.adata).items()}

    def _project(self, manager: AnnDataManager) -> NDArray[np.float32]:
        """Components of all images, shape ``(n_cells, n_components)``."""
        reader = self._readers(manager).get(self._images)
        if reader is None:
            return np.empty((0, self.n_components), dtype=np.float32)
        return self._components.transform(reader, np.arange(len(reader)), FIT_BATCH_SIZE)

    def _tables(self, manager: AnnDataManager, components: NDArray[np.float32]) -> MuData:
        """Genes and bins of all cells, those of each modality in a row, with zeros for what was not measured."""
        readers = self._readers(manager)
        n_genes = self._modality_states()[self._rna][1]["n_vars"]
        genes, bins, of_modality = [], [], []
        for name, reader in readers.items():
            n_cells = len(reader)
            is_image = name == self._images
            genes.append(_no_counts(n_cells, n_genes) if is_image else read_sparse(reader, np.arange(n_cells)))
            bins.append(self._bins(components) if is_image else _no_counts(n_cells, self.n_components * self.n_bins))
            of_modality += [name] * n_cells
        cells = [str(i) for i in range(len(of_modality))]
        found = {}
        for name, parts in ((GENES, genes), (BINS, bins)):
            found[name] = AnnData(sparse.vstack(parts, format="csr"))
            found[name].obs_names = cells
            found[name].var_names = [f"{name} {i}" for i in range(found[name].n_vars)]
        found[GENES].obs["modality"] = of_modality
        with columns_stay_in_modalities():
            tables = MuData(found)
        tables.obs["_indices"] = np.arange(tables.n_obs)  # scvi-tools adds it to what it trains on, and asks all for it
        return tables

    def _bins(self, components: NDArray[np.float32]) -> sparse.csr_matrix:
        """A one in the bin of each component, shape ``(n_cells, n_components * n_bins)``."""
        columns = np.empty(components.shape, dtype=np.int32)
        for i in range(self.n_components):
            columns[:, i] = i * self.n_bins + np.searchsorted(self._edges[:, i], components[:, i], side="right")
        starts = np.arange(0, columns.size + 1, self.n_components)
        shape = (len(components), self.n_components * self.n_bins)
        return sparse.csr_matrix((np.ones(columns.size, dtype=np.float32), columns.ravel(), starts), shape=shape)


def _first_rows(tables: MuData) -> dict[str, int]:
    """Where the cells of each modality begin."""
    names, rows = np.unique(tables[GENES].obs["modality"].astype(str), return_index=True)
    return dict(zip(names.tolist(), rows.tolist(), strict=True))


def _no_counts(n_cells: int, n_columns: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((n_cells, n_columns), dtype=np.float32)
