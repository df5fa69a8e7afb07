"""Regressions from images, or their embedding, to expression."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from petri_scvi.nn import ImageEncoder, choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

ALPHAS = np.logspace(-1, 6, 15)
"""Penalties of the ridge regression; each gene takes the one that leaves its training rows out best."""
GENES_PER_FIT = 1000
VIT = {"n_latent_tokens": 1, "embed_dim": 64, "depth": 4, "n_heads": 4}
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
PATIENCE = 5
"""Epochs without a better prediction of the rows kept for stopping, after which training ends."""


class Regression(Protocol):
    """Predicts rows of targets from the images that belong to them."""

    parameters: dict[str, Any]

    def predict(
        self,
        inputs: NDArray[Any],
        row_of_image: NDArray[np.intp],
        targets: NDArray[np.float64],
        fit: NDArray[np.intp],
        held_out: NDArray[np.intp],
        *,
        seed: int,
    ) -> NDArray[np.float64]:
        """Fit on some rows and predict others.

        Parameters
        ----------
        inputs
            One image ``(C, H, W)`` or vector ``(D,)`` per image cell.
        row_of_image
            Row of ``targets`` that each image cell belongs to, shape ``(n_images,)``.
        targets
            Expression, shape ``(n_rows, n_genes)``; only the rows of ``fit`` are looked at.
        fit, held_out
            Rows to fit on, and rows to predict.
        seed
            Seed of whatever is random.

        Returns
        -------
        Predictions, shape ``(len(held_out), n_genes)``.
        """
        ...


class RidgeRegression:
    """Ridge regression on the mean vector of each row's image cells."""

    parameters: dict[str, Any] = {}

    def predict(
        self,
        inputs: NDArray[Any],
        row_of_image: NDArray[np.intp],
        targets: NDArray[np.float64],
        fit: NDArray[np.intp],
        held_out: NDArray[np.intp],
        *,
        seed: int,
    ) -> NDArray[np.float64]:
        """See :class:`Regression`."""
        vectors = mean_of_rows(inputs.astype(np.float64), row_of_image, len(targets))
        parts = []
        for start in range(0, targets.shape[1], GENES_PER_FIT):
            model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))
            part = targets[fit, start : start + GENES_PER_FIT]
            parts.append(model.fit(vectors[fit], part).predict(vectors[held_out]).reshape(len(held_out), -1))
        return np.concatenate(parts, axis=1)


class ViTRegression:
    """A ViT trained on single images to predict the expression of the row they belong to.

    Parameters
    ----------
    max_epochs
        Passes over the training images at most.
    vit_kwargs
        Arguments of :class:`petri_scvi.nn.ImageEncoder` that replace the defaults.
    """

    def __init__(self, max_epochs: int, vit_kwargs: Mapping[str, int]) -> None:
        unknown = sorted(set(vit_kwargs) - {"patch_size", *VIT})
        if unknown:
            raise ValueError(f"vit_kwargs has {unknown}; expected some of {['patch_size', *VIT]}.")
        self.max_epochs = max_epochs
        self.parameters: dict[str, Any] = {**VIT, **vit_kwargs}

    def predict(
        self,
        inputs: NDArray[Any],
        row_of_image: NDArray[np.intp],
        targets: NDArray[np.float64],
        fit: NDArray[np.intp],
        held_out: NDArray[np.intp],
        *,
        seed: int,
    ) -> NDArray[np.float64]:
        """See :class:`Regression`."""
        self.parameters.setdefault("patch_size", _patch_size(*inputs.shape[2:]))
        _check_patch_size(self.parameters["patch_size"], *inputs.shape[2:])
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(fit)
        n_stopping = max(2, len(fit) // 10)
        stopping, training = shuffled[:n_stopping], shuffled[n_stopping:]
        mean, std = targets[training].mean(axis=0), targets[training].std(axis=0)
        std = np.where(std > 0, std, 1.0)
        images = _Images(inputs, np.flatnonzero(np.isin(row_of_image, training)))
        scaled = torch.from_numpy(((targets - mean) / std).astype(np.float32))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _Network(inputs.shape[1:], targets.shape[1], self.parameters).to(images.device)
            self._train(network, images, row_of_image, scaled, training, stopping, rng)
        return _predict_rows(network, images, row_of_image, held_out).numpy().astype(np.float64) * std + mean

    def _train(
        self,
        network: _Network,
        images: _Images,
        row_of_image: NDArray[np.intp],
        scaled: Tensor,
        training: NDArray[np.intp],
        stopping: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> None:
        """Train until the rows kept for stopping are predicted no better, and go back to the best epoch."""
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

        def error() -> float:
            prediction = _predict_rows(network, images, row_of_image, stopping)
            return float((prediction - scaled[stopping]).square().mean())

        cells = np.flatnonzero(np.isin(row_of_image, training))
        best, best_state, n_worse = error(), copy.deepcopy(network.state_dict()), 0
        for _ in range(self.max_epochs):
            network.train()
            for batch in _batches(rng.permutation(cells)):
                wanted = scaled[row_of_image[batch]].to(images.device)  # (B, M)
                loss = (network(images.read(batch)) - wanted).square().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
            now = error()
            if now < best:
                best, best_state, n_worse = now, copy.deepcopy(network.state_dict()), 0
            else:
                n_worse += 1
            if n_worse == PATIENCE:
                break
        network.load_state_dict(best_state)


class _Network(nn.Module):
    """ViT and a linear layer that starts at the mean of the training rows."""

    def __init__(self, image_shape: tuple[int, ...], n_genes: int, parameters: Mapping[str, int]) -> None:
        super().__init__()
        n_channels, height, width = image_shape
        self.encoder = ImageEncoder((n_channels, height, width), **parameters)
        self.head = nn.Linear(parameters["embed_dim"], n_genes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Shapes ``(B, C, H, W)`` -> ``(B, M)``."""
        return self.head(self.encoder(images).mean(dim=1))


class _Images:
    """Crops, normalised by mean and deviation of the training cells when they are read."""

    def __init__(self, crops: NDArray[Any], training: NDArray[np.intp]) -> None:
        self.crops = crops
        self.device = choose_device("auto")
        some = crops[training[:: max(1, len(training) // 2000)]].astype(np.float64)
        self.mean = some.mean(axis=(0, 2, 3), keepdims=True)
        std = some.std(axis=(0, 2, 3), keepdims=True)
        self.std = np.where(std > 0, std, 1.0)

    def read(self, cells: NDArray[np.intp]) -> Tensor:
        """Shape ``(len(cells), C, H, W)``, on the device."""
        normalised = (self.crops[cells] - self.mean) / self.std
        return torch.from_numpy(normalised.astype(np.float32)).to(self.device)


@torch.no_grad()
def _predict_rows(network: _Network, images: _Images, row_of_image: NDArray[np.intp], rows: NDArray[np.intp]) -> Tensor:
    """Mean prediction over the image cells of each row, shape ``(len(rows), M)``, on the CPU."""
    network.eval()
    cells = np.flatnonzero(np.isin(row_of_image, rows))
    predictions = torch.cat([network(images.read(batch)).cpu() for batch in _batches(cells)])
    place = torch.from_numpy(np.searchsorted(np.sort(rows), row_of_image[cells]))
    total = torch.zeros(len(rows), predictions.shape[1]).index_add_(0, place, predictions)
    means = total / torch.bincount(place, minlength=len(rows)).unsqueeze(1)
    return means[np.argsort(np.argsort(rows))]


def mean_of_rows(values: NDArray[np.float64], row_of_image: NDArray[np.intp], n_rows: int) -> NDArray[np.float64]:
    """Mean over the image cells of each row; shapes ``(n_images, D)`` -> ``(n_rows, D)``."""
    total = np.zeros((n_rows, values.shape[1]))
    np.add.at(total, row_of_image, values)
    return total / np.bincount(row_of_image, minlength=n_rows)[:, None]


def _batches(cells: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(cells), BATCH_SIZE):
        yield cells[start : start + BATCH_SIZE]


def _patch_size(height: int, width: int) -> int:
    """The largest patch of at most 8 pixels that divides the crop into 16 or more."""
    sizes = [size for size in range(1, 9) if height % size == 0 == width % size and height * width >= 16 * size**2]
    return max(sizes, default=1)


def _check_patch_size(patch_size: int, height: int, width: int) -> None:
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f"patch_size={patch_size} does not divide crops of {height} x {width} pixels.")
