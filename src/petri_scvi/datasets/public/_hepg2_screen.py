"""The HepG2 screen of the PETRI paper, which has been announced but is not public."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anndata import AnnData

from petri_scvi._constants import CONTROL, IMAGE, IMAGES_KEY, RNA
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.cache._registry_public import HEPG2_SCREEN
from petri_scvi.io._open import open_screen

from ._standard_obs import standard_obs

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import pandas as pd
    from mudata import MuData

NEEDED = ("target_gene", "guide", "batch")


def hepg2_screen(
    image: str | os.PathLike[str] | None = None,
    rna: str | os.PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    control: str = CONTROL,
) -> MuData:
    """Open local files of the HepG2 screen that the PETRI paper announced :cite:p:`PETRI2026`.

    **The screen is not public.** Its authors announce the release of "a blinded, matched optical pooled screen (OPS)
    and Perturb-seq dataset in HepG2 cells"; there is no address, no description of the files and no licence, so nothing
    is downloaded. This function opens the two files, in the usual formats of such screens, once you have them. In a
    blinded screen, target genes may have codes instead of names, and known gene pairs can then not be looked up.

    Parameters
    ----------
    image
        ``.h5ad`` or scPortrait ``.h5sc`` file with the crops in ``obsm["single_cell_images"]``.
    rna
        ``.h5ad`` file with the counts in ``X`` or ``layers["counts"]``.
    columns
        Names of the columns ``"target_gene"``, ``"guide"``, ``"batch"`` and ``"well"`` in the files, where they differ;
        for example ``{"target_gene": "gene", "guide": "sgRNA", "batch": "plate"}``. The well is optional.
    control
        Target of a non-targeting guide in the files; becomes ``"non-targeting"``.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"`` whose images and counts stay on disk, and the columns
    ``perturbation``, ``guide``, ``target_gene``, ``is_control``, ``replicate``, ``well`` and ``batch`` in ``obs`` of
    each. Names of cells are prefixed with their modality.

    Raises
    ------
    FileNotFoundError
        No files were passed, or they do not exist.
    KeyError
        A column or the crops are missing.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.hepg2_screen("ops.h5sc", "perturbseq.h5ad", columns={"target_gene": "gene"})
    >>> petri_scvi.io.write_training_store(mdata, "hepg2.h5mu")
    """
    if image is None or rna is None:
        raise FileNotFoundError(
            f"{HEPG2_SCREEN.name} was announced ({HEPG2_SCREEN.url}: {HEPG2_SCREEN.announcement}) but is not public: "
            "it has no address to download it from. Pass the two files when you have them: hepg2_screen('image.h5ad', "
            "'rna.h5ad'). Until then, datasets.hepg2_perturbseq has public transcriptomes of HepG2 cells."
        )
    opened = {}
    for name, path in ((IMAGE, image), (RNA, rna)):
        table = open_screen(path)
        if not isinstance(table, AnnData):
            raise ValueError(f"{path} has several modalities; pass a file with one as {name}")
        _rename(table, name, columns or {}, control)
        opened[name] = table
    if IMAGES_KEY not in opened[IMAGE].obsm:
        raise KeyError(f"{image} has no crops in obsm[{IMAGES_KEY!r}]; it has {list(opened[IMAGE].obsm.keys())}")
    return assemble_screen(opened[IMAGE], opened[RNA], uns={})


def _rename(table: AnnData, modality: str, columns: Mapping[str, str], control: str) -> None:
    """Add the columns that every screen has to an opened table."""
    unknown = set(columns) - {*NEEDED, "well"}
    if unknown:
        raise ValueError(f"columns has {sorted(unknown)}; expected {[*NEEDED, 'well']}")
    found: dict[str, pd.Series] = {}
    for name in NEEDED:
        column = columns.get(name, name)
        if column not in table.obs:
            raise KeyError(
                f"the {modality} file has no column {column!r}; it has {list(table.obs.columns)}. Name the one that "
                f"has the {name} of each cell: columns={{{name!r}: ...}}"
            )
        found[name] = table.obs[column]
    own = table.obs
    well = columns.get("well", "well")
    names = f"{modality}:" + own.index.astype(str)
    obs = standard_obs(
        names,
        target=found["target_gene"],
        guide=found["guide"],
        batch=found["batch"],
        control=control,
        well=own[well] if well in own else None,
    )
    kept = own.set_axis(names, axis=0)
    table.obs = obs.join(kept[[column for column in kept if column not in obs]])
