"""PERISCOPE: crops of cells from the fields of a genome-wide optical pooled screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi._checks import require
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGES_KEY
from petri_scvi.datasets.cache._fetch import fetch, fetch_all
from petri_scvi.datasets.cache._registry import Entry
from petri_scvi.datasets.cache._registry_public import (
    GALLERY,
    GALLERY_REASON,
    PERISCOPE_CHANNELS,
    PERISCOPE_CONTROL_GUIDES,
    PERISCOPE_FIELD_BYTES,
    PERISCOPE_LIBRARY,
    PERISCOPE_MAX_BYTES,
    PERISCOPE_TABLE_BYTES,
)

from ._example_sbs import crop_cells
from ._standard_obs import standard_obs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONTROL_TARGET = "nontargeting"
"""Target of a non-targeting guide in the deposit."""
SCREENS: dict[str, tuple[str, str, str]] = {
    # cell line, batch, last letters of the plates
    "hela_dmem": ("HeLa", "20210422_6W_CP257", "ABDFH"),
    "hela_hplm": ("HeLa", "20210422_6W_CP257", "JKLN"),
    "a549": ("A549", "20200805_A549_WG_Screen", "ABCDEFGHN"),
}
PLATE, WELL, SITE = "Metadata_Foci_plate", "Metadata_Foci_well", "Metadata_Foci_site_location"
X, Y, CELL = "Cells_AreaShape_Center_X", "Cells_AreaShape_Center_Y", "Metadata_Cells_ObjectNumber"


def periscope(
    genes: Sequence[str],
    *,
    screen: Literal["hela_dmem", "hela_hplm", "a549"] = "hela_dmem",
    max_sites: int = 5,
    n_control_guides: int = 10,
    image_size: int = 96,
    cache_dir: str | Path | None = None,
) -> AnnData:
    """Cut crops of cells of the PERISCOPE screens :cite:p:`Ramezani2025` from their fields of view.

    A genome-wide CRISPR knockout screen with Cell Painting. No crops are published, only a table of cells per guide,
    and the fields of view, each of which has cells of many guides. Because fields are large, those with the most cells
    of the requested genes are downloaded, and all of these cells in them are cut out.

    Parameters
    ----------
    genes
        Symbols of target genes.
    screen
        HeLa cells in one of two media, or A549 cells.
    max_sites
        Fields of view to use, about 303 MB each (five channels of 5500 x 5500 pixels).
    n_control_guides
        Non-targeting guides whose cells are cut out as well; 0 to 10.
    image_size
        Height and width of a crop, in pixels.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; files are in its subfolder
        ``periscope``.

    Returns
    -------
    Images in memory: ``obsm["single_cell_images"]`` of shape ``(n_cells, 5, image_size, image_size)``, channels DNA,
    ER, Mito, Phalloidin and WGA, in the type of the fields. ``obs`` has ``perturbation``, ``guide`` (the sequence of
    the sgRNA), ``target_gene``, ``is_control``, ``replicate``, ``well``, ``batch``, and ``site``, ``x`` and ``y``
    (pixels), ``is_border`` (the crop reaches over the edge of the field and is zero there). The replicate and the batch
    are the plate. ``X`` is ``None``.

    Raises
    ------
    ImportError
        The packages of ``petri-scvi[real]`` are not installed.
    OSError
        The disk is too small, or the download was interrupted; call again to resume.
    ValueError
        An argument is not accepted, or a file was changed after its first use.

    Notes
    -----
    ``cpg0021-periscope`` of the Cell Painting Gallery :cite:p:`Weisbart2024`, CC0, readable without signing in. The
    addresses of tables and fields, the names of the columns and the ten non-targeting guides are those of the authors'
    notebook that shows single cells (``Extended_Data_10`` of ``broadinstitute/2022_PERISCOPE``); the README of that
    repository names another folder for the tables. Guides of a gene are looked up in the authors' ``Barcodes.csv``.
    This reader was written without access to these files. Their sizes are estimates and no checksums are published; the
    SHA-256 of the first download is recorded beside each file and compared later.
    """
    cell_line, batch, plates = _check(genes, screen, max_sites, n_control_guides, image_size)
    require("tifffile", "real")
    guides = _find_guides(genes, n_control_guides, cache_dir)
    tables = fetch_all([_table_entry(cell_line, batch, *guide) for guide in guides.items()], cache_dir)
    cells = pd.concat(
        [_read_cells(path, guide, gene) for path, (guide, gene) in zip(tables, guides.items(), strict=True)]
    )
    cells = cells[cells[PLATE].str[-1].isin(list(plates))]
    if cells.empty:
        raise ValueError(f"none of the guides of {list(genes)} has cells on the plates of screen={screen!r}")
    n_cells = cells.groupby([PLATE, WELL, SITE]).size().sort_values(ascending=False, kind="stable")
    sites: list[tuple[str, str, str]] = list(n_cells.index[:max_sites])
    entries = [_field_entry(batch, *site, channel) for site in sites for channel in PERISCOPE_CHANNELS]
    fetch_all(entries, cache_dir)  # free space for all of them is checked first
    parts = [_cut(cells, site, batch, image_size, cache_dir) for site in sites]
    table = pd.concat([part for part, _ in parts])
    names = table[PLATE] + "_" + table[WELL] + "_" + table[SITE] + "_" + table[CELL].astype(str)
    well = table[PLATE] + "_" + table[WELL]
    obs = standard_obs(
        names, target=table["gene"], guide=table["guide"], batch=table[PLATE], control=CONTROL_TARGET, well=well
    )
    more = {"site": well + "_" + table[SITE], "x": table[X], "y": table[Y], "is_border": table["is_border"]}
    return AnnData(
        obs=obs.assign(**{name: values.to_numpy() for name, values in more.items()}),
        obsm={IMAGES_KEY: np.concatenate([crops for _, crops in parts])},
        uns={CHANNEL_NAMES_KEY: list(PERISCOPE_CHANNELS)},
    )


def _check(
    genes: Sequence[str], screen: str, max_sites: int, n_control_guides: int, image_size: int
) -> tuple[str, str, str]:
    if isinstance(genes, str) or not len(genes):
        raise ValueError(f"genes={genes!r} is not accepted; pass a list of symbols, such as ['ATP6V1A']")
    if screen not in SCREENS:
        raise ValueError(f"screen={screen!r} is not accepted; pass one of {list(SCREENS)}")
    limits = {
        "max_sites": (max_sites, 1, 10**6),
        "n_control_guides": (n_control_guides, 0, len(PERISCOPE_CONTROL_GUIDES)),
        "image_size": (image_size, 8, 1024),
    }
    for name, (value, low, high) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name}={value!r} is not accepted; pass a whole number from {low} to {high}")
    return SCREENS[screen]


def _find_guides(genes: Sequence[str], n_control_guides: int, cache_dir: str | Path | None) -> dict[str, str]:
    """Map guides to their targets, controls last."""
    library = pd.read_csv(fetch(PERISCOPE_LIBRARY, cache_dir), dtype=str)
    missing = [column for column in ("gene_symbol", "sgRNA") if column not in library]
    if missing:
        raise KeyError(f"{PERISCOPE_LIBRARY.file_name} has no column {missing}; it has {list(library.columns)}")
    unknown = sorted(set(genes) - set(library["gene_symbol"]))
    if unknown:
        raise ValueError(
            f"genes has {unknown[:5]}, which the library does not target; it targets for example "
            f"{sorted(set(library['gene_symbol'].dropna()))[:5]}"
        )
    chosen = library[library["gene_symbol"].isin(list(genes))]
    guides = dict(zip(chosen["sgRNA"], chosen["gene_symbol"], strict=True))
    return guides | dict.fromkeys(PERISCOPE_CONTROL_GUIDES[:n_control_guides], CONTROL_TARGET)


def _table_entry(cell_line: str, batch: str, guide: str, gene: str) -> Entry:
    name = f"{batch}_single_cell_normalized_ALLBATCHES__{guide}_{gene}.csv.gz"
    address = f"workspace/profiles/{cell_line}/single_cell_by_guide/{name}"
    return _gallery_entry(address, PERISCOPE_TABLE_BYTES)


def _field_entry(batch: str, plate: str, well: str, site: str, channel: str) -> Entry:
    folder = f"images/{batch}/images_corrected_cropped/{plate}_{well}/Corr{channel}"
    return _gallery_entry(f"{folder}/Corr{channel}_Site_{site}.tiff", PERISCOPE_FIELD_BYTES)


def _gallery_entry(address: str, n_bytes: int) -> Entry:
    return Entry(
        file_name=f"periscope/{address}",
        url=GALLERY + address,
        sha256=None,
        n_bytes=n_bytes,
        license="CC0-1.0",
        why_no_sha256=GALLERY_REASON,
        is_size_exact=False,
        max_bytes=PERISCOPE_MAX_BYTES,
    )


def _read_cells(path: Path, guide: str, gene: str) -> pd.DataFrame:
    """Cells of a guide whose position is known."""
    columns = [PLATE, WELL, SITE, CELL, X, Y]
    header = pd.read_csv(path, nrows=0).columns
    missing = [column for column in columns if column not in header]
    if missing:
        raise KeyError(f"{path} has no column {missing}; it is not a table of single cells as the authors publish it")
    table = pd.read_csv(path, usecols=columns, dtype={PLATE: str, WELL: str})[columns]
    table = table[table[[SITE, CELL, X, Y]].notna().all(axis=1)]
    whole = {SITE: table[SITE].astype(int).astype(str), CELL: table[CELL].astype(int)}
    return table.assign(guide=guide, gene=gene, **whole)


def _cut(
    cells: pd.DataFrame, site: tuple[str, str, str], batch: str, image_size: int, cache_dir: str | Path | None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells of one field, and their crops."""
    entries = [_field_entry(batch, *site, channel) for channel in PERISCOPE_CHANNELS]
    channels = [require("tifffile", "real").imread(path) for path in fetch_all(entries, cache_dir)]
    shapes = {(channel.shape, channel.dtype) for channel in channels}
    if len(shapes) > 1 or channels[0].ndim != 2:
        raise ValueError(f"the channels of field {site} differ, or are not single images: {sorted(map(str, shapes))}")
    fields = np.stack(channels)  # (C, H, W)
    plate, well, number = site
    table = cells[(cells[PLATE] == plate) & (cells[WELL] == well) & (cells[SITE] == number)]
    x, y = (np.rint(table[column].to_numpy(dtype=float)).astype(int) for column in (X, Y))
    is_inside = (x >= 0) & (y >= 0) & (x < fields.shape[2]) & (y < fields.shape[1])
    crops, is_border = crop_cells(fields, y[is_inside], x[is_inside], image_size)
    return table[is_inside].assign(is_border=is_border), crops
