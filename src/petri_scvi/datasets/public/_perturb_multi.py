"""Perturb-Multi: images and transcriptomes of the same cells."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem, read_h5ad

from petri_scvi._constants import CHANNEL_NAMES_KEY
from petri_scvi.common import sole_writer, written_whole
from petri_scvi.common._warn import warn
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.cache._fetch import fetch_all, find_file, plan_download, writable_folder
from petri_scvi.datasets.cache._registry_public import (
    PERTURB_MULTI_CHANNELS,
    PERTURB_MULTI_CHUNKS,
    PERTURB_MULTI_IMAGES,
    PERTURB_MULTI_PROTEIN,
    PERTURB_MULTI_RNA,
)

from ._large_h5ad import read_rows, read_table
from ._perturb_multi_images import open_images, read_members, write_images
from ._standard_obs import standard_obs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from petri_scvi.datasets.cache._fetch import Plan
    from petri_scvi.datasets.cache._registry import Entry

CONTROL_TARGET = "control"
"""Target of a non-targeting guide in the deposit."""
KEPT = ("fov", "x", "y", "global_x", "global_y", "area", "cell_type", "cluster_type")
PROTEIN_KEY, PROTEIN_NAMES_KEY, UNS_KEY = "protein_intensities", "protein_names", "perturb_multi"


def perturb_multi(
    chunks: Sequence[str] | Literal["all"] = ("aa",),
    *,
    channels: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> MuData:
    """Load images and transcriptomes of the same mouse liver cells, with one guide each :cite:p:`Saunders2025`.

    The images come in 42 tar files. The cells with a guide in the requested files are written to one file per modality
    in the cache; later calls with the same ``chunks`` and ``channels`` open these files and no longer need the
    published ones, which may then be deleted.

    Parameters
    ----------
    chunks
        Tar files to use, by the letters in their names: ``"aa"`` to ``"bp"``; ``"all"`` for all 42.
    channels
        Names of the image channels to keep, in this order; all 18 if ``None``. They are listed in the notes.
    cache_dir
        Folder to look in first, as in :func:`petri_scvi.datasets.semisynthetic_screen`; files are in its subfolder
        ``perturb_multi``, under their published names. The first chunk downloads about 23 GB (transcriptomes
        14,201,294,683 bytes, proteins 31,430,488, a tar about 8.9 GB), each further one about 8.9 GB.
    progress
        Show progress bars.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"`` whose cells are the same, under the same names.

    - ``mod["image"].obsm["single_cell_images"]``: ``numpy.memmap`` of shape ``(n_cells, C, 128, 128)``, ``uint16`` with
      65,535 for the 1 of the deposit. It stays on disk and is read when used.
    - ``mod["image"].obsm["protein_intensities"]``: intensity of the 18 stains, ``float32``, NaN for cells that have
      none in the deposit; ``uns["protein_names"]`` names them.
    - ``mod["rna"].X``: CSR, ``log1p`` of expression normalised to a total of 93, 209 genes. Counts are not published,
      so train with ``expression_likelihood="normal"``.
    - ``obs`` of each: ``perturbation``, ``guide``, ``target_gene``, ``is_control``, ``replicate``, ``well``, ``batch``
      and ``fov``, ``x``, ``y``, ``global_x``, ``global_y``, ``area``, ``cell_type``, ``cluster_type`` as published. The
      batch, the replicate and the well are the liver section.

    Raises
    ------
    KeyError
        A published file has another layout than expected.
    OSError
        The disk is too small, or the download was interrupted; call again to resume.
    ValueError
        ``chunks`` or ``channels`` has an unknown name, or a file is not the published one.

    Notes
    -----
    Cells without a guide (most: a guide was called in some 79,000 of 2.2 million), without an image in the chunks or
    without any expression are left out; ``uns["perturb_multi"]`` has the number of the last.

    Hugging Face dataset ``xingjiepan/PerturbMulti``, revision 8aac954e, CC BY 4.0. SHA-256 are not registered here:
    that of each first download is compared with what the hub states, if it does, recorded beside the file and compared
    later. The lengths of the tar files are not known, and neither are their names beyond ``ao``, which follow from
    their number; public code reads an image as the array ``x`` of its file, with values from 0 to 1.

    The channels are Alb, polyT, rRNA, M6PR, CathB, Perilipin, Sqstm1, LC3b, TOMM20, Calreticulin, pS6RP, Na/K-ATPase,
    SNAP23, TOM70, Rab7, mtRNA, Vimentin and Gapdh.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.perturb_multi(["aa", "ab"], channels=["TOMM20", "Perilipin", "Calreticulin"])
    >>> petri_scvi.PETRI.setup_mudata(mdata, is_paired=True)
    >>> model = petri_scvi.PETRI(mdata, expression_likelihood="normal")
    """
    chunks, positions = _check_chunks(chunks), _check_channels(channels)
    names = _written_names(chunks, positions)
    image_path, rna_path = (find_file(name, cache_dir) for name in names)
    if image_path is None or rna_path is None:
        image_path, rna_path = (writable_folder(cache_dir) / name for name in names)
        image_path.parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(image_path, lambda: warn(f"another process is writing {image_path}; waiting for it.")):
            if not (image_path.is_file() and rna_path.is_file()):
                _convert(chunks, positions, image_path, rna_path, cache_dir, progress)
    image, rna = open_images(image_path), read_h5ad(rna_path)
    return assemble_screen(image, rna, uns={UNS_KEY: dict(rna.uns.pop(UNS_KEY))})


def plan_perturb_multi(
    chunks: Sequence[str] | Literal["all"], channels: Sequence[str] | None, cache_dir: str | Path | None = None
) -> Plan:
    """What a call would download; nothing, once the cells have been written."""
    chunks, positions = _check_chunks(chunks), _check_channels(channels)
    is_written = None not in [find_file(name, cache_dir) for name in _written_names(chunks, positions)]
    return plan_download([] if is_written else _published(chunks), cache_dir)


def _published(chunks: Sequence[str]) -> list[Entry]:
    """The files that the chunks need."""
    return [PERTURB_MULTI_RNA, PERTURB_MULTI_PROTEIN, *(PERTURB_MULTI_IMAGES[chunk] for chunk in chunks)]


def _written_names(chunks: tuple[str, ...], positions: list[int]) -> list[str]:
    """Files of the images and the transcriptomes of the chosen cells, in the cache."""
    key = zlib.crc32(repr((chunks, positions)).encode())
    return [f"perturb_multi/{kind}_{chunks[0]}_{len(chunks)}_{key:08x}.h5ad" for kind in ("image", "rna")]


def _check_chunks(chunks: Sequence[str] | Literal["all"]) -> tuple[str, ...]:
    if isinstance(chunks, str) and chunks == "all":
        return PERTURB_MULTI_CHUNKS
    found = () if isinstance(chunks, str) else tuple(chunks)
    unknown = [chunk for chunk in found if chunk not in PERTURB_MULTI_CHUNKS]
    if not found or unknown or len(set(found)) < len(found):
        raise ValueError(
            f"chunks={chunks!r} is not accepted; pass 'all', or a list of different names from "
            f"{PERTURB_MULTI_CHUNKS[0]!r} to {PERTURB_MULTI_CHUNKS[-1]!r}, such as ['aa', 'ab']"
        )
    return found


def _check_channels(channels: Sequence[str] | None) -> list[int]:
    known = list(PERTURB_MULTI_CHANNELS)
    if channels is None:
        return list(range(len(known)))
    found = [] if isinstance(channels, str) else list(channels)
    if not found or set(found) - set(known) or len(set(found)) < len(found):
        raise ValueError(f"channels={channels!r} is not accepted; pass None, or a list of different names of {known}")
    return [known.index(channel) for channel in found]


def _convert(
    chunks: tuple[str, ...],
    positions: list[int],
    image_path: Path,
    rna_path: Path,
    cache_dir: str | Path | None,
    progress: bool,
) -> None:
    """Write the cells of the chunks that have a guide, an image and expression."""
    rna_file, protein_file, *tars = fetch_all(_published(chunks), cache_dir, progress=progress)
    with h5py.File(rna_file, "r") as file:
        obs = read_table(file, "obs", ["singlet_gene", "singlet_name", "batch"])
        has_guide = (obs["singlet_gene"].notna() & (obs["singlet_gene"].astype(str) != "")).to_numpy()
        row_of = pd.Series(np.flatnonzero(has_guide), index=obs.index[has_guide].astype(str))
        members = [[m for m in read_members(tar) if m in row_of.index] for tar in tars]
        cells = pd.Index([m for found in members for m in found])
        if not len(cells):
            raise ValueError(f"no cell with a guide has an image in the chunks {list(chunks)}; pass others")
        if not cells.is_unique:
            raise ValueError(
                f"cells have several images in {[tar.name for tar in tars]}: {cells[cells.duplicated()][:3]}"
            )
        rows = row_of.loc[cells].to_numpy()
        raw = file["raw"] if "raw" in file else file
        expression = read_rows(raw["X"], rows, is_counts=False, progress=progress)
        var = pd.DataFrame(index=read_table(raw, "var", []).index.astype(str))
    is_empty = np.asarray(expression.sum(axis=1)).ravel() == 0
    cells, obs = cells[~is_empty], obs.iloc[rows[~is_empty]]
    table = standard_obs(
        cells, target=obs["singlet_gene"], guide=obs["singlet_name"], batch=obs["batch"], control=CONTROL_TARGET
    )
    table = table.assign(**{name: obs[name].to_numpy() for name in KEPT if name in obs})
    channels = [PERTURB_MULTI_CHANNELS[i] for i in positions]
    proteins, protein_names = _read_proteins(protein_file, cells)
    uns = {CHANNEL_NAMES_KEY: np.array(channels, dtype=object), PROTEIN_NAMES_KEY: protein_names}
    image = AnnData(obs=table, uns=uns, obsm={PROTEIN_KEY: proteins})
    write_images(image_path, image, dict(zip(chunks, tars, strict=True)), positions, progress=progress)

    about = {"chunks": list(chunks), "channels": channels, "n_without_expression": int(is_empty.sum())}
    rna = AnnData(expression[~is_empty], obs=table, var=var, uns={UNS_KEY: about})
    with written_whole(rna_path) as unfinished:
        rna.write_h5ad(unfinished)


def _read_proteins(path: Path, cells: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Intensities of the cells, NaN for those that the file lacks; and the names of the stains."""
    with h5py.File(path, "r") as file:
        names = read_table(file, "obs", ["cell_name"])["cell_name"].astype(str)
        values = read_elem(file["X"])
        stains = read_table(file, "var", []).index.astype(str).to_numpy(dtype=object)
    values = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float32)
    row = pd.Series(np.arange(len(names)), index=names)
    row = row[~row.index.duplicated()].reindex(cells)
    found = np.full((len(cells), len(stains)), np.nan, dtype=np.float32)
    found[row.notna()] = values[row.dropna().astype(int)]
    return found, stains
