"""Class probabilities of perturbations as a space that modalities share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi.baselines._embedding_setup import EmbeddingSetupMixin
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.common import rows_from_indices, rows_in_mdata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager


class PropensityScore(EmbeddingSetupMixin):
    """Matching by propensity scores, after Xi et al. :cite:p:`Xi2024`.

    In each modality, a classifier predicts the perturbation of a cell. The probabilities of all perturbations are a
    space that the modalities share without any pair of cells: what two cells have in common is how likely each
    perturbation is for them. Within a perturbation, cells are then matched by optimal transport or by shared nearest
    neighbours.

    Written from the publication. Differences from it: the classifier is a multinomial logistic regression on an
    embedding that is registered, such as principal components, instead of a network on the measurement; and it is
    cross-fitted, since a classifier remembers the labels of cells that it saw. No registered cell is scored by a
    classifier that was fitted to it; the probabilities of other cells are means over the classifiers of all folds.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    n_folds
        Folds of the cross-fitting. Contexts with fewer cells than folds in a modality are no classes.
    regularization
        Strength of the L2 penalty of the classifier, the inverse of ``C`` in scikit-learn.
    seed
        Seed of the folds.

    Raises
    ------
    ValueError
        An argument is out of range, or fewer than two contexts have ``n_folds`` cells in both modalities.

    Examples
    --------
    >>> keys = {"image": "X_pca", "rna": "X_pca"}
    >>> petri_scvi.baselines.PropensityScore.setup_mudata(mdata, embedding_keys=keys)
    >>> model = petri_scvi.baselines.PropensityScore(mdata)
    >>> model.train()
    >>> mdata.obsm["X_propensity"] = model.get_latent_representation()
    >>> weights = model.match()  # (n_image_cells, n_rna_cells)
    """

    _lonely_contexts = "They are no classes, and their cells are not matched."

    def __init__(self, mdata: MuData, *, n_folds: int = 5, regularization: float = 1.0, seed: int = 0) -> None:
        super().__init__(mdata)
        check_sizes(n_folds=n_folds)
        check_seed(seed)
        if n_folds < 2:
            raise ValueError(f"n_folds={n_folds}; a cell is scored by a classifier of the other folds: at least 2.")
        if not regularization > 0:
            raise ValueError(f"regularization={regularization}; it must be above 0, such as regularization=1.0.")
        self.n_folds, self.regularization, self.seed = n_folds, regularization, seed
        codes = self._codes(self._manager_of(None))
        enough = [np.flatnonzero(np.bincount(found) >= n_folds) for found in codes.values()]
        self.classes_ = np.intersect1d(enough[0], enough[1])
        """Codes of the contexts that are classes, in the order of the dimensions."""
        if len(self.classes_) < 2:
            raise ValueError(
                f"{len(self.classes_)} contexts have n_folds={n_folds} cells in both modalities; at least 2 are "
                "needed. Pass a smaller n_folds, or a context_key with more cells per context."
            )
        self._model_summary_string = f"PropensityScore of {len(self.classes_)} contexts, n_folds: {n_folds}"

    def _check_modality(self, modality: str, cells: Any) -> None:
        """Accept any vectors: the field compares their width."""

    @no_epochs
    def train(self) -> None:
        """Fit the classifiers of all folds, and score each cell by that of its own fold."""
        manager = self._manager_of(None)
        codes = self._codes(manager)
        self._classifiers: dict[str, list[Any]] = {}
        self._scores: dict[str, NDArray[np.float64]] = {}  # of registered cells, (n_cells, n_classes)
        for name, values in self._embeddings(manager).items():
            is_known = np.isin(codes[name], self.classes_)
            known = np.flatnonzero(is_known)
            folds = StratifiedKFold(self.n_folds, shuffle=True, random_state=self.seed)
            scores = np.empty((len(values), len(self.classes_)))
            classifiers = []
            for fitted, held_out in folds.split(known, codes[name][known]):
                regression = LogisticRegression(C=1 / self.regularization, max_iter=1000)
                classifier = make_pipeline(StandardScaler(), regression)
                classifier.fit(values[known[fitted]], codes[name][known[fitted]])
                scores[known[held_out]] = classifier.predict_proba(values[known[held_out]])
                classifiers.append(classifier)
            if not is_known.all():  # cells of no class trained none of the classifiers
                scores[~is_known] = _mean_score(classifiers, values[~is_known])
            self._classifiers[name], self._scores[name] = classifiers, scores
        self.is_trained_ = True

    def get_latent_representation(
        self, mdata: MuData | None = None, *, modality: str | None = None, indices: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Probability of each context, for each cell.

        Parameters
        ----------
        mdata
            Registered cells if ``None``; other cells are scored by the mean of the classifiers of all folds.
        modality
            Cells of this modality; ``None`` means all, in the order of the rows of the MuData.
        indices
            Rows to embed; all if ``None``.

        Returns
        -------
        Probabilities, shape ``(n, n_classes)``; rows sum to 1.

        Raises
        ------
        ValueError
            The model is not trained, or the modality is not registered.
        """
        manager = self._trained_manager(mdata)
        is_own = manager is self.adata_manager
        if modality is not None:
            self._require_modality(manager, modality)
        scores = {
            name: self._scores[name] if is_own else _mean_score(self._classifiers[name], values)
            for name, values in self._embeddings(manager).items()
            if modality in (None, name)
        }
        if modality is not None:
            joined = scores[modality]
        else:
            joined = np.empty((manager.adata.n_obs, len(self.classes_)))
            for name, of_modality in scores.items():
                joined[rows_in_mdata(manager.adata, name)] = of_modality
        return joined[rows_from_indices(indices, len(joined))].astype(np.float32)

    def match(
        self,
        *,
        method: Literal["transport", "neighbors"] = "transport",
        entropy: float = 0.05,
        n_neighbors: int = 10,
        max_iterations: int = 1000,
    ) -> sparse.csr_matrix:
        """Match the registered cells of the two modalities within each context.

        Parameters
        ----------
        method
            ``"transport"``: entropic optimal transport with uniform marginals, solved by Sinkhorn's algorithm
            :cite:p:`Cuturi2013`; the cost of a pair is its squared distance over the mean one of the context, a choice
            of this package. ``"neighbors"``: the share of neighbours that two cells have in common, among all cells of
            the context (Jaccard index).
        entropy
            Regularisation of the transport; 0.05 as published.
        n_neighbors
            Neighbours per cell, itself included; a choice of this package.
        max_iterations
            Iterations of the transport, which ends earlier if the marginals are met to 1e-6.

        Returns
        -------
        Weights, shape ``(n_cells, n_cells)`` of the first and second modality. Each row sums to 1, or to 0 if a cell is
        of no class or shares no neighbour.

        Raises
        ------
        ValueError
            The model is not trained, or an argument is out of range.
        """
        if method not in ("transport", "neighbors"):
            raise ValueError(f"method={method!r} is not accepted; pass 'transport' or 'neighbors'.")
        if not entropy > 0:
            raise ValueError(f"entropy={entropy}; it must be above 0, such as entropy=0.05.")
        check_sizes(n_neighbors=n_neighbors, max_iterations=max_iterations)
        codes = self._codes(self._trained_manager(None))
        first, second = self._scores
        weights = sparse.lil_matrix((len(self._scores[first]), len(self._scores[second])))
        for context in self.classes_:
            rows, columns = (np.flatnonzero(codes[name] == context) for name in (first, second))
            a, b = self._scores[first][rows], self._scores[second][columns]
            block = _transport(a, b, entropy, max_iterations) if method == "transport" else _shared(a, b, n_neighbors)
            total = block.sum(axis=1, keepdims=True)
            weights[np.ix_(rows, columns)] = np.divide(block, total, out=np.zeros_like(block), where=total > 0)
        return weights.tocsr()

    def _trained_manager(self, mdata: MuData | None) -> AnnDataManager:
        if not self.is_trained_:
            raise ValueError("this PropensityScore is not trained; call model.train() first.")
        return self._manager_of(mdata)

    def _embeddings(self, manager: AnnDataManager) -> dict[str, NDArray[Any]]:
        """Registered vectors of the cells of each modality."""
        return {name: reader.read(np.arange(len(reader))) for name, reader in self._readers(manager).items()}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Not available: keep the embedding instead."""
        raise NotImplementedError(
            "PropensityScore cannot be saved. Keep its embedding: mdata.obsm['X_propensity'] = "
            "model.get_latent_representation(); mdata.write('screen.h5mu')."
        )

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> None:
        """Not available: see :meth:`save`."""
        raise NotImplementedError("PropensityScore cannot be loaded, since it cannot be saved; train it again.")


def _mean_score(classifiers: list[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    return np.mean([classifier.predict_proba(values) for classifier in classifiers], axis=0)


def _transport(
    a: NDArray[np.float64], b: NDArray[np.float64], entropy: float, max_iterations: int
) -> NDArray[np.float64]:
    """Sinkhorn's algorithm, in logarithms."""
    cost = cdist(a, b, metric="sqeuclidean")
    mean = cost.mean()
    kernel = -cost / (entropy * (mean if mean > 0 else 1.0))
    log_a, log_b = -np.log(len(a)), -np.log(len(b))
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(max_iterations):
        f = log_a - logsumexp(kernel + g, axis=1)
        g = log_b - logsumexp(kernel + f[:, None], axis=0)
        rows = np.exp(logsumexp(kernel + g, axis=1) + f)
        if np.abs(rows * len(a) - 1).max() < 1e-6:
            break
    return np.exp(kernel + f[:, None] + g)


def _shared(a: NDArray[np.float64], b: NDArray[np.float64], n_neighbors: int) -> NDArray[np.float64]:
    """Jaccard index of the neighbours of each pair of cells."""
    cells = np.vstack([a, b])
    nearest = NearestNeighbors(n_neighbors=min(n_neighbors, len(cells))).fit(cells)
    graph = nearest.kneighbors_graph(cells)  # (n_cells, n_cells), of zeros and ones
    in_common = (graph[: len(a)] @ graph[len(a) :].T).toarray()
    return in_common / (2 * nearest.n_neighbors - in_common)
