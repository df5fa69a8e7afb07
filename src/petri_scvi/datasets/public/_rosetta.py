"""Rosetta: Cell Painting and L1000 profiles of the same constructs or compounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi.common._warn import warn
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.cache._fetch import fetch_all
from petri_scvi.datasets.cache._registry_public import ROSETTA

from ._standard_obs import standard_obs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

CONTROL_LABEL, CONTROL_COLUMN = "negcon", "control_type"
"""The label of a negative control in the deposit, and the column that repeats it."""
COMPARTMENTS = ("Cells_", "Cytoplasm_", "Nuclei_")
"""First letters of the names of CellProfiler features."""
PROBE = "_at"
"""Last letters of the names of L1000 probes."""
UNS_KEY = "rosetta"


@dataclass(frozen=True)
class Assay:
    """Columns of one table."""

    construct: str  # the column by which the authors match the two assays
    names: tuple[str, ...]  # columns that name the gene or compound, best first
    plate: str
    well: str | None
    hours: int  # from the perturbation to the measurement
    dose: str | None = None  # micromolar
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subset:
    """One of the data sets."""

    cell_line: str
    image: Assay
    rna: Assay
    separator: str | None  # what follows the gene in its name; None: the first 13 letters name the compound


PLATE, WELL = "Metadata_Plate", "Metadata_Well"
SUBSETS = {
    "TA-ORF": Subset(
        "U2OS",
        Assay(
            "Metadata_broad_sample",
            ("Metadata_gene_name", "Metadata_pert_name"),
            PLATE,
            WELL,
            hours=72,
            kept=("Metadata_pert_name",),
        ),
        Assay(
            "pert_id", ("x_genesymbol_mutation",), "det_plate", "det_well", hours=72, kept=("x_genesymbol_mutation",)
        ),
        separator="_",
    ),
    "LUAD": Subset(
        "A549",
        Assay("x_mutation_status", ("x_mutation_status",), PLATE, WELL, hours=96),
        Assay("allele", ("allele",), "det_plate", "det_well", hours=96),
        separator="_",
    ),
    "CDRP-bio": Subset(
        "U2OS",
        Assay(
            "Metadata_Sample_Dose",
            ("Metadata_Sample_Dose",),
            PLATE,
            WELL,
            hours=48,
            dose="Metadata_mmoles_per_liter2",
            kept=("Metadata_moa", "Metadata_target"),
        ),
        Assay(
            "pert_sample_dose",
            ("pert_sample_dose",),
            "det_plate",
            None,
            hours=6,
            dose="pert_dose",
            kept=("CPD_NAME", "CPD_SMILES"),
        ),
        separator=None,
    ),
}
"""The columns are those of the authors' code and of a later curation of the same files."""


def rosetta(
    which: Literal["TA-ORF", "LUAD", "CDRP-bio"] = "TA-ORF",
    *,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> MuData:
    """Load Cell Painting and L1000 profiles of the same perturbations :cite:p:`Haghighi2022`.

    Wells take the place of cells: each has either a vector of CellProfiler features or the expression of 978 landmark
    genes. No well has both. The smallest of the three is the smallest real perturbation screen with both modalities.

    Parameters
    ----------
    which
        ``"TA-ORF"``: 324 overexpressed constructs of 192 genes in U2OS, 3.1 MB, 1,920 and 729 wells
        :cite:p:`Rohban2017`; ``"LUAD"``: wild types and mutants of genes of lung adenocarcinoma in A549, 28 MB;
        ``"CDRP-bio"``: bioactive compounds in U2OS, 144 MB, 21,122 and 6,929 wells :cite:p:`Bray2017`.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; the files are in its subfolder
        ``rosetta``, in folders of their published names.
    progress
        Show a progress bar.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"``, neither of which is of the usual kind: pass
    ``modalities={"image": "features", "rna": "continuous"}`` to :meth:`petri_scvi.PETRI.setup_mudata`.

    - ``mod["image"].X``: CellProfiler features of wells, ``float32``, z-scores against the negative controls of the
      plate, after the authors' selection (63, 291 and 601 features). Missing and infinite values are NaN.
    - ``mod["rna"].X``: expression, ``float32``, as deposited. ``var_names`` are Affymetrix probes, such as
      ``"200814_at"``.
    - ``obs`` of each: ``perturbation`` and ``target_gene`` are the gene, or the compound without its batch; ``guide``
      is the construct, the allele (``"TP53_p.R248Q"``), or the sample and dose. ``is_control`` marks the authors'
      negative controls, whose ``perturbation`` and ``target_gene`` are ``"non-targeting"``. The ``replicate`` and the
      ``batch`` are the plate. Also ``well``, ``cell_line``, ``time_h`` and, of compounds, ``dose_um``, and columns as
      deposited.
    - ``uns["rosetta"]``: name, cell line, hours from perturbation to measurement in each assay, and the numbers of
      perturbations and of guides in each assay and in both.

    Raises
    ------
    ConnectionError
        There is no connection; call again to resume.
    KeyError
        A file lacks a column that this reader needs.
    OSError
        The disk is too small.
    ValueError
        ``which`` is not accepted, or a file is not the published one.

    Notes
    -----
    **The same perturbation is not the same experiment.** Compounds were measured 48 hours after treatment by Cell
    Painting, and 6 hours after it by L1000; constructs were measured at one time. Doses of compounds agree because the
    authors matched by dose, for which they doubled the concentrations recorded for Cell Painting. Half of the
    constructs of ``"TA-ORF"`` differ between the assays (323 and 327, of which 150 are the same). By default, documents
    are therefore made of genes; ``context_key="guide"`` makes documents of constructs or alleles.

    For compounds, edges between genes do not apply, and guide consistency compares the doses and batches of a compound.

    Wells without a label are left out, and a warning counts them. Scores need controls on each plate; a warning names
    plates without any. ``replicate_key="cell_line"`` takes all plates of an assay as one replicate.

    The files are in the Cell Painting Gallery :cite:p:`Weisbart2024`, ``cpg0003-rosetta``, CC0, readable without
    signing in. Their lengths are compared, and the MD5 of the files of ``"TA-ORF"``, which is their ETag; SHA-256 are
    not published: that of the first download is recorded beside it and compared later. **This reader was written
    without access to the files**: names of columns are those of the authors' code and of a curation of the files, and
    lengths were listed when the files had another address.

    L1000 is named by the probes of its platform, such as ``"200814_at"``, because the files have no gene symbols. Known
    pairs of genes apply nevertheless: they are compared with perturbed genes, which have symbols, not with what is
    measured. To see measured genes by their symbols, rename ``mdata["rna"].var_names`` with a table of the platform.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.rosetta("TA-ORF")
    >>> petri_scvi.PETRI.setup_mudata(mdata, modalities={"image": "features", "rna": "continuous"})
    """
    if which not in SUBSETS:
        raise ValueError(f"which={which!r} is not accepted; pass one of {list(SUBSETS)}")
    subset = SUBSETS[which]
    image_path, rna_path = fetch_all(ROSETTA[which], cache_dir, progress=progress)
    image = _read(image_path, "image", subset.image, subset)
    rna = _read(rna_path, "rna", subset.rna, subset)
    return assemble_screen(image, rna, {UNS_KEY: _about(which, image, rna)})


def _read(path: Path, modality: str, assay: Assay, subset: Subset) -> AnnData:
    """One table: a row per well, features and other columns side by side."""
    header = list(pd.read_csv(path, nrows=0).columns)
    is_value = [name.startswith(COMPARTMENTS) if modality == "image" else name.endswith(PROBE) for name in header]
    values = [name for name, is_one in zip(header, is_value, strict=True) if is_one]
    labels = [name for name, is_one in zip(header, is_value, strict=True) if not is_one]
    names = [name for name in assay.names if name in labels][:1]
    missing = [name for name in (assay.construct, assay.plate) if name not in labels]
    if missing or not names or not values:
        what = "feature" if modality == "image" else "probe"
        needed = missing or ([f"one of {list(assay.names)}"] if not names else [f"any {what}"])
        raise KeyError(f"{path} has no column {needed}; besides {len(values)} {what}s, it has {labels}")
    kinds = dict.fromkeys(values, np.float32) | dict.fromkeys(labels, str)
    table = pd.read_csv(path, dtype=kinds, na_values=["NA"])
    table = table[_is_labelled(table, assay.construct, path)].reset_index(drop=True)
    is_control = _is_control(table, assay.construct, path)
    matrix = table[values].to_numpy(np.float32, copy=True)
    matrix[~np.isfinite(matrix)] = np.nan
    obs = _obs(table, names[0], is_control, modality, assay, subset)
    _warn_without_controls(obs, modality)
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(values)))


def _is_labelled(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    is_labelled = table[column].notna()
    if n_without := int((~is_labelled).sum()):
        warn(f"{n_without} of {len(table)} wells of {path.name} have no label in {column!r}; they are left out")
    return is_labelled


def _is_control(table: pd.DataFrame, construct: str, path: Path) -> pd.Series:
    is_control = table[construct] == CONTROL_LABEL
    if CONTROL_COLUMN in table:
        is_control |= table[CONTROL_COLUMN] == CONTROL_LABEL
    if not is_control.any():
        common = list(table[construct].value_counts().index[:5])
        raise ValueError(
            f"{path} has no well labelled {CONTROL_LABEL!r} in {construct!r} or {CONTROL_COLUMN!r}; the most frequent "
            f"labels are {common}. It is not the published file."
        )
    return is_control


def _obs(
    table: pd.DataFrame, name: str, is_control: pd.Series, modality: str, assay: Assay, subset: Subset
) -> pd.DataFrame:
    full = table[name].fillna(table[assay.construct])
    n_unnamed = int((table[name].isna() & ~is_control).sum())
    if n_unnamed:
        warn(f"{n_unnamed} wells of {modality!r} have no {name!r}; their construct takes the place of the gene")
    target = full.str[:13] if subset.separator is None else full.str.split(subset.separator, n=1).str[0]
    plate = table[assay.plate].astype(str)
    has_well = assay.well is not None and assay.well in table
    obs = standard_obs(
        [f"{modality}_{i}" for i in range(len(table))],
        target=target.mask(is_control, CONTROL_LABEL),
        guide=table[assay.construct].mask(is_control, CONTROL_LABEL),
        batch=plate,
        control=CONTROL_LABEL,
        well=plate + "_" + table[assay.well].astype(str) if has_well else None,
    )
    obs = obs.assign(cell_line=pd.Categorical([subset.cell_line] * len(obs)), time_h=assay.hours)
    if assay.dose is not None and assay.dose in table:
        obs["dose_um"] = pd.to_numeric(table[assay.dose]).to_numpy()
    return obs.assign(**{column: pd.Categorical(table[column]) for column in assay.kept if column in table})


def _warn_without_controls(obs: pd.DataFrame, modality: str) -> None:
    has_control = obs.groupby("replicate", observed=True)["is_control"].any()
    without: Sequence[str] = list(has_control.index[~has_control])
    if without:
        warn(
            f"{len(without)} of {len(has_control)} plates of {modality!r} have no negative control, such as "
            f"{without[:3]}. Functions that center on controls refuse them: pass replicate_key='cell_line', which "
            "takes all plates as one replicate, or leave these plates out."
        )


def _about(which: str, image: AnnData, rna: AnnData) -> dict[str, object]:
    subset = SUBSETS[which]
    about: dict[str, object] = {
        "which": which,
        "cell_line": subset.cell_line,
        "time_h": {"image": subset.image.hours, "rna": subset.rna.hours},
    }
    for column in ("perturbation", "guide"):
        found = [set(part.obs.loc[~part.obs["is_control"], column]) for part in (image, rna)]
        counts = {"image": len(found[0]), "rna": len(found[1]), "both": len(found[0] & found[1])}
        about[f"n_{column}s"] = counts
    return about
