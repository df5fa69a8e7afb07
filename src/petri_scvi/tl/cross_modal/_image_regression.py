"""Regressions from images, or their embedding, to expression."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from petri_scvi.nn import ImageEncoder, choose_device, choose_patch_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

ALPHAS = np.logspace(-1, 6, 15)
"""Penalties of the ridge regression; each gene uses the one with the best leave-one-out error of its training rows."""
GENES_PER_FIT = 1000
VIT = {"n_latent_tokens": 1, "embed_dim": 64, "image_encoder_depth": 4, "n_heads": 4}
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
PATIENCE = 5
"""Training ends after this many epochs without a better prediction of the rows reserved for early stopping."""


@dataclass(frozen=True)
class Fold:
    """One split of a cross-validation: rows to fit on and rows to predict."""

    inputs: NDArray[Any]
    """One image ``(C, H, W)`` or vector ``(D,)`` per image cell."""
    row_of_image: NDArray[np.intp]
    """Row of ``targets`` that each image cell belongs to, shape ``(n_images,)``."""
    targets: NDArray[np.float64]
    """Expression, shape ``(n_rows, n_genes)``; only the rows of ``fit`` are read."""
    fit: NDArray[np.intp]
    held_out: NDArray[np.intp]
    seed: int


class RidgeRegression:
    """Ridge regression on the mean vector of each row's image cells."""

    parameters: dict[str, Any] = {}

    def predict(self, fold: Fold) -> NDArray[np.float64]:
        """Fit, and predict the held-out rows, shape ``(n_held_out, n_genes)``."""
        vectors = mean_of_rows(fold.inputs.astype(np.float64), fold.row_of_image, len(fold.targets))
        parts = []
        for start in range(0, fold.targets.shape[1], GENES_PER_FIT):
            model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))
            model.fit(vectors[fold.fit], fold.targets[fold.fit, start : start + GENES_PER_FIT])
            parts.append(model.predict(vectors[fold.held_out]).reshape(len(fold.held_out), -1))
        return np.concatenate(parts, axis=1)


class ViTRegression:
    """A ViT trained on single images to predict the expression of the row they belong to.

    Parameters
    ----------
    max_epochs
        Largest number of passes over the training images.
    vit_kwargs
        Arguments of :class:`petri_scvi.nn.ImageEncoder` that replace the defaults.
    """

    def __init__(self, max_epochs: int, vit_kwargs: Mapping[str, int]) -> None:
        unknown = sorted(set(vit_kwargs) - {"patch_size", *VIT})
        if unknown:
            raise ValueError(f"vit_kwargs has {unknown}; expected some of {['patch_size', *VIT]}.")
        self.max_epochs = max_epochs
        self.parameters: dict[str, Any] = {**VIT, **vit_kwargs}

    def predict(self, fold: Fold) -> NDArray[np.float64]:
        """Train, and predict the held-out rows, shape ``(n_held_out, n_genes)``."""
        image_shape = fold.inputs.shape[1:]
        self.parameters.setdefault("patch_size", choose_patch_size(*image_shape[1:]))
        _check_patch_size(self.parameters["patch_size"], *image_shape[1:])
        rng = np.random.default_rng(fold.seed)
        shuffled = rng.permutation(fold.fit)
        n_stopping = max(2, len(fold.fit) // 10)
        stopping, training = shuffled[:n_stopping], shuffled[n_stopping:]
        mean, std = fold.targets[training].mean(axis=0), fold.targets[training].std(axis=0)
        std = np.where(std > 0, std, 1.0)
        images = _Images(fold.inputs, fold.row_of_image, training)
        scaled = torch.from_numpy(((fold.targets - mean) / std).astype(np.float32))
        with torch.random.fork_rng():
            torch.manual_seed(fold.seed)
            network = _Network(image_shape, fold.targets.shape[1], self.parameters).to(images.device)
            self._train(network, images, scaled, training, stopping, rng)
        return _predict_rows(network, images, fold.held_out).numpy().astype(np.float64) * std + mean

    def _train(
        self,
        network: _Network,
        images: _Images,
        scaled: Tensor,
        training: NDArray[np.intp],
        stopping: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> None:
        """Train until the predictions of the stopping rows no longer improve, and restore the best epoch."""
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

        def error() -> float:
            return float((_predict_rows(network, images, stopping) - scaled[stopping]).square().mean())

        cells = images.of_rows(training)
        best, best_state, n_worse = error(), copy.deepcopy(network.state_dict()), 0
        for _ in range(self.max_epochs):
            network.train()
            for batch in _batches(rng.permutation(cells)):
                wanted = scaled[images.row[batch]].to(images.device)  # (B, M)
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
        self.encoder = ImageEncoder((n_channels, height, width), **parameters, linear_path=False)
        self.head = nn.Linear(parameters["embed_dim"], n_genes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Shapes ``(B, C, H, W)`` -> ``(B, M)``."""
        return self.head(self.encoder(images).mean(dim=1))


class _Images:
    """Crops, normalised by the mean and standard deviation of the training cells when they are read."""

    def __init__(self, crops: NDArray[Any], row: NDArray[np.intp], training: NDArray[np.intp]) -> None:
        self.crops, self.row = crops, row
        self.device = choose_device("auto")
        cells = self.of_rows(training)
        some = crops[cells[:: max(1, len(cells) // 2000)]].astype(np.float64)
        self.mean = some.mean(axis=(0, 2, 3), keepdims=True)
        std = some.std(axis=(0, 2, 3), keepdims=True)
        self.std = np.where(std > 0, std, 1.0)

    def of_rows(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Image cells of some rows."""
        return np.flatnonzero(np.isin(self.row, rows))

    def read(self, cells: NDArray[np.intp]) -> Tensor:
        """Shape ``(len(cells), C, H, W)``, on the device."""
        normalised = (self.crops[cells] - self.mean) / self.std
        return torch.from_numpy(normalised.astype(np.float32)).to(self.device)


@torch.no_grad()
def _predict_rows(network: _Network, images: _Images, rows: NDArray[np.intp]) -> Tensor:
    """Mean prediction over the image cells of each row, shape ``(len(rows), M)``, on the CPU."""
    network.eval()
    cells = images.of_rows(rows)
    predictions = torch.cat([network(images.read(batch)).cpu() for batch in _batches(cells)])
    place = torch.from_numpy(np.searchsorted(np.sort(rows), images.row[cells]))
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


def _check_patch_size(patch_size: int, height: int, width: int) -> None:
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f"patch_size={patch_size} does not divide crops of {height} x {width} pixels.")
