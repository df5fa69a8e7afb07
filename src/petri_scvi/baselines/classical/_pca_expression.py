"""Principal components of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ExpressionModel, read_sparse

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader

DEFAULT_COMPONENTS = 50
MAX_SCALED = 10.0
"""Where scanpy's tutorials clip scaled expression."""


class PCAExpression(ExpressionModel):
    """Scanpy's standard workflow :cite:p:`Wolf2018`: normalise to equal totals, log1p, PCA.

    Fitted on all cells. The expression is copied, as a sparse matrix in single precision; the user's AnnData is not
    changed. New data is normalised, scaled and projected as the training data was.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    n_components
        Principal components (D); scanpy's default if ``None``: 50, or one less than the smaller side of the matrix.
    n_top_genes
        Keep this many highly variable genes before PCA; all if ``None``.
    scale
        Whether to bring every gene to unit variance, clipped at 10. The kept genes are then held as a dense matrix.
    is_normalized
        Whether the registered values are log-normalised already, so that only PCA is computed.
    seed
        Seed of the solver's start.

    Raises
    ------
    ValueError
        The expression was not registered, holds fractions although ``is_normalized`` is ``False``, or has fewer cells
        or genes than asked for.
    """

    def __init__(
        self,
        mdata: MuData,
        *,
        n_components: int | None = None,
        n_top_genes: int | None = None,
        scale: bool = False,
        is_normalized: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(mdata)
        check_seed(seed)
        self.n_top_genes, self.scale, self.is_normalized, self.seed = n_top_genes, scale, is_normalized, seed
        n_cells, n_genes = self._state["n_obs"], self._state["n_vars"]
        if n_top_genes is not None:
            check_sizes(n_top_genes=n_top_genes)
            if n_top_genes > n_genes:
                raise ValueError(f"n_top_genes={n_top_genes}; there are {n_genes} genes. Pass at most that, or None.")
        self.n_components = _choose_components(n_components, n_cells, n_top_genes or n_genes)

    @no_epochs
    def train(self) -> None:
        """Find the principal components of all cells."""
        import scanpy as sc

        reader = self._require_modality(self._manager_of(None), self.modality_)
        rows = np.arange(len(reader))
        if not self.is_normalized:
            _check_counts(reader, rows, self.modality_)
        expression = AnnData(read_sparse(reader, rows))
        # Chosen as in scanpy, but stored, so that new data is scaled to the same total.
        self._total = float(np.median(np.asarray(expression.X.sum(axis=1)).ravel()))
        self._normalise(expression)
        self._genes = np.arange(expression.n_vars)
        if self.n_top_genes is not None:
            sc.pp.highly_variable_genes(expression, n_top_genes=self.n_top_genes)
            self._genes = np.flatnonzero(expression.var["highly_variable"])
            expression = AnnData(expression.X[:, self._genes])
        self._gene_mean, self._gene_std = None, None
        if (expression.X.max(axis=0).toarray() == expression.X.min(axis=0).toarray()).all():
            raise ValueError(
                f"all {len(rows)} cells of mdata[{self.modality_!r}] have the same expression after normalisation, so "
                "there are no components to find. Check the counts, or leave this baseline out."
            )
        if self.scale:
            expression.X = expression.X.toarray()  # scanpy warns if it has to do it
            sc.pp.scale(expression, max_value=MAX_SCALED)
            self._gene_mean = expression.var["mean"].to_numpy()
            self._gene_std = expression.var["std"].to_numpy()
        sc.pp.pca(expression, n_comps=self.n_components, random_state=self.seed)
        self.components_ = np.asarray(expression.varm["PCs"], dtype=np.float32)  # (n_kept_genes, D)
        """Loading of each kept gene on each component, shape ``(n_kept_genes, D)``."""
        center = np.asarray(expression.X.mean(axis=0)).ravel()
        self._offset = center @ self.components_  # (D,)
        self.is_trained_ = True

    def _normalise(self, expression: AnnData) -> None:
        import scanpy as sc

        if not self.is_normalized:
            sc.pp.normalize_total(expression, target_sum=self._total)
            sc.pp.log1p(expression)

    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        if not self.is_normalized:
            _check_counts(reader, rows, self.modality_)
        embedding = np.empty((len(rows), self.n_components), dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            batch = AnnData(read_sparse(reader, rows[start : start + batch_size]))
            self._normalise(batch)
            kept = batch.X[:, self._genes]  # (batch, n_kept_genes)
            if self._gene_mean is not None:
                scaled = (kept.toarray() - self._gene_mean) / self._gene_std
                kept = np.clip(scaled, -MAX_SCALED, MAX_SCALED)
            embedding[start : start + batch_size] = kept @ self.components_ - self._offset
        return embedding


def _choose_components(n_components: int | None, n_cells: int, n_genes: int) -> int:
    most = min(n_cells, n_genes) - 1
    if most < 1:
        raise ValueError(f"PCA of {n_cells} cells and {n_genes} genes is not defined; at least two of each are needed.")
    if n_components is None:
        return min(DEFAULT_COMPONENTS, most)
    check_sizes(n_components=n_components)
    if n_components > most:
        raise ValueError(
            f"n_components={n_components}; {n_cells} cells and {n_genes} genes allow at most {most}. "
            "Pass fewer, or None."
        )
    return n_components


def _check_counts(reader: RowReader, rows: NDArray[np.integer], modality: str) -> None:
    """Require whole numbers: log-normalised values would be logged a second time."""
    for chunk in reader.chunks(rows):
        fractions = chunk[chunk != np.round(chunk)]
        if len(fractions):
            raise ValueError(
                f"the expression of mdata[{modality!r}] has values that are not whole numbers, for example "
                f"{fractions[0]:.4g}; counts are expected. Register them with "
                "setup_mudata(mdata, rna_layer='counts'), or pass is_normalized=True for "
                "log-normalised values."
            )
