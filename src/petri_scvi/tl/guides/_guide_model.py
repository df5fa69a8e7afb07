"""Efficacy of guides and effects of genes, with uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._checks import check_sizes
from petri_scvi._constants import CONTROL
from petri_scvi.common._labels import label_list
from petri_scvi.common._warn import warn
from petri_scvi.tl._arguments import check_choice
from petri_scvi.tl._results import one_or_several, write_result

from ._guide_statistics import read_statistics
from ._guide_summary import cosine_summary, draw_effects, guide_table, pair_table, variance_table, with_interval

if TYPE_CHECKING:
    from petri_scvi.common._labels import Labels

    from ._guide_likelihood import Posterior
    from ._guide_statistics import GuideStatistics
    from ._guide_summary import EffectDraws

RESULT = "guide_model"
MAX_POOR = 0.01
"""Share of the many values of a run that may mix badly by chance."""
MAX_GAIN = 0.1
"""Largest gain of evidence per gene, in nats, over the last tenth of a fit that has converged."""


def guide_model(
    profiles: AnnData,
    *,
    method: Literal["nuts", "svi"] = "nuts",
    control: Labels = CONTROL,
    efficacy_prior: tuple[float, float] = (2.0, 1.0),
    dead_below: float = 0.2,
    similar_above: float = 0.5,
    n_draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> AnnData:
    r"""Infer the efficacy of every guide and the effect of every gene, with uncertainty.

    Parameters
    ----------
    profiles
        Profiles of guides in replicates, from :func:`petri_scvi.tl.replicate_profiles`, or of guides, from
        :func:`petri_scvi.tl.aggregate_profiles`, with non-targeting guides and cell counts. Modalities are layers in
        one space; guides may be missing from some, and genes may have any number of guides.
    method
        ``"nuts"`` samples the posterior. ``"svi"`` is a normal approximation with a covariance within each gene; it is
        several times faster, and what NUTS starts from.
    control
        Value of ``obs["target_gene"]`` that marks non-targeting guides, or several; effects are measured from them.
    efficacy_prior
        The two parameters of the beta distribution of efficacies. Profiles determine only the ratios of efficacies
        within a gene, so their level, but not their order, depends on this prior.
    dead_below
        A guide with a lower efficacy than this is dead.
    similar_above
        Two genes with a larger cosine than this are similar.
    n_draws
        Draws from the posterior, over two chains for NUTS.
    seed
        Seed of all draws.
    progress
        Show a progress bar.

    Returns
    -------
    One profile per target gene, controls left out, to be passed to any function that takes profiles of genes.

    - ``X``, shape ``(n_genes, D)``: posterior mean profile of a guide of efficacy 1, in the coordinates of the
      embedding, as the mean over modalities; the more uncertain it is, the more it is shrunk towards the control.
      ``layers["effect"]`` is its difference from the control. Of several modalities, ``layers[modality]`` has the
      profile within each, and ``layers["shared"]`` the part of the effect that all share.
    - ``obs``: ``target_gene``, ``n_guides``, ``n_cells``, and ``strength``, the root mean square over dimensions of the
      effect, with ``strength_low`` and ``strength_high``.
    - ``obsp["cosine"]``, ``obsp["cosine_low"]``, ``obsp["cosine_high"]``, shape ``(n_genes, n_genes)``: cosine of the
      effects, from the control on and as the mean over modalities; ``obsp["p_similar"]``: probability that it is above
      ``similar_above``.
    - ``varm["guide_model"]``: variance over genes of each dimension, columns ``shared`` and, of several modalities,
      one per modality.
    - ``uns["petri_scvi"]["guide_model"]``: ``guides``, one row per guide (``guide``, ``target_gene``, ``n_cells``,
      ``efficacy`` from 0 to 1, ``p_dead``, and ``log10_bayes_factor``, by how much the profiles raise the odds of being
      dead over the prior); ``variance``, one row per modality (variance per dimension of effects that are ``shared`` or
      ``specific`` to the modality, ``off_target``, and ``sampling`` of cells; ``shared_fraction``, the first over the
      first two); ``pairs``, one row per pair of modalities (``correlation`` of effects, and ``bits``, their mutual
      information per gene if they are normal); ``diagnostics``, for NUTS one row per parameter (largest ``r_hat``,
      smallest ``ess``, ``n_values`` and how many of them, ``n_poor``, mixed badly); ``n_divergent``; ``losses``
      (negative evidence lower bound per step of the variational fit); ``parameters``.

    Values are posterior means; ``_low`` and ``_high`` are the bounds of their 90 % credible intervals.

    Raises
    ------
    ImportError
        numpyro and JAX are not installed.
    KeyError
        A column of ``obs`` is missing.
    TypeError
        Profiles are not one AnnData.
    ValueError
        Modalities do not share a space, there are no controls, a guide has two profiles in a replicate, or an argument
        is out of range.

    Warns
    -----
    UserWarning
        Chains have not mixed, draws diverged, the fit has not converged, guides are left out, or replicates have no
        controls.

    Notes
    -----
    For gene :math:`g`, guide :math:`j`, modality :math:`m` and dimension :math:`d`, the profile of :math:`n` cells is

    .. math::
        y \sim N\bigl(e_{gj} (\theta_{gd} + \delta_{mgd}) + \epsilon_{mgjd},\; \sigma_m^2 / n\bigr), \quad
        \theta_{gd} \sim N(0, \tau^2 \lambda_g^2), \quad \delta_{mgd} \sim N(0, \tau_m^2 \lambda_{mg}^2), \quad
        \epsilon_{mgjd} \sim N(0, \omega_m^2),

    :math:`e_{gj}` has a beta prior, :math:`\lambda` half-Cauchy ones, and :math:`\tau`, :math:`\omega` and
    :math:`\sigma` half-normal ones, in units of the root mean square of the profiles. Effects are integrated out, and
    drawn back in closed form. All dimensions have the same weight, so whiten the embedding first. With one modality
    :math:`\delta` is left out. R-hat and effective sample sizes are those of ranks :cite:p:`Vehtari2021`. Guides of
    different efficacy have been modelled before for screens with a single readout :cite:p:`Daley2018,Ryu2023`.
    """
    check_choice("method", method, ("nuts", "svi"))
    check_sizes(n_draws=n_draws)
    _check_ranges(efficacy_prior, dead_below, similar_above)
    sample = _sampler()
    statistics = read_statistics(profiles, control)
    prior = (float(efficacy_prior[0]), float(efficacy_prior[1]))
    posterior: Posterior = sample(
        statistics, method=method, efficacy_prior=prior, n_draws=n_draws, seed=seed, progress=progress
    )
    _warn_if_doubtful(posterior, method, n_draws)
    draws = draw_effects(posterior, statistics, np.random.default_rng(seed))
    genes = _assemble(draws, statistics, profiles)
    for name, values in cosine_summary(draws.unit, similar_above).items():
        genes.obsp[name] = values
    result: dict[str, Any] = {
        "guides": guide_table(posterior, statistics, prior, dead_below),
        "variance": variance_table(draws, _names(statistics)),
        "pairs": pair_table(draws, statistics.modalities, statistics.n_dims),
        "diagnostics": posterior.diagnostics,
        "n_divergent": posterior.n_divergent,
        "losses": posterior.losses,
    }
    names = one_or_several(label_list(control, "control"))
    parameters = {"method": method, "control": names, "efficacy_prior": prior, "dead_below": dead_below}
    parameters |= {"similar_above": similar_above, "n_draws": n_draws, "seed": seed}
    # An empty table has no columns, which a file cannot hold.
    write_result(genes, RESULT, {k: v for k, v in result.items() if not _is_empty(v)}, parameters)
    return genes


def _sampler() -> Any:
    try:
        from ._guide_inference import sample_posterior
    except ImportError as error:
        raise ImportError(
            f'{error.name} is needed to sample the guide model; run pip install "petri-scvi[bayes]"', name=error.name
        ) from error
    return sample_posterior


def _assemble(draws: EffectDraws, statistics: GuideStatistics, profiles: AnnData) -> AnnData:
    names = statistics.genes.astype(str)
    obs = pd.DataFrame({"target_gene": names, "n_guides": statistics.is_guide.sum(axis=1)}, index=names)
    obs["n_cells"] = statistics.n_cells.sum(axis=(1, 2)).astype(int)
    obs[["strength", "strength_low", "strength_high"]] = with_interval("strength", draws.length).to_numpy()
    within = draws.within + statistics.origin[:, None]  # (M, G, D)
    genes = AnnData(X=within.mean(axis=0), obs=obs, var=pd.DataFrame(index=profiles.var_names))
    genes.layers["effect"] = draws.within.mean(axis=0)
    columns = ["shared"]
    if len(statistics.modalities) > 1:
        columns += statistics.modalities
        genes.layers["shared"] = draws.shared
        for name, mean in zip(statistics.modalities, within, strict=True):
            genes.layers[name] = mean
    genes.varm[RESULT] = pd.DataFrame(draws.by_dimension[:, : len(columns)], index=profiles.var_names, columns=columns)
    return genes


def _names(statistics: GuideStatistics) -> list[str]:
    return [str(name) for name in statistics.modalities]


def _is_empty(value: Any) -> bool:
    return isinstance(value, pd.DataFrame) and value.empty


def _check_ranges(efficacy_prior: tuple[float, float], dead_below: float, similar_above: float) -> None:
    if len(efficacy_prior) != 2 or not all(0 < value < np.inf for value in efficacy_prior):
        raise ValueError(
            f"efficacy_prior={efficacy_prior!r} is not accepted; pass two positive numbers, for example (2.0, 1.0)"
        )
    if not 0 < dead_below < 1:
        raise ValueError(f"dead_below={dead_below!r} is not accepted; pass an efficacy between 0 and 1, such as 0.2")
    if not -1 < similar_above < 1:
        raise ValueError(
            f"similar_above={similar_above!r} is not accepted; pass a cosine between -1 and 1, such as 0.5"
        )


def _warn_if_doubtful(posterior: Posterior, method: str, n_draws: int) -> None:
    """Warn about diagnostics of an unreliable fit."""
    if posterior.n_divergent:
        warn(
            f"{posterior.n_divergent} of {n_draws} draws diverged: parts of the posterior are not reached, and "
            "intervals may be too narrow. Try another seed; if it stays so, whiten the embedding or leave out guides "
            "of few cells."
        )
    table = posterior.diagnostics
    poor = table[table["n_poor"] > MAX_POOR * table["n_values"]] if len(table) else table
    if len(poor):
        named = ", ".join(
            f"{row.parameter} ({row.n_poor} of {row.n_values}, R-hat up to {row.r_hat:.2f}, at least {row.ess:.0f} "
            "independent draws)"
            for row in poor.itertuples()
        )
        warn(f"chains have not mixed for {named}; do not trust their intervals. Pass n_draws={2 * n_draws} or more.")
    tenth = max(1, len(posterior.losses) // 10)
    last, before = posterior.losses[-tenth:].mean(), posterior.losses[-2 * tenth : -tenth].mean()
    if method == "svi" and before - last > MAX_GAIN * posterior.draws["shared"].shape[1]:
        warn(
            f"the variational fit has not converged: its loss fell from {before:.1f} to {last:.1f} in the last tenth "
            "of its steps. Pass method='nuts', which does not depend on it."
        )
