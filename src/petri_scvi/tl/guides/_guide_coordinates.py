"""Unconstrained coordinates in which the guide model is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from ._guide_likelihood import Parameters

if TYPE_CHECKING:
    from ._guide_statistics import GuideStatistics

SMALLEST_START, START = 0.05, 0.3
"""Of standard deviations, in units of the root mean square of profiles; the second where profiles say nothing."""


class Coordinates:
    """Unconstrained coordinates of the parameters: common ones, and some for each gene.

    Weak guides of a strong gene look like strong guides of a weak one: the profiles determine only the effect of one
    guide and the ratios of the others to it. Using these as coordinates spares the sampler this ridge. The likelihood
    is smooth in them, unlike in the effect of the best guide.

    Common, H: off-target effects and noise per modality, as the normal deviates at their ranks in the prior, which
    reach 0 without a long tail; logs of the strength of shared and, of several modalities, of specific effects. Of a
    gene, B: for one guide, the reference, logit of the largest efficacy of the gene; for the others, log efficacy
    relative to the reference; logs of the standard deviations of the shared and, of several modalities, of the specific
    effects of the reference. Relative to the log of the strength, their spread does not depend on the strength, so a
    small strength creates no funnel.
    """

    def __init__(self, statistics: GuideStatistics, efficacy_prior: tuple[float, float]) -> None:
        self.n_genes, self.n_guides = statistics.guides.shape
        self.n_modalities = len(statistics.modalities)
        self.is_single = self.n_modalities == 1
        self.n_common = 1 + (2 if self.is_single else 3) * self.n_modalities
        self.n_local = self.n_guides + 1 + (0 if self.is_single else self.n_modalities)
        self.efficacy_prior = efficacy_prior
        is_seen = statistics.n_cells > 0  # (G, J, M)
        self.noise_unit = jnp.sqrt(jnp.nanmedian(jnp.where(is_seen, statistics.n_cells, jnp.nan), axis=(0, 1)))  # (M,)
        self.is_guide = is_seen.any(axis=2)  # (G, J)
        squares = jnp.einsum("gjmjm->gj", statistics.products) / jnp.maximum(is_seen.sum(axis=2), 1)
        self.is_reference = jnp.arange(self.n_guides) == squares.argmax(axis=1)[:, None]  # (G, J)
        self.size = jnp.sqrt(squares.max(axis=1) / statistics.n_dims)  # (G,)
        self.noise = jnp.sqrt(statistics.residual_squares / jnp.maximum(statistics.residual_count, 1)) / self.noise_unit

    def start(self) -> dict[str, Any]:
        """Starting point of the fit: good guides, effects as large as the best profiles, noise as among replicates.

        The large gradients of a distant starting point would keep the steps of Adam small for a long time.
        """
        of_guides = jnp.where(self.is_reference, 1.5, -0.5)
        scales = jnp.log(jnp.maximum(self.size, SMALLEST_START) / 2)
        local = jnp.broadcast_to(scales[:, None], (self.n_genes, self.n_local - self.n_guides))
        noise = jnp.where(self.noise > 0, jnp.clip(self.noise, SMALLEST_START, 3.0), START)
        deviates = [_deviate(jnp.minimum(noise, START)), _deviate(noise)]  # of off-target effects and of noise
        strength = jnp.full(self.n_common - 2 * self.n_modalities, jnp.median(scales))
        return {"common": jnp.concatenate([*deviates, strength]), "local": jnp.concatenate([of_guides, local], axis=1)}

    def named(self, flat: Any) -> dict[str, Any]:
        """Parameters by name from all coordinates in a row; noise is that of one cell."""
        local = flat[self.n_common :].reshape(self.n_genes, self.n_local)
        found = self.split(flat[: self.n_common], local)
        return found | vars(self.parameters(found))

    def split(self, common: Any, local: Any) -> dict[str, Any]:
        """Parameters by name, noise in units of a typical profile."""
        off_target, noise, strength = jnp.split(common, [self.n_modalities, 2 * self.n_modalities], axis=-1)
        of_guides, scales = jnp.split(local, [self.n_guides], axis=-1)
        lost = jax.nn.softplus(-jnp.where(self.is_reference, of_guides, 0.0).sum(axis=-1))  # -log of largest efficacy
        relative = jnp.where(self.is_reference, 0.0, of_guides)
        of_reference = -lost - jnp.where(self.is_guide, relative, -jnp.inf).max(axis=-1)  # log efficacy
        log_efficacy = relative + of_reference[..., None]
        found = {
            "strength": jnp.exp(strength[..., 0]),
            "off_target": _half_normal(off_target),
            "noise": _half_normal(noise),
            "efficacy": jnp.exp(jnp.where(self.is_guide, log_efficacy, -1.0)),
            "shared": jnp.exp(scales[..., 0] - of_reference),
        }
        if not self.is_single:
            found["specific_strength"] = jnp.exp(strength[..., 1:])
            found["specific"] = jnp.exp(scales[..., 1:] - of_reference[..., None])
        return found

    def log_prior(self, found: dict[str, Any], common: Any, local: Any) -> Any:
        """Log-density of the coordinates of one draw."""
        total = -0.5 * (common[: 2 * self.n_modalities] ** 2).sum()
        for strength, sd in (("strength", "shared"), ("specific_strength", "specific")):
            if strength in found:
                total += _on_log_scale(dist.HalfNormal(1.0), found[strength])
                total += _on_log_scale(dist.HalfCauchy(found[strength]), found[sd])
        of_guides = local[:, : self.n_guides]
        prior = dist.Beta(*self.efficacy_prior)
        inside = jnp.clip(found["efficacy"], 1e-300, 1 - 1e-15)
        total += jnp.where(self.is_guide, prior.log_prob(inside) + jnp.log(inside), 0.0).sum()
        total += jnp.where(self.is_reference, jax.nn.log_sigmoid(-of_guides), 0.0).sum()  # from -log efficacy to logit
        return total + jnp.where(self.is_guide, 0.0, -0.5 * of_guides**2).sum()  # absent guides

    def parameters(self, found: dict[str, Any]) -> Parameters:
        """The arguments of the likelihood."""
        specific = found.get("specific", jnp.zeros(1))  # not identifiable with one modality
        noise = found["noise"] * self.noise_unit
        return Parameters(found["efficacy"], found["shared"], specific, found["off_target"], noise)


def _half_normal(deviate: Any) -> Any:
    """Half-normal number at the same rank as a normal one."""
    return -jax.scipy.special.ndtri(jax.scipy.special.ndtr(-deviate) / 2)


def _deviate(half_normal: Any) -> Any:
    return -jax.scipy.special.ndtri(2 * jax.scipy.special.ndtr(-half_normal))


def _on_log_scale(distribution: Any, value: Any) -> Any:
    return (distribution.log_prob(value) + jnp.log(value)).sum()
