"""Spots of the mouse olfactory bulb: images of every other one, counts of the rest."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy import sparse

from petri_scvi._checks import check_flags
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGE, IMAGES_KEY, RNA
from petri_scvi.datasets._assemble import assemble_screen
from petri_scvi.datasets.cache._fetch import fetch_all, find
from petri_scvi.datasets.cache._registry_public import OLFACTORY_BULB_ARCHIVE, OLFACTORY_BULB_FILES

from ._example_sbs import crop_cells

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SECTIONS = ("MOB1", "MOB2", "MOB3", "MOB4")
TRUTH_KEY = "olfactory_bulb"


def olfactory_bulb(
    cache_dir: str | Path | None = None,
    *,
    hidden: bool = False,
    image_size: int = 32,
    block_size: int = 6,
    min_spots: int = 2,
) -> MuData:
    """Load a real tissue as an unpaired screen whose pairing is known.

    Each spot of the tissue was both imaged and sequenced. The screen has the images of every other spot and the counts
    of the spots between them, so no spot is in both modalities. What a screen of cells would have as perturbation is
    here the block of neighbouring spots. The other half of each spot, which no model should see in training, is the
    known answer to the question which image belongs to which transcriptome.

    Parameters
    ----------
    cache_dir
        Folder to look for the files in first; may be read-only. By default the folder named by the environment variable
        ``PETRI_SCVI_CACHE``, then the user's cache folder. 17 MB are downloaded if the files are in neither. A local
        copy of the twelve files as ``mob.tar.xz`` is used instead of single files.
    hidden
        Return the halves that the screen leaves out: the counts of its imaged spots, and the images of its sequenced
        ones, with the same columns and, in ``true_spot``, the same names.
    image_size
        Height and width of a crop, in pixels. The nearest spots are 32 pixels apart.
    block_size
        Height and width of a block, in positions of the array; about half of them have a spot.
    min_spots
        Blocks with fewer spots of either modality, at the edge of the tissue, are left out.

    Returns
    -------
    A screen with modalities ``"image"`` and ``"rna"``. With the default arguments, it has 798 images and 796
    transcriptomes of 110 blocks.

    - ``mod["image"].obsm["single_cell_images"]``: ``(n_spots, 3, image_size, image_size)``, ``uint8``, the colours of a
      section that was stained with haematoxylin and eosin. ``X`` is ``None``.
    - ``mod["rna"].X``: CSR counts of 1,000 genes (Ensembl names), integer-valued ``float32``.
    - ``obs`` of each modality: ``block``; ``perturbation``, which repeats it so that other functions find it by their
      defaults; ``section``, repeated as ``replicate``, ``well`` and ``batch``; ``x`` and ``y`` (positions of the
      array), ``pixel_x`` and ``pixel_y``; ``is_border`` of images (the crop reaches over the edge and is zero there);
      and ``true_spot``, which names the spot. There are no controls.
    - ``uns["olfactory_bulb"]["spots"]``: one row per spot of the screen, with the modality that it is in.

    Raises
    ------
    FileNotFoundError
        A file is neither in the cache nor can it be downloaded.
    ValueError
        An argument is out of range, no block is left, or a file in the cache is not the registered one.

    Notes
    -----
    Spots in even columns of the array are in ``"image"``, those in odd columns in ``"rna"``, so that the nearest
    neighbours of a spot are in the other modality. Each section is divided into blocks of its own: corresponding blocks
    of two sections are different contexts.

    **License.** The data are those of Ståhl et al. 2016, *Science* 353, 78-82 :cite:p:`Stahl2016`. They are
    read from the R package STUtility (``jbergenstrahle/STUtility``, a fixed commit), which is under the MIT license but
    does not state that of the data. Ask the authors before redistributing them.

    Examples
    --------
    >>> mdata = petri_scvi.datasets.olfactory_bulb()
    >>> pairs = petri_scvi.datasets.olfactory_bulb(hidden=True)
    """
    check_flags(hidden=hidden)
    for name, value, low in (("image_size", image_size, 8), ("block_size", block_size, 2), ("min_spots", min_spots, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{name}={value!r} is not accepted; pass an integer of at least {low}")
    files = _read_files(cache_dir)
    spots = pd.concat([_spots_of(section, files, block_size) for section in SECTIONS], ignore_index=True)
    n_spots = pd.crosstab(spots["block"], spots["modality"]).reindex(columns=[IMAGE, RNA], fill_value=0)
    kept = n_spots.index[n_spots.min(axis=1) >= min_spots]
    if kept.empty:
        raise ValueError(
            f"no block of block_size={block_size} has min_spots={min_spots} spots of both modalities; pass a larger "
            "block_size or a smaller min_spots"
        )
    spots = spots[spots["block"].isin(kept)].reset_index(drop=True)
    is_image = (spots["modality"] == (RNA if hidden else IMAGE)).to_numpy()
    image = _image_modality(spots[is_image], files, image_size)
    return assemble_screen(image, _rna_modality(spots[~is_image], files), uns={TRUTH_KEY: {"spots": spots}})


def _read_files(cache_dir: str | Path | None) -> dict[str, bytes]:
    """Content of each file, from the archive if it is in the cache, otherwise of the single files."""
    archive_path = find(OLFACTORY_BULB_ARCHIVE, cache_dir)
    if archive_path is None:
        paths = fetch_all(list(OLFACTORY_BULB_FILES.values()), cache_dir)
        return {path.name: path.read_bytes() for path in paths}
    found: dict[str, bytes] = {}
    with tarfile.open(archive_path, "r|xz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            content = archive.extractfile(member) if name in OLFACTORY_BULB_FILES else None
            if content is not None:
                found[name] = content.read()
    return found


def _spots_of(section: str, files: dict[str, bytes], block_size: int) -> pd.DataFrame:
    """Spots under the tissue, with the modality that each is in."""
    table = pd.read_csv(io.BytesIO(files[f"alignment_table_{section}.tsv"]), sep="\t")
    table = table[table["selected"] == 1].sort_values(["x", "y"])
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    return pd.DataFrame(
        {
            "spot": [f"{section}_{a}x{b}" for a, b in zip(x, y, strict=True)],
            "section": section,
            "block": [f"{section}_{a:02d}_{b:02d}" for a, b in zip(x // block_size, y // block_size, strict=True)],
            "modality": np.where(x % 2 == 0, IMAGE, RNA),
            "x": x,
            "y": y,
            "pixel_x": table["pixel_x"].to_numpy(),
            "pixel_y": table["pixel_y"].to_numpy(),
        }
    )


def _obs(spots: pd.DataFrame, modality: str) -> pd.DataFrame:
    obs = pd.DataFrame({name: pd.Categorical(spots["block"]) for name in ("block", "perturbation")})
    obs = obs.assign(**{name: pd.Categorical(spots["section"]) for name in ("section", "replicate", "well", "batch")})
    obs = obs.assign(**{name: spots[name].to_numpy() for name in ("x", "y", "pixel_x", "pixel_y")})
    obs["true_spot"] = spots["spot"].to_numpy()
    obs.index = pd.Index([f"{modality}_{spot}" for spot in spots["spot"]])
    return obs


def _image_modality(spots: pd.DataFrame, files: dict[str, bytes], image_size: int) -> AnnData:
    crops, is_border = [], []
    for section, part in spots.groupby("section", sort=False):
        with Image.open(io.BytesIO(files[f"{section}.jpg"])) as opened:
            field = np.asarray(opened.convert("RGB")).transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)
        y, x = (np.rint(part[name].to_numpy()).astype(int) for name in ("pixel_y", "pixel_x"))
        cut, is_outside = crop_cells(field, y, x, image_size)
        crops.append(cut)
        is_border.append(is_outside)
    obs = _obs(spots, IMAGE).assign(is_border=np.concatenate(is_border))
    images = np.concatenate(crops)  # (n_spots, C, H, W)
    return AnnData(obs=obs, obsm={IMAGES_KEY: images}, uns={CHANNEL_NAMES_KEY: ["red", "green", "blue"]})


def _rna_modality(spots: pd.DataFrame, files: dict[str, bytes]) -> AnnData:
    counts = []
    for section, part in spots.groupby("section", sort=False):
        table = pd.read_csv(io.BytesIO(files[f"{section}.tsv"]), sep="\t", index_col=0)
        counts.append(table.loc[part["spot"].str.removeprefix(f"{section}_")])
    joined = pd.concat(counts, join="inner")  # genes that all sections have
    matrix = sparse.csr_matrix(joined.to_numpy(dtype=np.float32))
    return AnnData(X=matrix, obs=_obs(spots, RNA), var=pd.DataFrame(index=pd.Index(joined.columns.astype(str))))
