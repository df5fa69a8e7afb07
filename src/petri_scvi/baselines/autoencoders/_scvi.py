"""scVI on the transcriptomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from anndata import AnnData
from scvi.model import SCVI as ScviModel

from petri_scvi._checks import check_sizes
from petri_scvi._compat import forget_data, forget_setup
from petri_scvi.baselines._unimodal import ExpressionModel, read_sparse
from petri_scvi.modalities import check_counts
from petri_scvi.model import UnfinishedEpoch, interrupted_model_is_kept

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader

BATCH = "batch"
Likelihood = Literal["zinb", "nb", "poisson"]
LIKELIHOODS = get_args(Likelihood)


class SCVI(ExpressionModel):
    """scVI :cite:p:`Lopez2018` on the registered counts, by :class:`scvi.model.SCVI`.

    scVI is given a copy of the counts, as a sparse matrix in single precision; the user's AnnData is not changed.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    n_latent
        Dimensions of the embedding (D); scVI's default is 10.
    n_hidden, n_layers
        Width and number of hidden layers of encoder and decoder; scVI's defaults.
    gene_likelihood
        Distribution of the counts.
    batch_key
        ``obs`` column of the transcriptome modality with the technical batch, which scVI then accounts for.

    Raises
    ------
    KeyError
        ``batch_key`` is not a column.
    ValueError
        An argument is out of range, ``batch_key`` has missing values, or the expression was not registered or is not
        counts.
    """

    def __init__(
        self,
        mdata: MuData,
        *,
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 1,
        gene_likelihood: Likelihood = "zinb",
        batch_key: str | None = None,
    ) -> None:
        super().__init__(mdata)
        check_sizes(n_latent=n_latent, n_hidden=n_hidden, n_layers=n_layers)
        if gene_likelihood not in LIKELIHOODS:
            raise ValueError(f"gene_likelihood={gene_likelihood!r}; expected one of {list(LIKELIHOODS)}.")
        self.batch_key = batch_key
        manager = self._manager_of(None)
        counts = self._counts(manager)
        ScviModel.setup_anndata(counts, batch_key=None if batch_key is None else BATCH)
        self.scvi_ = ScviModel(
            counts, n_latent=n_latent, n_hidden=n_hidden, n_layers=n_layers, gene_likelihood=gene_likelihood
        )
        """The model of scvi-tools, for its other methods."""
        forget_setup(self.scvi_)
        self.module = self.scvi_.module

    def train(self, max_epochs: int | None = None, **kwargs: Any) -> None:
        """Train scVI.

        Parameters
        ----------
        max_epochs
            Passes over the cells; scvi-tools' heuristic, ``min(400, 400 * 20000 / n_cells)``, if ``None``.
        kwargs
            Arguments of :meth:`scvi.model.SCVI.train`, such as ``accelerator``, ``early_stopping`` or ``plan_kwargs``.
        """
        # Losses are logged per epoch; a larger value only warns about short epochs.
        arguments = {
            "log_every_n_steps": 1,
            **kwargs,
            "callbacks": [UnfinishedEpoch(), *(kwargs.get("callbacks") or [])],
        }
        try:
            with interrupted_model_is_kept(self.scvi_, arguments["callbacks"]):
                self.scvi_.train(max_epochs=max_epochs, **arguments)
        finally:
            self.train_indices, self.validation_indices = self.scvi_.train_indices, self.scvi_.validation_indices
            self.test_indices = self.scvi_.test_indices
            self.is_trained_ = self.scvi_.is_trained_

    @property
    def history(self) -> dict[str, Any] | None:
        """Losses of scVI by epoch; ``None`` before training."""
        return self.scvi_.history

    @property
    def device(self) -> Any:
        """Device of the model of scvi-tools."""
        return self.scvi_.device

    def to_device(self, device: Any) -> None:
        """Move the model of scvi-tools to a device."""
        self.scvi_.to_device(device)

    def _check_modality(self, modality: str, cells: Any) -> None:
        """Require counts."""
        if modality == self.modality_:
            check_counts(cells, modality)

    def _counts(self, manager: AnnDataManager) -> AnnData:
        """A copy of the counts as scVI requires them."""
        rna = manager.adata.mod[self.modality_]
        reader = self._require_modality(manager, self.modality_)
        counts = AnnData(read_sparse(reader, np.arange(len(reader))))
        counts.var_names = rna.var_names
        if self.batch_key is not None:
            if self.batch_key not in rna.obs:
                raise KeyError(
                    f"batch_key={self.batch_key!r} is not a column of mdata[{self.modality_!r}].obs; it has "
                    f"{list(rna.obs.columns)}. Name the column with the batches, or None."
                )
            n_missing = int(rna.obs[self.batch_key].isna().sum())
            if n_missing:
                raise ValueError(
                    f"batch_key={self.batch_key!r}: mdata[{self.modality_!r}].obs[{self.batch_key!r}] is missing for "
                    f"{n_missing} of {rna.n_obs} cells. Drop these cells, or name their batch."
                )
            counts.obs[BATCH] = rna.obs[self.batch_key].astype(str).to_numpy()
        return counts

    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        if len(rows) == 0:  # scvi-tools cannot embed an empty selection
            return np.empty((0, self.scvi_.module.n_latent), dtype=np.float32)
        # All cells, not only the rows, because scvi-tools warns about data too small for training.
        counts = self._counts(manager)
        found = self.scvi_.get_latent_representation(counts, indices=rows, batch_size=batch_size)
        forget_data(self.scvi_, counts)
        return np.asarray(found, dtype=np.float32)
