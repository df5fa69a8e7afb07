"""Sample the parameters of the guide model. The only file that imports JAX and numpyro; it is imported when called."""

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

from ._guide_likelihood import Parameters, Posterior, marginal_log_likelihood

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._guide_statistics import GuideStatistics

N_STEPS = 3000
LEARNING_RATE, FINAL_RATE = 0.02, 0.02
"""Of the variational fit; the last step is the second times the first long."""
N_WARMUP, N_CHAINS, TARGET_ACCEPT = 300, 2, 0.85
MAX_R_HAT, MIN_ESS = 1.05, 50
"""Beyond these the chains have not mixed."""


class Coordinates:
    """Real numbers that stand for the parameters: common ones, and some for each gene.

    Weaker guides of a stronger gene look like stronger guides of a weaker one: only what the best guide does and the
    ratios to it are seen in the profiles. These are the coordinates, so that samplers need not follow the ridge.

    Common, H: logs of the strength of shared effects, of off-target effects and noise per modality and, of several
    modalities, of the strength of specific effects. Of a gene, B: for one of its guides, logit of the largest efficacy;
    for the others, log efficacy relative to that one; standard deviations of the shared and, of several
    modalities, of the specific effects of the best guide, with a sign that means nothing, so that 0 is no boundary.
    """

    def __init__(self, statistics: GuideStatistics, efficacy_prior: tuple[float, float]) -> None:
        self.n_genes, self.n_guides = statistics.guides.shape
        self.n_modalities = len(statistics.modalities)
        self.is_single = self.n_modalities == 1
        self.n_common = 1 + (2 if self.is_single else 3) * self.n_modalities
        self.n_local = self.n_guides + 1 + (0 if self.is_single else self.n_modalities)
        self.noise_unit = np.sqrt(statistics.typical_cells)
        self.efficacy_prior = efficacy_prior
        self.is_guide = statistics.is_guide
        seen = (statistics.n_cells > 0).sum(axis=2)
        length = np.einsum("gjmjm->gj", statistics.products) / np.maximum(seen, 1)
        self.is_reference = np.arange(self.n_guides) == length.argmax(axis=1)[:, None]  # (G, J)

    def start(self) -> dict[str, Any]:
        """Where the fit starts: good guides, and effects of medium size."""
        of_guides = np.where(self.is_reference, 1.5, -0.5)
        scales = np.full((self.n_genes, self.n_local - self.n_guides), 0.3)
        common = np.full(self.n_common, np.log(0.3))
        return {"common": jnp.asarray(common), "local": jnp.asarray(np.concatenate([of_guides, scales], axis=1))}

    def named(self, flat: Any) -> dict[str, Any]:
        """Parameters by name from all coordinates in a row; noise is that of one cell."""
        local = flat[self.n_common :].reshape(self.n_genes, self.n_local)
        found = self.split(flat[: self.n_common], local)
        return found | vars(self.parameters(found))

    def split(self, common: Any, local: Any) -> dict[str, Any]:
        """Parameters by name, noise in units of a typical profile."""
        parts = jnp.split(jnp.exp(common), np.cumsum([1] + [self.n_modalities] * 2), axis=-1)
        of_guides = local[..., : self.n_guides]
        lost = jax.nn.softplus(-jnp.where(self.is_reference, of_guides, 0.0).sum(axis=-1))  # -log of largest efficacy
        relative = jnp.where(self.is_reference, 0.0, of_guides)
        largest = jnp.where(self.is_guide, relative, -jnp.inf).max(axis=-1)
        log_efficacy = relative - (largest + lost)[..., None]
        found = {
            "strength": parts[0][..., 0],
            "off_target": parts[1],
            "noise": parts[2],
            "efficacy": jnp.exp(jnp.where(self.is_guide, log_efficacy, -1.0)),
            "shared": jnp.abs(local[..., self.n_guides]) * jnp.exp(lost),
        }
        if not self.is_single:
            found["specific_strength"] = parts[3]
            found["specific"] = jnp.abs(local[..., self.n_guides + 1 :]) * jnp.exp(lost)[..., None]
        return found

    def log_prior(self, found: dict[str, Any], local: Any) -> Any:
        """Log-density of the coordinates of one draw."""
        half_normal = ("strength", "off_target", "noise", "specific_strength")
        total = sum(_on_log_scale(dist.HalfNormal(1.0), found[name]) for name in half_normal if name in found)
        total += dist.HalfCauchy(found["strength"]).log_prob(found["shared"]).sum()
        if not self.is_single:
            total += dist.HalfCauchy(found["specific_strength"]).log_prob(found["specific"]).sum()
        of_guides = local[:, : self.n_guides]
        lost = jax.nn.softplus(-jnp.where(self.is_reference, of_guides, 0.0).sum(axis=1))
        total += (self.n_local - self.n_guides) * lost.sum()  # from effects of the best guide to those of the gene
        prior = dist.Beta(*self.efficacy_prior)
        inside = jnp.clip(found["efficacy"], 1e-300, 1 - 1e-15)
        total += jnp.where(self.is_guide, prior.log_prob(inside) + jnp.log(inside), 0.0).sum()
        total += jnp.where(self.is_reference, jax.nn.log_sigmoid(-of_guides), 0.0).sum()  # from -log efficacy to logit
        return total + jnp.where(self.is_guide, 0.0, -0.5 * of_guides**2).sum()  # absent guides

    def parameters(self, found: dict[str, Any]) -> Parameters:
        """As the likelihood takes them."""
        specific = found.get("specific", np.zeros(1))  # one modality cannot tell what others would share
        noise = found["noise"] * self.noise_unit
        return Parameters(found["efficacy"], found["shared"], specific, found["off_target"], noise)


def _on_log_scale(distribution: Any, value: Any) -> Any:
    return (distribution.log_prob(value) + jnp.log(value)).sum()


def make_model(statistics: GuideStatistics, coordinates: Coordinates) -> Callable[[], None]:
    """Build the numpyro model of the coordinates; effects are integrated out."""

    def model() -> None:
        common = numpyro.sample("common", dist.ImproperUniform(constraints.real_vector, (), (coordinates.n_common,)))
        shape = (coordinates.n_genes, coordinates.n_local)
        local = numpyro.sample("local", dist.ImproperUniform(constraints.independent(constraints.real, 2), (), shape))
        found = coordinates.split(common, local)
        numpyro.factor("prior", coordinates.log_prior(found, local))
        likelihood = marginal_log_likelihood(coordinates.parameters(found), statistics, jnp)
        numpyro.factor("likelihood", likelihood)

    return model


class GeneBlocks(Transform):
    """Affine map that mixes the coordinates of each gene, and the common ones, but not genes with each other."""

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, loc: Any, common: Any, local: Any) -> None:
        self.loc, self.common, self.local = loc, common, local  # (H + G B,), (H, H), (G, B, B), both lower triangular

    def __call__(self, x: Any) -> Any:
        n = len(self.common)
        of_genes = jnp.einsum("gab,gb->ga", self.local, x[n:].reshape(self.local.shape[:2]))
        return self.loc + jnp.concatenate([self.common @ x[:n], of_genes.ravel()])

    def _inverse(self, y: Any) -> Any:
        n, y = len(self.common), y - self.loc
        solve = jax.scipy.linalg.solve_triangular
        of_genes = solve(self.local, y[n:].reshape(*self.local.shape[:2], 1), lower=True)
        return jnp.concatenate([solve(self.common, y[:n], lower=True), of_genes.ravel()])

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> Any:
        diagonals = [jnp.diagonal(tril, axis1=-2, axis2=-1) for tril in (self.common, self.local)]
        return jnp.log(diagonals[0]).sum() + jnp.log(diagonals[1]).sum()

    def tree_flatten(self) -> Any:
        return (self.loc, self.common, self.local), (("loc", "common", "local"), {})


class GeneBlockNormal(AutoContinuous):
    """Normal approximation with a covariance within every gene, where strength and efficacies trade off."""

    def _get_posterior(self) -> Any:
        shape = self._init_locs["local"].shape
        n = self.latent_dim - shape[0] * shape[1]
        loc = numpyro.param("loc", self._init_latent)
        common = numpyro.param("common_raw", jnp.log(0.1) * jnp.eye(n))
        local = numpyro.param("local_raw", jnp.broadcast_to(jnp.log(0.1) * jnp.eye(shape[1]), (*shape, shape[1])))
        transform = GeneBlocks(loc, _lower_triangular(common), _lower_triangular(local))
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
    coordinates = Coordinates(statistics, efficacy_prior)
    with jax.enable_x64(True):
        model = make_model(statistics, coordinates)
        guide = GeneBlockNormal(model, init_loc_fn=init_to_value(values=coordinates.start()))
        of_fit, of_draws = jax.random.split(jax.random.PRNGKey(seed))
        optimiser = Adam(lambda step: LEARNING_RATE * FINAL_RATE ** (jnp.minimum(step, N_STEPS) / N_STEPS))
        fit = SVI(model, guide, optimiser, Trace_ELBO()).run(of_fit, N_STEPS, progress_bar=progress)
        neutra = NeuTraReparam(guide, fit.params)
        n_divergent = 0
        if method == "nuts":
            kernel = NUTS(neutra.reparam(model), target_accept_prob=TARGET_ACCEPT)
            n_each = -(-n_draws // N_CHAINS)
            mcmc = MCMC(
                kernel,
                num_warmup=N_WARMUP,
                num_samples=n_each,
                num_chains=N_CHAINS,
                chain_method="sequential",
                progress_bar=progress,
            )
            mcmc.run(of_draws, extra_fields=("diverging",))
            white = mcmc.get_samples(group_by_chain=True)["auto_shared_latent"]  # (n_chains, n_each, H + G B)
            n_divergent = int(mcmc.get_extra_fields()["diverging"].sum())
        else:
            white = jax.random.normal(of_draws, (1, n_draws, guide.latent_dim))
        chains = jax.jit(jax.vmap(jax.vmap(lambda x: coordinates.named(neutra.transform(x)))))(white)
        chains = {name: np.asarray(values, dtype=np.float64) for name, values in chains.items()}
    diagnostics = diagnose(chains, statistics) if method == "nuts" else pd.DataFrame()
    return Posterior(
        {name: values.reshape(-1, *values.shape[2:])[:n_draws] for name, values in chains.items()},
        diagnostics,
        n_divergent,
        np.asarray(fit.losses, dtype=np.float64),
    )


def diagnose(chains: dict[str, NDArray[np.float64]], statistics: GuideStatistics) -> pd.DataFrame:
    """Worst R-hat and effective sample size of the values of each parameter that vary."""
    rows = []
    for name, values in chains.items():
        flat = values.reshape(*values.shape[:2], -1)
        is_free = np.broadcast_to(statistics.is_guide.ravel() if name == "efficacy" else True, flat.shape[2])
        flat = flat[..., is_free & (np.ptp(flat, axis=(0, 1)) > 0)]
        if flat.shape[-1]:
            r_hat, ess = split_gelman_rubin(flat), effective_sample_size(flat)
            n_poor = int(((r_hat > MAX_R_HAT) | (ess < MIN_ESS)).sum())
            rows.append((name, float(r_hat.max()), float(ess.min()), flat.shape[-1], n_poor))
    return pd.DataFrame(rows, columns=["parameter", "r_hat", "ess", "n_values", "n_poor"])
