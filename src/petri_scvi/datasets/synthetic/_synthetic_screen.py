"""A small simulated screen with its ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._checks import check_flags
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGE, IMAGES_KEY, RNA
from petri_scvi.datasets._assemble import assemble_screen

from ._synthetic_design import IMAGE_ONLY, MORPHOLOGY, PHENOTYPES, RNA_ONLY, SHARED, draw_cells, make_design
from ._synthetic_expression import draw_counts
from ._synthetic_images import CHANNEL_NAMES, draw_images
from ._synthetic_proteins import draw_proteins
from ._synthetic_realism import adapt_cells, make_realism

if TYPE_CHECKING:
    from mudata import MuData

    from ._synthetic_design import ScreenDesign
    from ._synthetic_realism import Realism

TRUTH_KEY = "synthetic_screen"
MAX_PATHWAYS = len(PHENOTYPES) * (len(PHENOTYPES) + 1) // 2
"""Every phenotype, and every pair of two."""
DIFFICULTIES: dict[str, dict[str, Any]] = {
    "easy": {"n_pathways": 12, "image_strength": 1.0, "rna_strength": 1.0, "penetrance": 0.8},
    "weak": {"n_pathways": 24, "image_strength": 0.35, "rna_strength": 0.35, "penetrance": 0.5},
}
"""Arguments that ``difficulty`` sets if they are ``None``."""


def synthetic_screen(
    seed: int = 0,
    *,
    difficulty: Literal["easy", "weak"] = "easy",
    n_cells: int = 8000,
    n_pathways: int | None = None,
    n_control_guides: int = 8,
    n_genes: int = 300,
    image_size: int = 32,
    image_dtype: Literal["uint8", "uint16"] = "uint16",
    image_strength: float | None = None,
    rna_strength: float | None = None,
    penetrance: float | None = None,
    shared_fraction: float = 2 / 3,
    n_proteins: int = 0,
    changes_fractions: bool = False,
    equal_intensity: bool = False,
    gene_interactions: bool = False,
    well_confounding: float = 0.0,
    well_effects: float = 0.0,
    n_backgrounds: int = 1,
) -> MuData:
    """Simulate an unpaired imaging and transcriptomics screen with known ground truth.

    Parameters
    ----------
    seed
        Seed of every random draw; the same arguments give the same screen.
    difficulty
        ``"easy"``, strong effects, for examples and tests: every method recovers almost all known pairs. ``"weak"``,
        effects of about a third of that size in half of the cells, and twice as many pathways, for comparing methods.
        It sets ``n_pathways``, ``image_strength``, ``rna_strength`` and ``penetrance`` where these are ``None``: 12,
        1.0, 1.0 and 0.8, or 24, 0.35, 0.35 and 0.5.
    n_cells
        Image cells. The transcriptome has 5 % fewer, and no cell is in both.
    n_pathways
        Pathways, 1 to 78. Each has three or four target genes, each of these three or four guides.
    n_control_guides
        Non-targeting guides.
    n_genes
        Genes measured in the transcriptome, the target genes among them.
    image_size
        Height and width of a crop, in pixels. The field of view stays the same.
    image_dtype
        Integer type of the images.
    image_strength, rna_strength
        Multiplier of every perturbation effect in that modality; 0 removes all of them.
    penetrance
        Chance that a cell with a working guide shows any effect.
    shared_fraction
        Fraction of programs seen in both modalities; the others alternate between image-only and RNA-only.
    n_proteins
        Antibodies of a third modality, ``"protein"``, in a tenth fewer cells than images; 0 for none. Every program
        changes three of them, whichever of the other modalities shows it, as strongly as ``rna_strength`` changes
        genes. Images and transcriptome do not depend on it.
    changes_fractions
        Whether a guide changes how many cells are in a state, instead of how far they are from the others: a share of
        ``penetrance`` times its efficacy of its cells shows the full effect of its target gene. 15 % of all other
        cells, those of controls too, show that of a random target gene; ``obs["true_state"]`` says which.
    equal_intensity
        Whether every channel of a cell is as bright in total as without the perturbation, so that states differ in
        arrangement and not in mean intensity.
    gene_interactions
        Whether programs of genes act through interactions: every cell has a switch (``obs["true_switch"]``, 1 or -1),
        which a tenth of the genes shows, and effects on log expression are multiplied by it. The mean log expression of
        a perturbation is then that of controls, and what differs is which genes vary together.
    well_confounding
        Share of the cells of each guide that lie in one well, another one in each modality; 0 spreads all guides over
        all wells. Controls are always in all wells.
    well_effects
        Standard deviation between wells of the log gain of each channel and of the log level of each gene, in addition
        to what wells and batches always change. 0.5 is strong.
    n_backgrounds
        Backgrounds, such as cell lines: each cell is of one (``obs["background"]``), which shifts its genes and its
        morphology and multiplies the effect of each target gene by a factor of its own. Pass
        ``context_key=["perturbation", "background"]`` to train on both.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"``, one row per cell.

    - ``mod["image"].obsm["single_cell_images"]``: ``(n_cells, 5, image_size, image_size)``; the channels are listed in
      ``mod["image"].uns["channel_names"]``. ``mod["image"].X`` is ``None``.
    - ``mod["rna"].X``: CSR matrix of UMI counts, integer-valued ``float32``.
    - ``mod["protein"].X``: antibody counts, integer-valued ``float32``, if ``n_proteins`` is not 0; then the truth has
      ``protein_loadings`` (proteins x pathways, log fold change).
    - ``obs`` of each modality: ``perturbation``, ``guide``, ``target_gene``, ``is_control``, ``replicate``, ``well``,
      ``batch``, and the simulated truth in columns that start with ``true_``.
    - ``obsm["true_morphology"]`` of the image modality: the properties each cell was drawn with.
    - ``uns["synthetic_screen"]``: the ground truth. ``programs`` (pathway, visibility, phenotype), ``perturbations``
      (pathway, visibility, strength, stress), ``guides`` (efficacy, dead guides), ``edges`` (pairs of target genes of
      one pathway), ``shared_programs``, ``image_only_programs``, ``rna_only_programs``, ``gene_loadings`` (genes x
      pathways, log fold change), ``morphology_loadings`` (properties x pathways), ``perturbation_gene_effects`` and
      ``perturbation_morphology_effects`` (the same per target gene, of a fully effective guide), ``genes`` (base level
      and cell-cycle loading) and ``parameters`` (the arguments of this call).

    Raises
    ------
    ValueError
        An argument is out of range, or there are too few cells or genes for the number of pathways.

    Notes
    -----
    A target gene inherits the effect of its pathway's program times its own ``strength``, plus a stress response common
    to all perturbations times its own ``stress``, plus an effect of its own. A cell shows this effect times the
    efficacy of its guide and a factor of its own if it responds, and nothing if it does not. Every knockdown also
    lowers the transcript of the target gene itself, whatever the program's visibility. The cell cycle affects nuclear
    size and intensity and a twelfth of the genes. Position, rotation and shape of the cell, staining per well and
    batch, library size, and a batch effect per gene vary independently of the perturbation.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.synthetic_screen(n_cells=600, n_pathways=3)
    >>> mdata.uns["synthetic_screen"]["edges"].columns.tolist()
    ['entity1', 'entity2', 'pathway', 'visibility']
    """
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty={difficulty!r} is not accepted; pass 'easy' or 'weak'")
    preset = DIFFICULTIES[difficulty]
    n_pathways = preset["n_pathways"] if n_pathways is None else n_pathways
    image_strength = preset["image_strength"] if image_strength is None else image_strength
    rna_strength = preset["rna_strength"] if rna_strength is None else rna_strength
    penetrance = preset["penetrance"] if penetrance is None else penetrance
    parameters: dict[str, Any] = {
        "seed": seed,
        "n_cells": n_cells,
        "n_pathways": n_pathways,
        "n_control_guides": n_control_guides,
        "n_genes": n_genes,
        "image_size": image_size,
        "image_dtype": image_dtype,
        "image_strength": image_strength,
        "rna_strength": rna_strength,
        "penetrance": penetrance,
        "shared_fraction": shared_fraction,
        "n_proteins": n_proteins,
        "changes_fractions": changes_fractions,
        "equal_intensity": equal_intensity,
        "gene_interactions": gene_interactions,
        "well_confounding": well_confounding,
        "well_effects": well_effects,
        "n_backgrounds": n_backgrounds,
    }
    _check_parameters(parameters)
    # One random stream per part, so that changing the images leaves the counts unchanged, and vice versa.
    # What is off by default has streams of its own, so that the rest of the screen is the same with and without it.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(8)]
    of_design, of_image, of_rna, of_protein = streams[:4]
    of_protein_realism, of_realism, of_image_realism, of_rna_realism = streams[-4:]
    design = make_design(
        n_pathways=n_pathways,
        n_control_guides=n_control_guides,
        n_genes=n_genes,
        shared_fraction=shared_fraction,
        image_strength=image_strength,
        rna_strength=rna_strength,
        rng=of_design,
    )
    if (n_rna := round(0.95 * n_cells)) < 4 * len(design.guides):
        raise ValueError(
            f"n_cells={n_cells} is too small for {len(design.guides)} guides; pass n_cells of at least "
            f"{int(np.ceil(4 * len(design.guides) / 0.95)) + 1} or fewer pathways"
        )
    realism = make_realism(design, parameters, of_realism)
    image_obs = draw_cells(design, IMAGE, n_cells, penetrance, of_image)
    image_obs = adapt_cells(image_obs, realism, design, IMAGE, penetrance, of_image_realism)
    image = _image_modality(design, image_obs, parameters, of_image, realism, of_image_realism)
    drawn = draw_cells(design, RNA, n_rna, penetrance, of_rna)
    rna_obs = adapt_cells(drawn, realism, design, RNA, penetrance, of_rna_realism)
    rna = _rna_modality(design, rna_obs, of_rna, realism, of_rna_realism)
    truth, others = _truth(design, parameters), {}
    if n_proteins:
        drawn = draw_cells(design, "protein", round(0.9 * n_cells), penetrance, of_protein)
        obs = adapt_cells(drawn, realism, design, "protein", penetrance, of_protein_realism)
        others["protein"], truth["protein_loadings"] = draw_proteins(
            design, obs, n_proteins, cast("float", rna_strength), of_protein
        )
    return assemble_screen(image, rna, uns={TRUTH_KEY: truth}, **others)


def _check_parameters(parameters: dict[str, Any]) -> None:
    """Raise a ``ValueError`` that names the argument, its value and what is accepted."""
    smallest = {"seed": 0, "n_cells": 1, "n_pathways": 1, "n_control_guides": 1, "n_genes": 2, "image_size": 8}
    smallest["n_proteins"] = 0
    smallest["n_backgrounds"] = 1
    for name, low in smallest.items():
        value = parameters[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise ValueError(f"{name}={value!r} is not accepted; pass an integer of at least {low}")
    if parameters["n_pathways"] > MAX_PATHWAYS:
        raise ValueError(f"n_pathways={parameters['n_pathways']} is not accepted; pass 1 to {MAX_PATHWAYS}")
    if parameters["image_dtype"] not in ("uint8", "uint16"):
        raise ValueError(f"image_dtype={parameters['image_dtype']!r} is not accepted; pass 'uint8' or 'uint16'")
    for name in ("image_strength", "rna_strength"):
        if not 0 <= parameters[name] <= 10:
            raise ValueError(
                f"{name}={parameters[name]!r} is not accepted; pass a number from 0 to 10 (1 is the default)"
            )
    check_flags(**{name: parameters[name] for name in ("changes_fractions", "equal_intensity", "gene_interactions")})
    if not 0 <= parameters["well_effects"] <= 3:
        raise ValueError(f"well_effects={parameters['well_effects']!r} is not accepted; pass a number from 0 to 3")
    for name in ("penetrance", "shared_fraction", "well_confounding"):
        if not 0 <= parameters[name] <= 1:
            raise ValueError(f"{name}={parameters[name]!r} is not accepted; pass a fraction from 0 to 1")


def _image_modality(
    design: ScreenDesign,
    obs: pd.DataFrame,
    parameters: dict[str, Any],
    rng: np.random.Generator,
    realism: Realism,
    of_realism: np.random.Generator,
) -> AnnData:
    size, dtype = parameters["image_size"], np.dtype(parameters["image_dtype"])
    images, properties = draw_images(design, obs, size, dtype, rng, realism, of_realism)
    return AnnData(
        obs=obs,
        obsm={
            IMAGES_KEY: images,
            "true_morphology": pd.DataFrame(properties, index=obs.index, columns=list(MORPHOLOGY)),
        },
        uns={CHANNEL_NAMES_KEY: list(CHANNEL_NAMES)},
    )


def _rna_modality(
    design: ScreenDesign, obs: pd.DataFrame, rng: np.random.Generator, realism: Realism, of_realism: np.random.Generator
) -> AnnData:
    is_target = np.isin(design.gene_names, design.targets["perturbation"])
    var = pd.DataFrame({"is_target": is_target}, index=pd.Index(design.gene_names))
    return AnnData(X=draw_counts(design, obs, rng, realism, of_realism), obs=obs, var=var)


def _truth(design: ScreenDesign, parameters: dict[str, Any]) -> dict[str, Any]:
    """Tables that survive a round trip through ``.h5mu``."""
    pathways = pd.Index(design.programs["pathway"])
    targets = pd.Index(design.targets["perturbation"])
    by_visibility = dict(design.programs.groupby("visibility")["pathway"].apply(lambda p: p.to_numpy(dtype=str)))
    none = np.array([], dtype=str)
    return {
        "programs": design.programs,
        "perturbations": design.targets,
        "guides": design.guides,
        "edges": design.edges(),
        "shared_programs": by_visibility.get(SHARED, none),
        "image_only_programs": by_visibility.get(IMAGE_ONLY, none),
        "rna_only_programs": by_visibility.get(RNA_ONLY, none),
        "gene_loadings": pd.DataFrame(design.program_loadings.T, index=design.gene_names, columns=pathways),
        "morphology_loadings": pd.DataFrame(design.program_morphology.T, index=list(MORPHOLOGY), columns=pathways),
        "perturbation_gene_effects": pd.DataFrame(design.target_loadings.T, index=design.gene_names, columns=targets),
        "perturbation_morphology_effects": pd.DataFrame(
            design.target_morphology.T, index=list(MORPHOLOGY), columns=targets
        ),
        "genes": pd.DataFrame(
            {"base_log_mean": design.base_log_mean, "cell_cycle_loading": design.cell_cycle_loadings},
            index=design.gene_names,
        ),
        "parameters": parameters,
    }
