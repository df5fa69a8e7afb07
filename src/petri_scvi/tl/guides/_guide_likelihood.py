"""Log-likelihood of the guide model, without the effects themselves; the same for NumPy and JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ._guide_statistics import GuideStatistics


@dataclass(frozen=True)
class Parameters:
    """One draw of everything but the effects, in units of ``GuideStatistics.scale``."""

    efficacy: Any  # (G, J), 0 to 1
    shared: Any  # (G,), standard deviation of a gene's effect that all modalities share
    specific: Any  # (G, M) or (M,), standard deviation of its effect in one modality only
    off_target: Any  # (M,), standard deviation of what one guide does beside
    noise: Any  # (M,), standard deviation of one cell


@dataclass(frozen=True)
class Posterior:
    """Draws of the parameters, and whether they can be trusted."""

    draws: dict[str, NDArray[np.float64]]  # parameter: (n_draws, ...)
    diagnostics: pd.DataFrame  # one row per parameter: r_hat, ess, n_values, n_poor
    n_divergent: int
    losses: NDArray[np.float64]  # negative evidence lower bound per step of the variational fit

    def parameters(self, draw: int) -> Parameters:
        """One draw, as the likelihood takes it; noise is that of one cell."""
        return Parameters(*(self.draws[name][draw] for name in Parameters.__dataclass_fields__))


def marginal_log_likelihood(parameters: Parameters, statistics: GuideStatistics, xp: Any = np) -> Any:
    """Log-density of all profiles, effects integrated out.

    Parameters
    ----------
    parameters
        Efficacies and standard deviations.
    statistics
        Profiles.
    xp
        ``numpy`` or ``jax.numpy``.

    Notes
    -----
    Given efficacies, the profiles of a gene in a modality are measurements of one vector, ``theta + delta``, with
    precision ``information``. So the covariance of a gene is diagonal plus rank one per modality plus rank one, and its
    inverse and determinant are written out; none is ever formed.
    """
    p, n_dims = parameters, statistics.n_dims
    weight, log_variance = _weights(p, statistics.n_cells, xp)  # (G, J, M)
    loading = p.efficacy[:, :, None] * weight  # (G, J, M)
    information = (p.efficacy[:, :, None] * loading).sum(axis=1)  # (G, M)
    kept = 1 / (1 + p.specific**2 * information)  # (G, M)
    precision = (information * kept).sum(axis=1)  # (G,)
    combined = loading * kept[:, None, :]
    own = xp.einsum("gjm,gjmkm,gkm->gm", loading, statistics.products, loading)
    joint = xp.einsum("gjm,gjmkn,gkn->g", combined, statistics.products, combined)
    squares = xp.einsum("gjmjm->gjm", statistics.products)

    quadratic = (weight * squares).sum()
    quadratic -= (p.specific**2 * kept * own).sum()
    quadratic -= (p.shared**2 / (1 + p.shared**2 * precision) * joint).sum()
    log_determinant = log_variance.sum() - xp.log(kept).sum() + xp.log1p(p.shared**2 * precision).sum()
    of_genes = -0.5 * (n_dims * log_determinant + quadratic)

    control_weight, control_log_variance = _weights(p, statistics.control_cells, xp)  # (K, M)
    of_controls = -0.5 * (n_dims * control_log_variance.sum() + (control_weight * statistics.control_squares).sum())
    log_noise = xp.log(2 * np.pi * p.noise**2)
    of_replicates = -0.5 * (statistics.residual_count * log_noise + statistics.residual_squares / p.noise**2).sum()
    return of_genes + of_controls + of_replicates + statistics.constant


def _weights(p: Parameters, n_cells: NDArray[np.float64], xp: Any) -> tuple[Any, Any]:
    """Precision of each profile around the effect of its guide, and log of 2 pi times its variance; 0 if missing."""
    is_seen = n_cells > 0
    variance = p.off_target**2 + p.noise**2 / xp.where(is_seen, n_cells, 1.0)
    return xp.where(is_seen, 1 / variance, 0.0), xp.where(is_seen, xp.log(2 * np.pi * variance), 0.0)


@dataclass(frozen=True)
class Effects:
    """Conditional distribution of effects given parameters: independent normals, alike in all dimensions."""

    shared_mean: NDArray[np.float64]  # (G, D)
    shared_sd: NDArray[np.float64]  # (G,)
    _summed: NDArray[np.float64]  # (G, M, D)
    _information: NDArray[np.float64]  # (G, M)
    _specific_variance: NDArray[np.float64]  # (G, M)

    def specific(self, shared: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean ``(G, M, D)`` and standard deviation ``(G, M)`` of what a modality adds to a given shared effect."""
        unexplained = self._summed - self._information[..., None] * shared[:, None]
        return self._specific_variance[..., None] * unexplained, np.sqrt(self._specific_variance)


def effects_given(parameters: Parameters, statistics: GuideStatistics) -> Effects:
    """Distribution of the effects of all genes given one draw of the parameters."""
    p = parameters
    weight, _ = _weights(p, statistics.n_cells, np)
    loading = p.efficacy[:, :, None] * weight  # (G, J, M)
    information = (p.efficacy[:, :, None] * loading).sum(axis=1)  # (G, M)
    variance = np.broadcast_to(p.specific**2, information.shape)
    kept = 1 / (1 + variance * information)
    summed = np.einsum("gjm,gjmd->gmd", loading, statistics.means)
    shared_variance = p.shared**2 / (1 + p.shared**2 * (information * kept).sum(axis=1))  # (G,)
    mean = shared_variance[:, None] * np.einsum("gm,gmd->gd", kept, summed)
    return Effects(mean, np.sqrt(shared_variance), summed, information, variance * kept)
