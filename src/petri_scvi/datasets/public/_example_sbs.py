"""Nuclei of the CellProfiler example plate: FOXO1A-GFP and DNA, two drugs, eleven doses."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from petri_scvi._checks import require
from petri_scvi.datasets.cache._fetch import fetch, find
from petri_scvi.datasets.cache._registry import EXAMPLE_SBS_ARCHIVE, EXAMPLE_SBS_FILES, EXAMPLE_SBS_METADATA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHANNEL_NAMES = ("FOXO1A-GFP", "DNA")
DRUG_OF_ROW = dict.fromkeys("ABCD", "drug_1") | dict.fromkeys("EFGH", "drug_2")


@dataclass(frozen=True)
class Nuclei:
    """Crops and positions of every nucleus of the plate."""

    images: np.ndarray  # (n_cells, C, H, W), uint8
    table: pd.DataFrame  # well, row, drug, dose, x, y, nucleus_area, is_border


def read_nuclei(cache_dir: str | Path | None, image_size: int, min_nucleus_area: int) -> Nuclei:
    """Segment every well and crop around the whole-pixel centroid of each nucleus."""
    images, tables = [], []
    files = _Files(cache_dir)
    for well in _plate_layout(files.read(EXAMPLE_SBS_METADATA)).itertuples():
        fields = np.stack([files.read_image(f"Channel{c}-{well.name}.tif") for c in (1, 2)])  # (C, H, W)
        table = segment_nuclei(fields[1], min_nucleus_area)
        crops, table["is_border"] = crop_cells(fields, table["y"].to_numpy(), table["x"].to_numpy(), image_size)
        images.append(crops)
        tables.append(table.assign(well=well.well, row=well.row, drug=well.drug, dose=well.dose))
    return Nuclei(np.concatenate(images), pd.concat(tables, ignore_index=True))


def segment_nuclei(dna: np.ndarray, min_nucleus_area: int) -> pd.DataFrame:
    """Find nuclei by Otsu's threshold; columns ``y`` and ``x`` (rounded centroid) and ``nucleus_area``, in pixels."""
    filters, measure = require("skimage.filters", "real"), require("skimage.measure", "real")
    labels = measure.label(dna > filters.threshold_otsu(dna))
    found = measure.regionprops_table(labels, properties=("area", "centroid"))
    is_nucleus = found["area"] >= min_nucleus_area
    return pd.DataFrame(
        {
            "y": np.rint(found["centroid-0"][is_nucleus]).astype(int),
            "x": np.rint(found["centroid-1"][is_nucleus]).astype(int),
            "nucleus_area": found["area"][is_nucleus].astype(int),
        }
    )


def crop_cells(fields: np.ndarray, y: np.ndarray, x: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square around each position; pixel ``(y, x)`` lands at ``image_size // 2``.

    Returns
    -------
    Crops, shape ``(n_cells, C, image_size, image_size)``, and whether a crop reaches over the edge of the field. It is
    zero there, because mirroring the field would turn half nuclei into whole ones.
    """
    before, after = image_size // 2, image_size - image_size // 2
    padded = np.pad(fields, ((0, 0), (before, after), (before, after)), mode="constant")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (image_size, image_size), axis=(1, 2))
    height, width = fields.shape[1:]
    is_border = (y < before) | (x < before) | (y + after > height) | (x + after > width)
    return windows[:, y, x].swapaxes(0, 1).copy(), is_border  # (C, n, H, W) -> (n, C, H, W)


class _Files:
    """The files of the folder by name, from the archive if it is in the cache, otherwise one by one.

    The archive is read in memory: its folder may be read-only.
    """

    def __init__(self, cache_dir: str | Path | None) -> None:
        self.cache_dir = cache_dir
        archive = find(EXAMPLE_SBS_ARCHIVE, cache_dir)
        self.members = {} if archive is None else dict(_read_archive(archive))

    def read(self, name: str) -> bytes:
        """Content of a file."""
        if name in self.members:
            return self.members[name]
        return fetch(EXAMPLE_SBS_FILES[name], self.cache_dir).read_bytes()

    def read_image(self, name: str) -> np.ndarray:
        """One field of view, shape ``(H, W)``, ``uint8``."""
        return require("tifffile", "real").imread(io.BytesIO(self.read(name)))


def _read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r|xz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            content = archive.extractfile(member) if name in EXAMPLE_SBS_FILES else None
            if content is not None:
                yield name, content.read()


def _plate_layout(metadata: bytes) -> pd.DataFrame:
    """One row per well: ``name`` as in the files, ``well``, ``row``, ``drug`` and ``dose``."""
    table = pd.read_csv(io.BytesIO(metadata), dtype={"Column": str})
    return pd.DataFrame(
        {
            "name": [f"{n:02d}-{r}-{c}" for n, r, c in zip(table.ImageNumber, table.Row, table.Column, strict=True)],
            "well": table["Row"] + table["Column"],
            "row": table["Row"],
            "drug": table["Row"].map(DRUG_OF_ROW),
            "dose": table["SBS_Doses"],
        }
    )
