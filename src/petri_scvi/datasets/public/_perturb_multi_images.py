"""The images of Perturb-Multi, from tar files of single cells to one array."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.io import read_elem, write_elem
from rich.progress import Progress

from petri_scvi._constants import IMAGES_KEY
from petri_scvi.common import put_in_place
from petri_scvi.common._files import check_space, delete
from petri_scvi.datasets.cache._registry_public import PERTURB_MULTI_CHANNELS
from petri_scvi.datasets.cache._verify import CACHE_REMEDY, RECORD_SUFFIX, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ARRAY = "x"
"""Name of the image in the file of a cell."""
N_CHANNELS = len(PERTURB_MULTI_CHANNELS)


def read_members(path: Path) -> list[str]:
    """Cells of a tar file, by the names of its members, ``<cell>.npz``."""
    with tarfile.open(path, "r:") as archive:
        return [cell for member in archive if (cell := _cell_of(member)) is not None]


def write_images(
    path: Path, image: AnnData, tars: Mapping[str, Path], positions: Sequence[int], *, progress: bool
) -> None:
    """Write an ``.h5ad`` with the images of its cells in one piece, one tar file after the other.

    Copied tar files are recorded beside the file, which gets its final name when all are copied; an interrupted call
    resumes with the first one that was not.

    Parameters
    ----------
    path
        File to write.
    image
        Everything but the images.
    tars
        Tar files by their letters; together they have every cell once.
    positions
        Channels to keep.
    progress
        Show a progress bar.
    """
    partial, note = path.with_name(path.name + ".partial"), path.with_name(path.name + ".partial.json")
    identity = {
        "tars": list(tars),
        "positions": list(positions),
        "cells": zlib.crc32("\n".join(image.obs_names).encode()),
    }
    state = json.loads(note.read_text()) if note.is_file() and partial.is_file() else None
    if state is None or state["identity"] != identity:
        state = {"identity": identity, "done": [], **_lay_out(partial, image, next(iter(tars.values())), positions)}
        write_whole(note, state)
    images = np.memmap(partial, state["dtype"], "r+", offset=state["offset"], shape=tuple(state["shape"]))
    row_of = {cell: row for row, cell in enumerate(image.obs_names)}
    with Progress(disable=not progress) as bar:
        task = bar.add_task("Writing images", total=len(tars), completed=len(state["done"]))
        for name, tar in tars.items():
            if name in state["done"]:
                continue
            for cell, crop in _read_images(tar, row_of):
                images[row_of[cell]] = _as_stored(
                    crop[list(positions)], images.dtype, images.shape[1:], f"{tar}: {cell}"
                )
            images.flush()
            state["done"].append(name)
            write_whole(note, state)
            bar.advance(task)
    del images
    put_in_place(partial, path)
    delete(note)


def open_images(path: Path) -> AnnData:
    """Open a file that :func:`write_images` wrote; the images are mapped into memory, not read."""
    with h5py.File(path, "r") as file:
        obsm = {key: read_elem(element) for key, element in file["obsm"].items() if key != IMAGES_KEY}
        image = AnnData(obs=read_elem(file["obs"]), uns=read_elem(file["uns"]), obsm=obsm)
        stored = file["obsm"][IMAGES_KEY]
        place = {"dtype": stored.dtype, "offset": stored.id.get_offset(), "shape": stored.shape}
    image.obsm[IMAGES_KEY] = np.memmap(path, mode="r", **place)
    return image


def _lay_out(path: Path, image: AnnData, tar: Path, positions: Sequence[int]) -> dict[str, Any]:
    """Write everything but the images, and reserve space for them: size and type are those of the first."""
    wanted = dict.fromkeys(image.obs_names)
    _, crop = next(_read_images(tar, wanted), (None, None))
    if crop is None:
        raise ValueError(f"{tar} has no image of a cell with a guide and expression; leave this chunk out")
    dtype = np.dtype(np.uint16) if crop.dtype.kind == "f" else crop.dtype
    shape = (image.n_obs, len(positions), *crop.shape[1:])
    check_space(path.parent, int(np.prod(shape)) * dtype.itemsize, "The file of images", remedy=CACHE_REMEDY)
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        write_elem(file, "/", image)
        images = file["obsm"].create_dataset(IMAGES_KEY, shape, dtype)  # contiguous, so that it can be mapped
        images.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        images[-1] = 0  # HDF5 allocates the array when something is written
        return {"dtype": dtype.str, "shape": list(map(int, shape)), "offset": images.id.get_offset()}


def _read_images(tar: Path, wanted: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Images of the wanted cells, shape ``(C, H, W)``, all channels; one at a time in memory."""
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            cell = _cell_of(member)
            if cell is None or cell not in wanted:
                continue
            crop = _read_crop(archive, member, tar)
            if crop.ndim != 3 or len(crop) != N_CHANNELS:
                raise ValueError(f"{tar}: {member.name} has shape {crop.shape}; expected ({N_CHANNELS}, H, W)")
            yield cell, crop


def _read_crop(archive: tarfile.TarFile, member: tarfile.TarInfo, tar: Path) -> NDArray[Any]:
    """Image of one cell."""
    content = archive.extractfile(member)
    assert content is not None
    try:
        with np.load(io.BytesIO(content.read())) as arrays:
            if ARRAY not in arrays:
                raise KeyError(f"{tar}: {member.name} has the arrays {list(arrays)}; expected {ARRAY!r}")
            return arrays[ARRAY]
    except (tarfile.ReadError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{tar} is damaged at {member.name}; delete it and {tar.name}{RECORD_SUFFIX}") from error


def _as_stored(crop: NDArray[Any], dtype: np.dtype, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Floats from 0 to 1 as uint16, integers as they are."""
    if crop.shape != shape or (crop.dtype.kind != "f" and crop.dtype != dtype):
        raise ValueError(f"{where} is {crop.dtype} of shape {crop.shape}; images before it have {dtype}, {shape}")
    if crop.dtype.kind != "f":
        return crop
    if not (np.isfinite(crop).all() and crop.min() >= 0 and crop.max() <= 1):
        raise ValueError(f"{where} has values from {crop.min():.4g} to {crop.max():.4g}; expected 0 to 1")
    return np.rint(crop.astype(np.float64) * 65535).astype(np.uint16)


def _cell_of(member: tarfile.TarInfo) -> str | None:
    name = member.name.rsplit("/", 1)[-1]
    return name.removesuffix(".npz") if member.isfile() and name.endswith(".npz") else None
