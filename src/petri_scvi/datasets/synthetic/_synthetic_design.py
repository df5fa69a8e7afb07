"""Ground truth of a synthetic screen: programs, targets, guides, and which cell received which guide."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from petri_scvi._constants import CONTROL

MORPHOLOGY = (
    "nucleus_size",
    "nucleus_intensity",
    "nucleus_texture",
    "cell_size",
    "cell_elongation",
    "droplet_number",
    "droplet_brightness",
    "mitochondria_intensity",
    "mitochondria_fragmentation",
    "actin_rim",
)
"""Properties of a simulated cell that a program can change; all on a log scale, fragmentation on a logit scale."""

PHENOTYPES: dict[str, dict[str, float]] = {
    "lipid_droplets_up": {"droplet_number": 1.0, "droplet_brightness": 0.5},
    "lipid_droplets_down": {"droplet_number": -1.8, "droplet_brightness": -0.7},
    "nucleus_enlarged": {"nucleus_size": 0.28, "nucleus_intensity": -0.25},
    "mitochondria_bright": {"mitochondria_intensity": 0.75},
    "actin_rim_up": {"actin_rim": 0.8},
    "cell_elongated": {"cell_elongation": 0.55, "nucleus_size": -0.08},
    "chromatin_clumped": {"nucleus_texture": 1.0, "nucleus_intensity": 0.15},
    "cell_shrunk": {"cell_size": -0.22, "actin_rim": 0.3},
    "mitochondria_fragmented": {"mitochondria_fragmentation": 4.0},
    "nucleus_condensed": {"nucleus_size": -0.25, "nucleus_intensity": 0.4},
    "mitochondria_dim": {"mitochondria_intensity": -0.8},
    "actin_rim_down": {"actin_rim": -0.9, "cell_size": 0.12},
}
"""Image phenotype of each program, in the order in which pathways receive them."""

STRESS_PHENOTYPE = {"cell_size": -0.10, "nucleus_intensity": 0.12, "mitochondria_intensity": -0.20, "actin_rim": 0.15}
"""Stress response: a weak effect that any perturbation may have, whatever its pathway."""

OWN_MORPHOLOGY = (0.06, 0.08, 0.15, 0.05, 0.08, 0.25, 0.12, 0.15, 0.7, 0.15)
"""Standard deviation of the part of a target's effect that its pathway does not share, per property."""

SHARED, IMAGE_ONLY, RNA_ONLY = "shared", "image-only", "rna-only"
"""Modalities in which a program can be seen."""

N_WELLS_PER_REPLICATE = 3
N_REPLICATES = 4
N_REPLICATES_PER_BATCH = 2


@dataclass(frozen=True)
class ScreenDesign:
    """The ground truth that is fixed before any cell is drawn."""

    programs: pd.DataFrame  # one row per pathway: pathway, visibility, phenotype
    targets: pd.DataFrame  # one row per target gene: perturbation, pathway, visibility, strength, stress
    guides: pd.DataFrame  # one row per guide: guide, target_gene, efficacy, is_dead
    gene_names: np.ndarray  # (n_genes,)
    base_log_mean: np.ndarray  # (n_genes,)
    cell_cycle_loadings: np.ndarray  # (n_genes,)
    program_morphology: np.ndarray  # (n_pathways, n_properties)
    program_loadings: np.ndarray  # (n_pathways, n_genes)
    target_morphology: np.ndarray  # (n_targets, n_properties), effect of a fully effective guide
    target_loadings: np.ndarray  # (n_targets, n_genes), effect of a fully effective guide

    def edges(self) -> pd.DataFrame:
        """Pairs of target genes in one pathway, as ``entity1`` and ``entity2`` with the pathway and visibility."""
        rows = [
            (*pair, pathway, members["visibility"].iloc[0])
            for pathway, members in self.targets.groupby("pathway", sort=False)
            for pair in combinations(sorted(members["perturbation"]), 2)
        ]
        return pd.DataFrame(rows, columns=["entity1", "entity2", "pathway", "visibility"])


def make_design(
    *,
    n_pathways: int,
    n_control_guides: int,
    n_genes: int,
    shared_fraction: float,
    image_strength: float,
    rna_strength: float,
    rng: np.random.Generator,
) -> ScreenDesign:
    """Draw programs, target genes, guides and their effects."""
    programs = _draw_programs(n_pathways, shared_fraction)
    targets = _draw_targets(programs, rng)
    guides = _draw_guides(targets["perturbation"].to_numpy(), n_control_guides, rng)
    n_targets = len(targets)
    if n_genes < 2 * n_targets:
        raise ValueError(
            f"n_genes={n_genes} is too small for {n_targets} target genes; pass n_genes of at least {2 * n_targets} "
            "or fewer pathways"
        )
    n_other = n_genes - n_targets
    gene_names = np.concatenate([targets["perturbation"], [f"GENE{i:04d}" for i in range(1, n_other + 1)]])
    base_log_mean = rng.normal(0.0, 1.5, size=n_genes)

    sees_image = (programs["visibility"] != RNA_ONLY).to_numpy()
    sees_rna = (programs["visibility"] != IMAGE_ONLY).to_numpy()
    program_morphology = image_strength * _morphology_of(programs) * sees_image[:, None]
    program_loadings = rna_strength * _draw_loadings(base_log_mean, n_pathways, rng) * sees_rna[:, None]

    of_target = pd.Index(programs["pathway"]).get_indexer(targets["pathway"])
    strength, stress = targets[["strength", "stress"]].to_numpy().T[:, :, None]  # each (n_targets, 1)
    own_morphology = stress * _as_row(STRESS_PHENOTYPE) + OWN_MORPHOLOGY * rng.normal(size=(n_targets, len(MORPHOLOGY)))
    own_morphology *= image_strength * sees_image[of_target, None]
    stress_loadings = _draw_loadings(base_log_mean, 1, rng)
    own_loadings = stress * stress_loadings + _own_loadings(n_targets, n_genes, rng)
    own_loadings *= rna_strength * sees_rna[of_target, None]
    target_loadings = strength * program_loadings[of_target] + own_loadings
    target_loadings[np.arange(n_targets), np.arange(n_targets)] = -1.5 * rna_strength  # the knockdown itself

    cell_cycle_loadings = np.zeros(n_genes)
    cycling = rng.choice(n_genes, size=max(2, n_genes // 12), replace=False)
    cell_cycle_loadings[cycling] = rng.uniform(0.5, 1.2, size=len(cycling))
    return ScreenDesign(
        programs=programs,
        targets=targets,
        guides=guides,
        gene_names=gene_names.astype(str),
        base_log_mean=base_log_mean,
        cell_cycle_loadings=cell_cycle_loadings,
        program_morphology=program_morphology,
        program_loadings=program_loadings,
        target_morphology=strength * program_morphology[of_target] + own_morphology,
        target_loadings=target_loadings,
    )


def _draw_programs(n_pathways: int, shared_fraction: float) -> pd.DataFrame:
    """One row per pathway; the first are shared, the others alternate between image-only and RNA-only."""
    n_shared = round(shared_fraction * n_pathways)
    visibility = [SHARED] * n_shared + [(IMAGE_ONLY, RNA_ONLY)[i % 2] for i in range(n_pathways - n_shared)]
    names = list(PHENOTYPES)
    mixtures = [f"{a}+{b}" for a, b in combinations(names[::2], 2)]  # beyond the catalogue, mix two phenotypes
    mixtures += [mix for a, b in combinations(names, 2) if (mix := f"{a}+{b}") not in mixtures]
    phenotypes = (names + mixtures)[:n_pathways]
    return pd.DataFrame(
        {
            "pathway": [f"pathway_{i:02d}" for i in range(1, n_pathways + 1)],
            "visibility": visibility,
            "phenotype": ["none" if v == RNA_ONLY else p for v, p in zip(visibility, phenotypes, strict=True)],
        }
    )


def _draw_targets(programs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Three or four target genes per pathway; their numbers are shuffled so that a name does not reveal the pathway."""
    n_members = 3 + np.arange(len(programs)) % 2
    of_target = np.repeat(np.arange(len(programs)), n_members)
    rng.shuffle(of_target)
    n_targets = len(of_target)
    return pd.DataFrame(
        {
            "perturbation": [f"TARGET{i:02d}" for i in range(1, n_targets + 1)],
            "pathway": programs["pathway"].to_numpy()[of_target],
            "visibility": programs["visibility"].to_numpy()[of_target],
            "strength": rng.uniform(0.5, 1.3, size=n_targets),
            "stress": rng.normal(0.3, 0.4, size=n_targets),
        }
    )


def _draw_guides(targets: np.ndarray, n_control_guides: int, rng: np.random.Generator) -> pd.DataFrame:
    """Three or four guides per target, about one in ten dead, and the non-targeting guides."""
    rows: list[tuple[str, str, float]] = []
    for target in targets:
        n_guides = int(rng.integers(3, 5))
        efficacy = rng.beta(6, 2, size=n_guides)
        if rng.random() < 0.35:  # at most one dead guide per target, so that every target can be detected
            efficacy[rng.integers(n_guides)] = 0.0
        rows += [(f"{target}_g{i}", target, float(e)) for i, e in enumerate(efficacy, start=1)]
    rows += [(f"{CONTROL}_g{i}", CONTROL, 0.0) for i in range(1, n_control_guides + 1)]
    guides = pd.DataFrame(rows, columns=["guide", "target_gene", "efficacy"])
    guides["is_dead"] = (guides["efficacy"] == 0) & (guides["target_gene"] != CONTROL)
    return guides


def _as_row(phenotype: dict[str, float]) -> np.ndarray:
    """Effect of a phenotype on every property, in the order of ``MORPHOLOGY``."""
    return np.array([phenotype.get(name, 0.0) for name in MORPHOLOGY])


def _morphology_of(programs: pd.DataFrame) -> np.ndarray:
    """Effect of every program on every property, shape ``(n_pathways, n_properties)``."""
    catalogue = {"none": np.zeros(len(MORPHOLOGY))} | {name: _as_row(p) for name, p in PHENOTYPES.items()}
    parts = [[catalogue[name] for name in phenotype.split("+")] for phenotype in programs["phenotype"]]
    return np.array([np.sum(p, axis=0) / np.sqrt(len(p)) for p in parts])


def _draw_loadings(base_log_mean: np.ndarray, n_pathways: int, rng: np.random.Generator) -> np.ndarray:
    """Log fold change of every gene under every program: an eighth of the genes each, mostly expressed ones."""
    n_genes = len(base_log_mean)
    loadings = np.zeros((n_pathways, n_genes))
    chance = np.exp(base_log_mean)
    for row in loadings:
        chosen = rng.choice(n_genes, size=max(2, n_genes // 8), replace=False, p=chance / chance.sum())
        row[chosen] = rng.choice([-1.0, 1.0], size=len(chosen)) * rng.uniform(0.6, 1.5, size=len(chosen))
    return loadings


def _own_loadings(n_targets: int, n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Part of a target's effect that its pathway does not share: one gene in seven, most of them barely expressed."""
    return rng.normal(0.0, 1.0, size=(n_targets, n_genes)) * (rng.random((n_targets, n_genes)) < 0.15)


def draw_cells(
    design: ScreenDesign, modality: str, n_cells: int, penetrance: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw the cells of one modality: the guide of each, its well, and its true effects.

    Returns
    -------
    The ``obs`` table. Columns that start with ``true_`` would be unknown in a real screen.
    """
    guides = design.guides
    n_guides = len(guides)
    abundance = rng.lognormal(0.0, 0.3, size=n_guides) * np.where(guides["target_gene"] == CONTROL, 2.0, 1.0)
    # Every guide gets two cells before the others are drawn, so that no context is missing from a modality.
    counts = 2 + rng.multinomial(n_cells - 2 * n_guides, abundance / abundance.sum())
    guide = rng.permutation(np.repeat(np.arange(n_guides), counts))
    target = guides["target_gene"].to_numpy()[guide]
    efficacy = guides["efficacy"].to_numpy()[guide]
    is_responder = (rng.random(n_cells) < penetrance) & (efficacy > 0)
    effect = is_responder * efficacy * rng.lognormal(-0.03, 0.25, size=n_cells)

    well = rng.integers(N_REPLICATES * N_WELLS_PER_REPLICATE, size=n_cells)
    replicate = well // N_WELLS_PER_REPLICATE
    cycle = rng.beta(1.0, 1.4, size=n_cells)  # 0 just divided, 1 about to divide
    phase = np.array(["G1", "S", "G2M"])[np.digitize(cycle, [0.4, 0.65])]
    prefix = modality
    return pd.DataFrame(
        {
            "perturbation": pd.Categorical(target),
            "guide": pd.Categorical(guides["guide"].to_numpy()[guide]),
            "target_gene": pd.Categorical(target),
            "is_control": target == CONTROL,
            "replicate": pd.Categorical([f"{prefix}_replicate_{r + 1}" for r in replicate]),
            "well": pd.Categorical([f"{prefix}_well_{w + 1:02d}" for w in well]),
            "batch": pd.Categorical([f"{prefix}_batch_{r // N_REPLICATES_PER_BATCH + 1}" for r in replicate]),
            "true_is_responder": is_responder,
            "true_effect": effect,
            "true_cell_cycle": cycle,
            "true_cell_cycle_phase": pd.Categorical(phase, categories=["G1", "S", "G2M"]),
        },
        index=[f"{prefix}_{i:06d}" for i in range(1, n_cells + 1)],
    )


def cell_effects(target_effects: np.ndarray, design: ScreenDesign, obs: pd.DataFrame) -> np.ndarray:
    """Effect on every cell, shape ``(n_cells, n_properties)``; zero for controls, dead guides and non-responders."""
    shown = obs["true_state"] if "true_state" in obs else obs["perturbation"]
    row_of = pd.Index(design.targets["perturbation"]).get_indexer(shown.astype(str))
    with_control = np.vstack([target_effects, np.zeros(target_effects.shape[1])])  # row -1 is the control
    return obs["true_effect"].to_numpy()[:, None] * with_control[row_of]
