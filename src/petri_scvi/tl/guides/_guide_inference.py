"""Sample the parameters of the guide model. Imports JAX, so it is imported only when the model is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.reparam import NeuTraReparam
from numpyro.optim import Adam
from scipy.special import ndtri
from scipy.stats import rankdata

from ._guide_coordinates import Coordinates
from ._guide_likelihood import Posterior, marginal_log_likelihood

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._guide_statistics import GuideStatistics

N_STEPS = 3000
LEARNING_RATE, FINAL_RATE = 0.02, 0.02
"""Of the variational fit; the last step is the second times the first long."""
N_WARMUP, N_CHAINS, TARGET_ACCEPT = 300, 2, 0.85
MAX_R_HAT, MIN_ESS = 1.05, 50
"""Chains with diagnostics beyond these have not mixed."""


def make_model(statistics: GuideStatistics, coordinates: Coordinates) -> Callable[[], None]:
    """Build the numpyro model of the coordinates; effects are integrated out."""

    def model() -> None:
        common = numpyro.sample("common", dist.ImproperUniform(constraints.real_vector, (), (coordinates.n_common,)))
        shape = (coordinates.n_genes, coordinates.n_local)
        local = numpyro.sample("local", dist.ImproperUniform(constraints.independent(constraints.real, 2), (), shape))
        found = coordinates.split(common, local)
        numpyro.factor("prior", coordinates.log_prior(found, common, local))
        likelihood = marginal_log_likelihood(coordinates.parameters(found), statistics, jnp)
        numpyro.factor("likelihood", likelihood)

    return model


class GeneBlocks(Transform):
    """Affine map that mixes the coordinates of each gene with each other and with the common ones.

    Genes are independent given the common coordinates, so a normal approximation needs no other covariance.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, loc: Any, common: Any, slope: Any, local: Any) -> None:
        # (H + G B,), (H, H) lower triangular, (G, B, H), (G, B, B) lower triangular
        self.loc, self.common, self.slope, self.local = loc, common, slope, local

    def __call__(self, x: Any) -> Any:
        n = len(self.common)
        of_genes = jnp.einsum("gab,gb->ga", self.local, x[n:].reshape(self.local.shape[:2])) + self.slope @ x[:n]
        return self.loc + jnp.concatenate([self.common @ x[:n], of_genes.ravel()])

    def _inverse(self, y: Any) -> Any:
        n, y = len(self.common), y - self.loc
        solve = jax.scipy.linalg.solve_triangular
        common = solve(self.common, y[:n], lower=True)
        left = y[n:].reshape(*self.local.shape[:2], 1) - (self.slope @ common)[..., None]
        return jnp.concatenate([common, solve(self.local, left, lower=True).ravel()])

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> Any:
        diagonals = [jnp.diagonal(tril, axis1=-2, axis2=-1) for tril in (self.common, self.local)]
        return jnp.log(diagonals[0]).sum() + jnp.log(diagonals[1]).sum()

    def tree_flatten(self) -> Any:
        return (self.loc, self.common, self.slope, self.local), (("loc", "common", "slope", "local"), {})


class GeneBlockNormal(AutoContinuous):
    """Normal approximation with the covariance within every gene, and with the common coordinates."""

    def _get_posterior(self) -> Any:
        n_genes, n_local = self._init_locs["local"].shape
        n = self.latent_dim - n_genes * n_local
        loc = numpyro.param("loc", self._init_latent)
        common = numpyro.param("common_raw", jnp.log(0.1) * jnp.eye(n))
        slope = numpyro.param("slope", jnp.zeros((n_genes, n_local, n)))
        local = numpyro.param(
            "local_raw", jnp.broadcast_to(jnp.log(0.1) * jnp.eye(n_local), (n_genes, n_local, n_local))
        )
        transform = GeneBlocks(loc, _lower_triangular(common), slope, _lower_triangular(local))
        return dist.TransformedDistribution(self.get_base_dist(), transform)

    def get_base_dist(self) -> Any:
        return dist.Normal(jnp.zeros(self.latent_dim), 1).to_event(1)


def _lower_triangular(raw: Any) -> Any:
    """Scale each row of a unit lower triangle by the exponential of its diagonal."""
    scale = jnp.exp(jnp.diagonal(raw, axis1=-2, axis2=-1))
    return scale[..., None] * (jnp.tril(raw, -1) + jnp.eye(raw.shape[-1]))


def sample_posterior(
    statistics: GuideStatistics,
    *,
    method: str,
    efficacy_prior: tuple[float, float],
    n_draws: int,
    seed: int,
    progress: bool,
) -> Posterior:
    """Fit the variational approximation, and draw from it or, in its coordinates, with NUTS."""
    with jax.enable_x64(True):
        chains, n_divergent, losses = draw_chains(statistics, method, efficacy_prior, n_draws, seed, progress)
        chains = {name: np.asarray(values, dtype=np.float64) for name, values in chains.items()}
    diagnostics = diagnose(chains, statistics) if method == "nuts" else pd.DataFrame()
    return Posterior(
        {name: values.reshape(-1, *values.shape[2:])[:n_draws] for name, values in chains.items()},
        diagnostics,
        int(n_divergent),
        np.asarray(losses, dtype=np.float64),
    )


def draw_chains(
    statistics: GuideStatistics,
    method: str,
    efficacy_prior: tuple[float, float],
    n_draws: int,
    seed: Any,
    progress: bool,
) -> tuple[dict[str, Any], Any, Any]:
    """Draws by parameter, ``(n_chains, n_each, ...)``, divergent ones, and losses of the fit; can be compiled."""
    coordinates = Coordinates(statistics, efficacy_prior)
    model = make_model(statistics, coordinates)
    guide = GeneBlockNormal(model, init_loc_fn=init_to_value(values=coordinates.start()))
    of_fit, of_draws = jax.random.split(jax.random.PRNGKey(seed))
    rate = lambda step: LEARNING_RATE * FINAL_RATE ** (jnp.minimum(step, N_STEPS) / N_STEPS)  # noqa: E731
    optimiser = Adam(rate, b2=0.99)
    fit = SVI(model, guide, optimiser, Trace_ELBO()).run(of_fit, N_STEPS, progress_bar=progress)
    neutra = NeuTraReparam(guide, fit.params)
    n_divergent = 0
    if method == "nuts":
        mcmc = MCMC(
            NUTS(neutra.reparam(model), target_accept_prob=TARGET_ACCEPT),
            num_warmup=N_WARMUP,
            num_samples=-(-n_draws // N_CHAINS),
            num_chains=N_CHAINS,
            chain_method="vectorized",  # compiled once, not once per chain
            progress_bar=progress,
        )
        mcmc.run(of_draws, extra_fields=("diverging",))
        white = mcmc.get_samples(group_by_chain=True)["auto_shared_latent"]  # (n_chains, n_each, H + G B)
        n_divergent = mcmc.get_extra_fields()["diverging"].sum()
    else:
        white = jax.random.normal(of_draws, (1, n_draws, guide.latent_dim))
    chains = jax.jit(jax.vmap(jax.vmap(lambda x: coordinates.named(neutra.transform(x)))))(white)
    return chains, n_divergent, fit.losses


def diagnose(chains: dict[str, NDArray[np.float64]], statistics: GuideStatistics) -> pd.DataFrame:
    """Worst R-hat and effective sample size of the values of each parameter that vary."""
    rows = []
    for name, values in chains.items():
        flat = values.reshape(*values.shape[:2], -1)
        is_free = np.broadcast_to(statistics.is_guide.ravel() if name == "efficacy" else True, flat.shape[2])
        flat = flat[..., is_free & (np.ptp(flat, axis=(0, 1)) > 0)]
        if flat.shape[-1]:
            r_hat, ess = r_hat_and_ess(flat)
            n_poor = int(((r_hat > MAX_R_HAT) | (ess < MIN_ESS)).sum())
            rows.append((name, float(r_hat.max()), float(ess.min()), flat.shape[-1], n_poor))
    return pd.DataFrame(rows, columns=["parameter", "r_hat", "ess", "n_values", "n_poor"])


def r_hat_and_ess(chains: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R-hat and effective sample size of ranks, ``(n_chains, n_each, n_values)``: standard deviations have no variance.

    R-hat is the larger of that of values and that of their distances from the median.
    """
    scores = _normal_scores(chains)
    folded = _normal_scores(np.abs(chains - np.median(chains, axis=(0, 1))))
    r_hat = np.maximum(split_gelman_rubin(scores), split_gelman_rubin(folded))
    return r_hat, effective_sample_size(scores)


def _normal_scores(chains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal quantile at the rank of each draw."""
    flat = chains.reshape(-1, chains.shape[2])
    scores: NDArray[np.float64] = ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25))
    return scores.reshape(chains.shape)
