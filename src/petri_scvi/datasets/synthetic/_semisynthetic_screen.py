"""A screen of real cells whose correspondence between the modalities is assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._constants import CHANNEL_NAMES_KEY, CONTROL, IMAGES_KEY
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.public._example_sbs import CHANNEL_NAMES, read_nuclei
from petri_scvi.datasets.public._papalexi import read_transcriptomes

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

ASSIGNMENT_KEY = "semisynthetic_screen"

CONDITION_OF_TARGET: dict[str, tuple[str, int]] = {
    # One strong expression phenotype, shared: the saturated doses of one drug.
    "IFNGR1": ("drug_1", 10),
    "IFNGR2": ("drug_1", 9),
    "JAK2": ("drug_1", 8),
    "STAT1": ("drug_1", 7),
    # A clear but weaker phenotype: doses of half response.
    "IRF1": ("drug_1", 5),
    "SMAD4": ("drug_2", 5),
    "STAT2": ("drug_1", 4),
    "BRD4": ("drug_2", 4),
    "CUL3": ("drug_2", 4),
    # Little or no phenotype: doses without a visible response.
    "UBE2L6": ("drug_1", 3),
    "STAT3": ("drug_1", 3),
    "NFKBIA": ("drug_1", 3),
    "CMTM6": ("drug_2", 3),
    "TNFRSF14": ("drug_2", 3),
    "MYC": ("drug_2", 3),
    "IRF7": ("drug_1", 2),
    "STAT5A": ("drug_1", 2),
    "POU2F2": ("drug_1", 2),
    "SPI1": ("drug_2", 2),
    "CD86": ("drug_2", 2),
    "PDCD1LG2": ("drug_2", 2),
    "ETV7": ("drug_1", 1),
    "ATF2": ("drug_1", 1),
    "CAV1": ("drug_2", 1),
    "MARCH8": ("drug_2", 1),
}
"""Drug and dose whose wells represent a target gene. Dose 0 of both drugs represents the non-targeting control."""


def semisynthetic_screen(
    cache_dir: str | Path | None = None,
    *,
    image_size: int = 32,
    min_nucleus_area: int = 60,
    seed: int = 0,
) -> MuData:
    """Load real image cells and real transcriptomes, matched by a table.

    **The correspondence is assigned, not measured.** The transcriptomes are of THP-1 cells in which a gene was knocked
    out. The images are of cells that express FOXO1A-GFP, treated with a dose of one of two drugs. A fixed table in the
    code, ordered by the strength of the phenotypes, says which drug and dose represents which target gene, and the
    guide of each image cell is drawn at random. Agreement between the modalities is therefore a property of this table;
    no biological conclusion can be drawn from it.

    Parameters
    ----------
    cache_dir
        Folder to look for the files in first; may be read-only. By default the folder named by the environment variable
        ``PETRI_SCVI_CACHE``, then the user's cache folder. About 80 MB are downloaded if the files are in neither. A
        local copy of the image folder as ``ExampleSBSImages.tar.xz`` is used instead of its single files.
    image_size
        Height and width of a crop, in pixels.
    min_nucleus_area
        Smallest segmented nucleus, in pixels.
    seed
        Seed of the draw that gives every image cell one of the guides of its well.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"``.

    - ``mod["image"].obsm["single_cell_images"]``: ``(n_cells, 2, image_size, image_size)``, ``uint8``, channels
      FOXO1A-GFP and DNA. Cells of wells that represent no gene are left out. ``X`` is ``None``.
    - ``mod["rna"].X``: CSR UMI counts of 299 genes, 16,093 cells with a called guide (at least 5 guide UMIs, more than
      80 % of one guide), integer-valued ``float32``.
    - ``obs`` of each modality: ``perturbation``, ``guide``, ``target_gene``, ``is_control``, ``replicate``, ``well``,
      ``batch``. The image replicates are the eight rows of the plate and its batches the two drugs; the
      transcriptome's replicates are the biological ones, and its ``well`` and ``batch`` repeat them.
    - More ``obs`` of the image modality: ``drug``, ``dose`` (0 to 10), ``x`` and ``y`` (pixels in the field of view),
      ``nucleus_area`` (pixels), ``is_border`` (the crop reaches over the edge of the field and is zero there).
    - ``uns["semisynthetic_screen"]``: the table ``assignment`` (``perturbation``, ``drug``, ``dose``).

    Raises
    ------
    ImportError
        The packages of ``petri-scvi[real]`` are not installed.
    ValueError
        An argument is out of range, or a file in the cache is not the registered one.

    Notes
    -----
    Nuclei are the connected regions above Otsu's threshold of the DNA channel. Each guide is assigned to two rows of
    its condition, so two guides share a well and no guide is confounded with a single row.

    Transcriptomes: Papalexi et al. 2021, *Nature Genetics* 53, 322-331 :cite:p:`Papalexi2021`, as packaged in
    ``Katsevich-Lab/sceptredata``, MIT license. Images: the FOXO1A translocation example ``ExampleSBSImages`` of
    CellProfiler :cite:p:`Stirling2021`, BSD 3-Clause license.
    """
    for name, value, low in (("image_size", image_size, 8), ("min_nucleus_area", min_nucleus_area, 1)):
        if not isinstance(value, int) or value < low:
            raise ValueError(f"{name}={value!r} is not accepted; pass an integer of at least {low}")
    rna = read_transcriptomes(cache_dir)
    image = _image_modality(rna, cache_dir, image_size, min_nucleus_area, np.random.default_rng(seed))
    assignment = pd.DataFrame(
        [(target, drug, dose) for target, (drug, dose) in CONDITION_OF_TARGET.items()],
        columns=["perturbation", "drug", "dose"],
    )
    return assemble_screen(image, rna, uns={ASSIGNMENT_KEY: {"assignment": assignment}})


def _image_modality(
    rna: AnnData, cache_dir: str | Path | None, image_size: int, min_nucleus_area: int, rng: np.random.Generator
) -> AnnData:
    """Image cells of the wells that represent a perturbation, with the same guides as the transcriptomes."""
    nuclei = read_nuclei(cache_dir, image_size, min_nucleus_area)
    guides = rna.obs[["target_gene", "guide"]].astype(str).drop_duplicates().sort_values(["target_gene", "guide"])
    guide = assign_guides(nuclei.table, guides, rng)
    kept = np.flatnonzero(guide != "")
    guide, table = guide[kept], nuclei.table.iloc[kept]
    target = guides.set_index("guide")["target_gene"].loc[guide].to_numpy()
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(target),
            "guide": pd.Categorical(guide),
            "target_gene": pd.Categorical(target),
            "is_control": target == CONTROL,
            "replicate": pd.Categorical("image_row_" + table["row"]),
            "well": pd.Categorical("image_well_" + table["well"]),
            "batch": pd.Categorical("image_" + table["drug"]),
            "drug": pd.Categorical(table["drug"]),
        }
        | {name: table[name].to_numpy() for name in ("dose", "x", "y", "nucleus_area", "is_border")},
        index=[f"image_{i:06d}" for i in range(1, len(kept) + 1)],
    )
    return AnnData(obs=obs, obsm={IMAGES_KEY: nuclei.images[kept]}, uns={CHANNEL_NAMES_KEY: list(CHANNEL_NAMES)})


def assign_guides(table: pd.DataFrame, guides: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Draw the guide that each image cell represents, ``""`` in wells that represent no perturbation.

    Parameters
    ----------
    table
        One row per image cell, with ``row``, ``drug`` and ``dose``.
    guides
        One row per guide, with ``target_gene`` and ``guide``.
    rng
        Source of the draw.

    Returns
    -------
    Guide names, shape ``(n_cells,)``.
    """
    guides_of = {str(target): names.to_numpy() for target, names in guides.groupby("target_gene")["guide"]}
    targets_of: dict[tuple[str, int], list[str]] = {(drug, 0): [CONTROL] for drug in ("drug_1", "drug_2")}
    for target, condition in CONDITION_OF_TARGET.items():
        targets_of.setdefault(condition, []).append(target)

    assigned = np.full(len(table), "", dtype=object)
    for (drug, dose, row), cells in table.groupby(["drug", "dose", "row"]).indices.items():
        candidates = [
            guide
            for target in targets_of.get((str(drug), int(dose)), [])
            for guide in _guides_in_row(guides_of[target], str(row), n_rows=8 if target == CONTROL else 4)
        ]
        if candidates:
            assigned[cells] = rng.choice(np.array(candidates, dtype=object), size=len(cells))
    return assigned


def _guides_in_row(guides: np.ndarray, row: str, n_rows: int) -> list[str]:
    """Guide k is in rows k and k + 1, wrapping around; all guides where that leaves none."""
    position = "ABCDEFGH".index(row) % n_rows
    inside = [guide for k, guide in enumerate(guides) if position in (k % n_rows, (k + 1) % n_rows)]
    return inside or list(guides)
