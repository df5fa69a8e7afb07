"""What real screens have and a simple simulated one lacks; each part is off by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petri_scvi._constants import CONTROL

from ._synthetic_design import MORPHOLOGY, N_REPLICATES, N_REPLICATES_PER_BATCH, N_WELLS_PER_REPLICATE

if TYPE_CHECKING:
    from ._synthetic_design import ScreenDesign

STATE_KEY = "true_state"
"""Column of the target gene whose effect a cell shows, where it is not always its own."""
SHARE_IN_STATE = 0.15
"""Share of the cells of any perturbation that show the effect of a random target gene."""
SWITCH_KEY = "true_switch"
SWITCH_STRENGTH = 0.6
"""Log fold change of the genes that show the switch."""
BACKGROUND_SPREAD = 0.4
"""Standard deviation between backgrounds of each gene's log level and, in multiples of the spread between cells, of
each property of an image."""


@dataclass(frozen=True)
class Realism:
    """What is switched on, and what all cells of the screen share."""

    changes_fractions: bool
    equal_intensity: bool
    gene_interactions: bool
    well_confounding: float
    well_effects: float
    backgrounds: pd.DataFrame | None  # strength of each target in each background, (n_targets, n_backgrounds)
    background_genes: np.ndarray  # (n_backgrounds, n_genes)
    background_morphology: np.ndarray  # (n_backgrounds, n_properties)
    switch_genes: np.ndarray  # (n_genes,), log fold change


def make_realism(design: ScreenDesign, parameters: dict[str, Any], rng: np.random.Generator) -> Realism:
    """Draw what the cells of both modalities share."""
    n_genes, n_backgrounds = len(design.gene_names), parameters["n_backgrounds"]
    names = [f"background_{i + 1}" for i in range(n_backgrounds)]
    targets = design.targets["perturbation"]
    strength = pd.DataFrame(rng.lognormal(0.0, 0.4, size=(len(targets), n_backgrounds)), index=targets, columns=names)
    switch = np.zeros(n_genes)
    chosen = rng.choice(n_genes, size=max(2, n_genes // 10), replace=False)
    switch[chosen] = SWITCH_STRENGTH * rng.choice([-1.0, 1.0], size=len(chosen))
    return Realism(
        changes_fractions=parameters["changes_fractions"],
        equal_intensity=parameters["equal_intensity"],
        gene_interactions=parameters["gene_interactions"],
        well_confounding=parameters["well_confounding"],
        well_effects=parameters["well_effects"],
        backgrounds=strength if n_backgrounds > 1 else None,
        background_genes=rng.normal(0.0, BACKGROUND_SPREAD, size=(n_backgrounds, n_genes)),
        background_morphology=rng.normal(0.0, BACKGROUND_SPREAD, size=(n_backgrounds, len(MORPHOLOGY))),
        switch_genes=switch,
    )


def adapt_cells(
    obs: pd.DataFrame,
    realism: Realism,
    design: ScreenDesign,
    modality: str,
    penetrance: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Change the drawn cells of one modality where something is switched on.

    Of proteins, cells and their effects change, and no level but by that.
    """
    if realism.changes_fractions:
        obs = _in_states(obs, design, penetrance, rng)
    if realism.well_confounding > 0:
        obs = _in_own_wells(obs, realism.well_confounding, modality, rng)
    if realism.gene_interactions:
        obs[SWITCH_KEY] = rng.choice([-1.0, 1.0], size=len(obs))
    if realism.backgrounds is not None:
        names = realism.backgrounds.columns
        background = rng.integers(len(names), size=len(obs))
        obs["background"] = pd.Categorical(names.to_numpy()[background], categories=names)
        row = realism.backgrounds.index.get_indexer(obs["perturbation"].astype(str))
        factor = realism.backgrounds.to_numpy()[row, background]
        obs["true_effect"] *= np.where(row >= 0, factor, 1.0)
    return obs


def _in_states(obs: pd.DataFrame, design: ScreenDesign, penetrance: float, rng: np.random.Generator) -> pd.DataFrame:
    """A guide changes how many cells are in its state, and not how far a cell in it is from the others."""
    n_cells = len(obs)
    efficacy = design.guides.set_index("guide")["efficacy"].loc[obs["guide"].astype(str)].to_numpy()
    is_own = rng.random(n_cells) < penetrance * efficacy
    is_other = ~is_own & (rng.random(n_cells) < SHARE_IN_STATE)
    targets = design.targets["perturbation"].to_numpy()
    state = np.where(is_other, targets[rng.integers(len(targets), size=n_cells)], CONTROL)
    state = np.where(is_own, obs["perturbation"].astype(str), state)
    obs[STATE_KEY] = pd.Categorical(state)
    obs["true_is_responder"] = is_own
    obs["true_effect"] = (is_own | is_other).astype(float)
    return obs


def _in_own_wells(obs: pd.DataFrame, confounding: float, prefix: str, rng: np.random.Generator) -> pd.DataFrame:
    """Move a share of the cells of each guide to one well; controls stay in all wells."""
    guides = obs["guide"].cat.codes.to_numpy()
    home = rng.integers(N_REPLICATES * N_WELLS_PER_REPLICATE, size=len(obs["guide"].cat.categories))[guides]
    is_moved = (rng.random(len(obs)) < confounding) & ~obs["is_control"].to_numpy()
    before = obs["well"].astype(str).str.rsplit("_", n=1).str[1].astype(int).to_numpy() - 1
    well = np.where(is_moved, home, before)
    replicate = well // N_WELLS_PER_REPLICATE
    obs["well"] = pd.Categorical([f"{prefix}_well_{w + 1:02d}" for w in well])
    obs["replicate"] = pd.Categorical([f"{prefix}_replicate_{r + 1}" for r in replicate])
    obs["batch"] = pd.Categorical([f"{prefix}_batch_{r // N_REPLICATES_PER_BATCH + 1}" for r in replicate])
    return obs


def shift_genes(
    log_mean: np.ndarray, effects: np.ndarray, obs: pd.DataFrame, realism: Realism, rng: np.random.Generator
) -> np.ndarray:
    """Add what is switched on to the log level of every gene; shape ``(n_cells, n_genes)``.

    ``log_mean`` has the ``effects`` of perturbations in it.
    """
    if realism.gene_interactions:
        switch = obs[SWITCH_KEY].to_numpy()[:, None]
        log_mean = log_mean - effects + switch * effects + switch * realism.switch_genes
    if realism.backgrounds is not None:
        log_mean = log_mean + realism.background_genes[obs["background"].cat.codes]
    if realism.well_effects > 0:
        codes = obs["well"].cat.codes.to_numpy()
        log_mean = log_mean + rng.normal(0.0, realism.well_effects, size=(codes.max() + 1, log_mean.shape[1]))[codes]
    return log_mean


def staining_of_wells(
    obs: pd.DataFrame, n_channels: int, realism: Realism, rng: np.random.Generator
) -> np.ndarray | float:
    """Factor of every cell's gain; shape ``(n_cells, C)``, or 1 if wells have no more effect than usual."""
    if realism.well_effects == 0:
        return 1.0
    codes = obs["well"].cat.codes.to_numpy()
    return np.exp(rng.normal(0.0, realism.well_effects, size=(codes.max() + 1, n_channels))[codes])
