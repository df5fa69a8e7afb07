"""Tiny files with the layout of Rosetta's TA-ORF, in which genes of one pathway change both assays alike."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi.datasets.cache._registry_public import ROSETTA

if TYPE_CHECKING:
    from pathlib import Path

    from petri_scvi.datasets.cache._registry import Entry

GENES = ("TP53", "MDM2", "AKT1", "MTOR", "KRAS", "RAF1")
"""Two genes of each pathway, one after the other."""
N_FEATURES, N_PROBES, N_PLATES, N_CONTROLS = 14, 20, 4, 6


def unverified(entry: Entry) -> Entry:
    """The entry of a file that may have any length and content."""
    return dataclasses.replace(entry, is_size_exact=False, md5=None, max_bytes=10**8)


def write_ta_orf(folder: Path, seed: int = 0) -> None:
    """Both files, where a cache folder has them."""
    for entry, table in zip(ROSETTA["TA-ORF"], tables(seed), strict=True):
        path = folder / entry.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)


def tables(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cell Painting and L1000 of two constructs of each gene, on plates with controls; of the second construct, the
    assays have other identifiers."""
    rng = np.random.default_rng(seed)
    pathways = np.repeat(rng.normal(0, 2, (len(GENES) // 2, 3)), 2, axis=0)  # (gene, 3)
    wells = [(gene, number) for gene in range(len(GENES)) for number in (1, 2)]
    made = []
    for n_values in (N_FEATURES, N_PROBES):
        loadings = rng.normal(size=(3, n_values))
        effect = np.array([pathways[gene] for gene, _ in wells] + [np.zeros(3)] * N_CONTROLS) @ loadings
        made.append(np.tile(effect, (N_PLATES, 1)) + rng.normal(size=(N_PLATES * len(effect), n_values)))
    features, probes = made
    features[0, 0], features[1, 1] = np.nan, np.inf

    names = [f"{GENES[gene]}_WT.{number}" for gene, number in wells]
    shared = [f"BRDN{gene}{number}" for gene, number in wells]
    other = [name if number == 1 else f"ccsbBroad304_{name}" for name, (_, number) in zip(shared, wells, strict=True)]
    plates = np.repeat(np.arange(N_PLATES), len(wells) + N_CONTROLS)
    positions = [f"a{i + 1:02d}" for i in range(len(wells) + N_CONTROLS)] * N_PLATES
    blank = [None] * N_CONTROLS
    image = pd.DataFrame(
        {
            "Metadata_Plate": 41750 + plates,
            "Metadata_Well": positions,
            "Metadata_broad_sample": [*other, *["negcon"] * N_CONTROLS] * N_PLATES,
            "Metadata_pert_name": [*names, *blank] * N_PLATES,
            "Metadata_gene_name": [*[GENES[gene] for gene, _ in wells], *blank] * N_PLATES,
            "pert_type": [*["trt"] * len(wells), *["control"] * N_CONTROLS] * N_PLATES,
            "control_type": [*[None] * len(wells), *["negcon"] * N_CONTROLS] * N_PLATES,
        }
    )
    compartments = ("Cells", "Cytoplasm", "Nuclei")
    for i in range(N_FEATURES):
        image[f"{compartments[i % 3]}_AreaShape_Zernike_{i}_0"] = features[:, i]
    rna = pd.DataFrame({f"{200800 + i}_{'s_' * (i % 2)}at": probes[:, i] for i in range(N_PROBES)})
    rna = rna.assign(
        pert_id=[*shared, *["negcon"] * N_CONTROLS] * N_PLATES,
        x_genesymbol_mutation=[*names, *["EMPTY_"] * N_CONTROLS] * N_PLATES,
        det_plate=[f"TA.OE005_U2OS_72H_X{plate + 1}_B15" for plate in plates],
        det_well=positions,
        pert_type=[*["trt"] * len(wells), *["control"] * N_CONTROLS] * N_PLATES,
    )
    return image, rna
