"""Train a sparse autoencoder: optimiser, learning-rate schedule and threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track

from petri_scvi.nn import choose_device
from petri_scvi.nn._batch_top_k_autoencoder import BatchTopKAutoencoder

from ._sparse_autoencoder import SparseAutoencoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

DEAD_AFTER_CELLS = 20_000
"""A dimension that this many consecutive cells do not activate is dead."""


def fit_autoencoder(
    batches: Iterable[NDArray[np.float32]],
    n_steps: int,
    *,
    n_dimensions: int,
    n_active: int,
    mean: NDArray[np.float64],
    scale: float,
    accelerator: str,
    seed: int,
    progress: bool,
) -> tuple[SparseAutoencoder, NDArray[np.float32]]:
    """Train on minibatches of an embedding with this mean and scale, and set the threshold.

    The threshold replaces the minibatch at inference: it is the mean, over the last tenth of the steps, of the smallest
    activation that was kept in the minibatch.

    Returns
    -------
    The autoencoder, and the mean squared error of each step in units of the variance of the embedding.
    """
    device = choose_device(accelerator)
    network = BatchTopKAutoencoder(len(mean), n_dimensions, n_active, generator=torch.Generator().manual_seed(seed)).to(
        device
    )
    center = torch.as_tensor(mean, dtype=torch.float32, device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate(n_dimensions), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps))
    errors, cutoffs = torch.empty(n_steps, device=device), torch.empty(n_steps, device=device)
    steps = track(range(n_steps), "Fitting sparse autoencoder", disable=not progress)
    for step, batch in zip(steps, batches, strict=False):
        values = (torch.from_numpy(batch).to(device) - center) / scale
        loss, errors[step] = network.loss(values, dead_after=max(1, DEAD_AFTER_CELLS // len(batch)))
        cutoffs[step] = network.cutoff
        optimizer.zero_grad()
        loss.backward()
        network.keep_unit_norm()
        optimizer.step()
        network.renormalize()
        schedule.step()
    # Over the last steps, in which the learning rate is low and the weights hardly change.
    network.threshold.copy_(cutoffs[-max(1, n_steps // 10) :].mean())
    network.fold(center, scale)
    return SparseAutoencoder(network), errors.cpu().numpy()


def learning_rate(n_dimensions: int) -> float:
    """Learning rate of Adam; it falls with the root of the width, as in :cite:t:`Gao2025`."""
    return 1e-3 * float(np.sqrt(2**14 / n_dimensions))


def _rate(step: int, n_steps: int) -> float:
    """Factor of the learning rate: warm-up over the first 5 % of the steps, decay over the last 20 %."""
    return min(1.0, (step + 1) / max(1, n_steps // 20), (n_steps - step) / max(1, n_steps // 5))
