"""Principal components of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import IncrementalPCA
from sklearn.utils import gen_batches

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi.baselines._no_epochs import no_epochs
from petri_scvi.baselines._unimodal import ImageModel
from petri_scvi.imaging import channel_moments

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader

DEFAULT_COMPONENTS = 50


class PixelComponents:
    """Incremental PCA of the pixels of a reader's cells, each channel standardised over all of them.

    Parameters
    ----------
    reader
        Crops, rows of shape ``(C, H, W)``.
    n_components
        Principal components (D).
    batch_size
        Cells per update of the components.
    seed
        Seed of the order of the cells.
    """

    def __init__(self, reader: RowReader, n_components: int, batch_size: int, seed: int) -> None:
        self._mean, self._std = channel_moments(reader, np.arange(len(reader)))
        # Cells are often sorted by perturbation, and the first batches would then not be representative.
        order = np.random.default_rng([seed, 0]).permutation(len(reader))
        self.pca = IncrementalPCA(n_components=n_components)
        for batch in gen_batches(len(order), batch_size, min_batch_size=n_components):
            self.pca.partial_fit(self._pixels(reader, np.sort(order[batch])))

    def transform(self, reader: RowReader, rows: NDArray[np.integer], batch_size: int) -> NDArray[np.float32]:
        """Components of rows, read in batches; shape ``(len(rows), D)``."""
        embedding = np.empty((len(rows), self.pca.n_components), dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            embedding[start : start + batch_size] = self.pca.transform(self._pixels(reader, batch))
        return embedding

    def _pixels(self, reader: RowReader, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normalised pixels, shape ``(len(rows), C * H * W)``."""
        images = reader.read(rows).astype(np.float32)  # (n, C, H, W)
        images -= self._mean[:, None, None].astype(np.float32)
        images /= self._std[:, None, None].astype(np.float32)
        return images.reshape(len(rows), -1)


class PCAPixels(ImageModel):
    """PCA of pixels, each channel brought to zero mean and unit variance over all cells.

    Fitted on all cells in random order and in batches :cite:p:`Ross2008`, so that images may lie on disk: memory is
    bounded by a batch. With no more cells than a batch this is exact PCA; with more, each batch updates the components
    of those before it, and the trailing ones are slightly less accurate.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    n_components
        Principal components (D); if ``None``, 50, or as many as there are cells or pixels.
    fit_batch_size
        Cells per update of the components; at least ``n_components``. Larger batches are closer to exact PCA.
    seed
        Seed of the order of the cells.

    Raises
    ------
    ValueError
        Images were not registered, or there are fewer cells or pixels than components.
    """

    def __init__(
        self, mdata: MuData, *, n_components: int | None = None, fit_batch_size: int = 1024, seed: int = 0
    ) -> None:
        super().__init__(mdata)
        state = self._state
        n_cells, n_pixels = state["n_obs"], len(state["channels"]) * state["height"] * state["width"]
        most = min(n_cells, n_pixels)
        if n_components is None:
            n_components = min(DEFAULT_COMPONENTS, most)
        check_sizes(n_components=n_components, fit_batch_size=fit_batch_size)
        check_seed(seed)
        if n_components > most:
            raise ValueError(
                f"n_components={n_components}; {n_cells} cells of {n_pixels} pixels allow at most {most}. "
                "Pass fewer, or None."
            )
        if fit_batch_size < n_components:
            raise ValueError(
                f"fit_batch_size={fit_batch_size} is less than n_components={n_components}. Pass at least as many."
            )
        self.n_components, self.fit_batch_size, self.seed = n_components, fit_batch_size, seed

    @no_epochs
    def train(self) -> None:
        """Find the principal components of all cells."""
        reader = self._require_modality(self._manager_of(None), self.modality_)
        self._components = PixelComponents(reader, self.n_components, self.fit_batch_size, self.seed)
        self.pca_ = self._components.pca
        """The fitted scikit-learn object; its ``components_`` have shape ``(D, C * H * W)``."""
        self.is_trained_ = True

    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        return self._components.transform(reader, rows, batch_size)
