"""Crops of scGeneScope, from the zip files of plates."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import Progress

from petri_scvi._checks import require
from petri_scvi._constants import CHANNEL_NAMES_KEY, IMAGE, IMAGES_KEY
from petri_scvi.datasets.cache._registry_public import SCGENESCOPE_CHANNELS, SCGENESCOPE_PLATES

from ._cells import BATCH, REPLICATE, TREATMENT, cell_obs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ._cells import Draw

MANIFEST_KEY = "manifest"
PATH_COLUMNS = [f"path-{channel}" for channel in SCGENESCOPE_CHANNELS]


def read_crops(manifests: Mapping[int, Path], zips: Mapping[str, Path], draw: Draw, *, progress: bool) -> AnnData:
    """Chosen cells of some plates.

    Parameters
    ----------
    manifests
        Table of the imaged cells of each round.
    zips
        File of each plate.
    draw
        Chooses rows among the cells of these plates.
    progress
        Show a progress bar.
    """
    tiff = require("tifffile", "real")
    parts, crops = [], []
    for number, path in manifests.items():
        cells = _read_manifest(path)
        plate = _plate_of(cells[PATH_COLUMNS[0]])
        is_wanted = plate.isin([name for name in zips if SCGENESCOPE_PLATES[name][0] == number])
        cells, plate = cells[is_wanted], plate[is_wanted]
        rows = draw(cells)
        cells, plate = cells.iloc[rows], plate.iloc[rows]
        found = []
        with Progress(disable=not progress) as bar:
            task = bar.add_task("Reading crops", total=len(cells))
            for name, members in cells.groupby(plate.to_numpy(), sort=False):
                with zipfile.ZipFile(zips[name]) as archive:
                    finder = _Finder(archive, name)
                    for index, columns in zip(members.index, members[PATH_COLUMNS].to_numpy(), strict=True):
                        planes = [tiff.imread(io.BytesIO(finder.read(address))) for address in columns]
                        found.append((index, _as_crop(planes, columns[0])))
                        bar.advance(task)
        by_cell = dict(found)
        crops += [by_cell[index] for index in cells.index]
        obs = cell_obs(cells, IMAGE, number)
        parts.append(obs.assign(plate=pd.Categorical(plate)))
    if not crops:
        raise ValueError(f"no cell of the requested replicates and treatments is on the plates {list(zips)}")
    shapes = {crop.shape for crop in crops}
    if len(shapes) > 1:
        raise ValueError(f"crops have the shapes {sorted(shapes)}; expected one")
    uns = {CHANNEL_NAMES_KEY: list(SCGENESCOPE_CHANNELS)}
    return AnnData(obs=pd.concat(parts), obsm={IMAGES_KEY: np.stack(crops)}, uns=uns)  # (n, C, H, W)


class _Finder:
    """Members of a zip file by their path in the manifest."""

    def __init__(self, archive: zipfile.ZipFile, plate: str) -> None:
        self.archive, self.plate = archive, plate
        self.names = set(archive.namelist())

    def read(self, address: str) -> bytes:
        """Content of a member, which the authors unpack into the folder of the plate."""
        inside = address.split(f"{self.plate}/", 1)[-1]
        for name in (inside, address, f"{self.plate}/{inside}"):
            if name in self.names:
                return self.archive.read(name)
        raise KeyError(
            f"{self.archive.filename} has no {inside}, which the manifest names {address}; it has {len(self.names)} "
            f"files, such as {sorted(self.names)[:3]}. The layout is another than this reader expects."
        )


def _read_manifest(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_hdf(path, key=MANIFEST_KEY)
    except ImportError as error:
        raise ImportError(
            "the table of images is an HDF5 file of PyTables; run pip install tables", name="tables"
        ) from error
    missing = [column for column in (TREATMENT, REPLICATE, BATCH, *PATH_COLUMNS) if column not in table]
    if missing:
        raise KeyError(f"{path} has no column {missing}; it has {list(table.columns)}")
    return table.set_axis(table.index.astype(str), axis=0)


def _plate_of(addresses: pd.Series) -> pd.Series:
    """Plate of each image: the folder in its path that is named as one."""
    plates = addresses.str.split("/").map(
        lambda parts: next((part for part in parts if part in SCGENESCOPE_PLATES), "")
    )
    if (plates == "").any():
        raise KeyError(f"paths of the manifest, such as {addresses[plates == ''].iloc[0]!r}, do not name a plate")
    return plates


def _as_crop(planes: list[NDArray[np.uint8]], address: str) -> NDArray[np.uint8]:
    kinds = {(plane.shape, plane.dtype.str) for plane in planes}
    if len(kinds) > 1 or planes[0].ndim != 2:
        raise ValueError(f"channels of the cell of {address} differ, or are not single images: {sorted(kinds)}")
    return np.stack(planes)  # (C, H, W)
