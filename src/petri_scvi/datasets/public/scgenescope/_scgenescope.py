"""scGeneScope: single-cell images and transcriptomes of cells treated with the same 28 compounds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from petri_scvi._checks import check_seed, check_sizes
from petri_scvi._constants import IMAGE, RNA
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.cache._fetch import fetch_all, plan_download
from petri_scvi.datasets.cache._registry_public import (
    SCGENESCOPE,
    SCGENESCOPE_PLATES,
    SCGENESCOPE_ROUNDS,
    SCGENESCOPE_TERMS,
    SCGENESCOPE_ZIPS,
)

from ._cells import SCVI_KEY, SPLITS, choose_rows, read_cells
from ._crops import read_crops

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from petri_scvi.datasets.cache._registry import Entry

UNS_KEY = "scgenescope"


def scgenescope(
    replicates: Sequence[int] = (1, 2),
    *,
    images: Literal["vit-l", "crops"] = "vit-l",
    expression: Literal["scvi", "log"] = "scvi",
    plates: Sequence[str] | None = None,
    treatments: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
    max_cells: int | None = 100,
    seed: int = 0,
    download: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> MuData:
    """Load images and transcriptomes of cells treated with the same 28 compounds :cite:p:`Dapello2025`.

    U2OS cells in five replicates were imaged with Cell Painting, and other cells of the same treatments sequenced.

    **The data are under CC BY-NC 4.0: not for commercial use. They need a token.** Accept the terms and make a token on
    https://huggingface.co/datasets/altoslabs/scGeneScope, and set the environment variable ``HF_TOKEN`` to it.

    Parameters
    ----------
    replicates
        Replicates to read, as the deposit numbers them: 3, 4 and 5 are of round 1, 1 and 2 of round 2. Each round has
        files of its own.
    images
        ``"vit-l"``: 5,120 features that the authors computed with a ViT-L, 18.5 and 11.0 GB for rounds 1 and 2.
        ``"crops"``: images of ``plates``.
    expression
        ``"scvi"``: 200 latent variables of the authors' scVI model, 4.4 and 2.6 GB. ``"log"``: log-normalised
        expression of 55,308 genes, about 52 and 28 GB.
    plates
        Imaged plates to read crops of, by name; an error lists the 26 names. A plate has about 7 GB;
        ``"MIC1227_CP_Batch1_Plate1A_1"`` has 0.17 GB. Only with ``images="crops"``.
    treatments
        Compounds to read, as the deposit spells them; all if ``None``. DMSO, the control, is always read.
    genes
        Genes to keep, by name, with ``expression="log"``; all if ``None``.
    max_cells
        Draw at most this many cells of each treatment and replicate, in each modality; all if ``None``. A crop has
        0.25 MB in memory, and 29 treatments with 100 cells in two replicates 1.5 GB.
    seed
        Seed of this draw.
    download
        Download what is missing. By default, an error says how much that would be: the smallest choice, replicates 1
        and 2 with the authors' features, is 13.6 GB, all images are 186 GB.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; files are in its subfolder
        ``scgenescope``, in folders of their published names.
    progress
        Show progress bars.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"``. ``uns["scgenescope"]["kinds"]`` has the kind of each, for
    :meth:`petri_scvi.PETRI.setup_mudata`: ``"features"``; ``"images"`` for crops; ``"continuous"`` for
    log-normalised expression.

    - ``mod["image"].X``, ``float32``; or ``obsm["single_cell_images"]`` of shape ``(n_cells, 5, H, W)``, ``uint8``,
      channels DNA, RNA, AGP, Mito and ER.
    - ``mod["rna"].X``: ``float32``, CSR if it is expression.
    - ``obs`` of each: ``perturbation``, ``target_gene`` and ``guide`` are the compound, ``"non-targeting"`` for DMSO;
      ``is_control``; ``replicate``, as numbered; ``batch`` and ``well``, which is the batch, as wells are not recorded;
      ``round``; ``split``, what the publication uses the replicate for: ``"train"`` (3), ``"validation"`` (5),
      ``"test"`` (4) and ``"test_other_round"`` (1 and 2).

    Raises
    ------
    FileNotFoundError
        Files are not in the cache and ``download`` is false.
    ImportError
        Crops need the packages tables and tifffile.
    KeyError
        A file has another layout than expected.
    OSError
        The disk is too small, the token is missing or refused (``PermissionError``), or the download was interrupted;
        call again to resume.
    ValueError
        An argument is not accepted.

    Notes
    -----
    A compound has one guide and no target gene, so guide consistency and edges between genes do not apply; the
    published task is to name the treatment of a cell of another replicate, see ``benchmarks/scgenescope.py``.

    **This reader was written without access to the files.** Names of files, plates, columns and slots are those of the
    authors' scripts and notebooks, in a public copy of their repository, and of public code that read the features. Not
    verified: that paths in the manifest contain the plate, that files in a ``plate.zip`` have the rest of these paths,
    and lengths. The manifest is a table of pandas and PyTables, which can hold pickled objects: open the published one
    only.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.scgenescope([3, 5, 4], download=True)
    >>> petri_scvi.PETRI.setup_mudata(mdata, modalities=mdata.uns["scgenescope"]["kinds"])
    """
    numbers = _check(replicates, images, expression, plates, genes, max_cells, seed)
    rounds = sorted({number for number, members in SCGENESCOPE_ROUNDS.items() if set(members) & set(numbers)})
    chosen = list(plates or [])
    what = "manifest" if images == "crops" else "vit-l"
    entries = [SCGENESCOPE[name][number] for name in (what, expression) for number in rounds]
    paths = _fetch([*entries, *(SCGENESCOPE_ZIPS[plate] for plate in chosen)], download, cache_dir, progress)
    image_paths, rna_paths, zips = paths[: len(rounds)], paths[len(rounds) : len(entries)], paths[len(entries) :]

    draw = partial(choose_rows, replicates=numbers, treatments=treatments, max_cells=max_cells, seed=seed)
    of_round = partial(zip, rounds, strict=True)
    if images == "crops":
        image = read_crops(dict(of_round(image_paths)), dict(zip(chosen, zips, strict=True)), draw, progress=progress)
    else:
        image = read_cells(dict(of_round(image_paths)), IMAGE, "X", draw, progress=progress)
    slot = "X" if expression == "log" else f"obsm/{SCVI_KEY}"
    rna = read_cells(dict(of_round(rna_paths)), RNA, slot, draw, genes=genes, progress=progress)
    kinds = {
        IMAGE: "images" if images == "crops" else "features",
        RNA: "continuous" if expression == "log" else "features",
    }
    return assemble_screen(image, rna, {UNS_KEY: {"kinds": kinds, "license": "CC-BY-NC-4.0"}})


def _check(
    replicates: Sequence[int],
    images: str,
    expression: str,
    plates: Sequence[str] | None,
    genes: Sequence[str] | None,
    max_cells: int | None,
    seed: int,
) -> list[int]:
    numbers = [] if isinstance(replicates, str | int) else [int(number) for number in replicates]
    if not numbers or set(numbers) - set(SPLITS) or len(set(numbers)) < len(numbers):
        raise ValueError(f"replicates={replicates!r} is not accepted; pass a list of different numbers from 1 to 5")
    for name, value, known in (("images", images, ("vit-l", "crops")), ("expression", expression, ("scvi", "log"))):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not accepted; pass one of {list(known)}")
    if max_cells is not None:
        check_sizes(max_cells=max_cells)
    check_seed(seed)
    if genes is not None and (expression != "log" or isinstance(genes, str)):
        raise ValueError("genes selects genes of expression='log'; pass both, with genes as a list, or neither")
    if (images == "crops") != (plates is not None):
        raise ValueError(
            "plates belongs to images='crops'; pass both or neither. The plates are, of about 7 GB each, "
            f"{list(SCGENESCOPE_PLATES)}"
        )
    rounds = {number for number, members in SCGENESCOPE_ROUNDS.items() if set(members) & set(numbers)}
    known_plates = [plate for plate, (number, _) in SCGENESCOPE_PLATES.items() if number in rounds]
    if plates is not None and (isinstance(plates, str) or not plates or set(plates) - set(known_plates)):
        raise ValueError(
            f"plates={plates!r} is not accepted; pass a list of plates of these replicates: {known_plates}"
        )
    return numbers


def _fetch(entries: list[Entry], download: bool, cache_dir: str | Path | None, progress: bool) -> list[Path]:
    plan = plan_download(entries, cache_dir)
    if plan.missing and not download:
        names = [entry.file_name.removeprefix("scgenescope/") for entry in plan.missing]
        raise FileNotFoundError(
            f"scGeneScope is not in the cache. To be downloaded: {plan}: {names}. Pass download=True to do so; it "
            f"needs a token from {SCGENESCOPE_TERMS} in the environment variable HF_TOKEN. The data may not be used "
            "commercially."
        )
    return fetch_all(entries, cache_dir, progress=progress)
