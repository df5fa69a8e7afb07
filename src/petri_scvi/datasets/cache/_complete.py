"""Check whether a file is complete, as far as its format allows."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from typing import TYPE_CHECKING

import h5py

from petri_scvi._checks import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_BYTES = 2**20


def why_incomplete(path: Path, name: str) -> str:
    """What a file lacks, as part of a sentence; empty if it is complete, or if its format does not show that.

    Parameters
    ----------
    path
        The file.
    name
        Its name once it is complete, whose suffix is that of the format.
    """
    for suffix, check in CHECKS.items():
        if name.endswith(suffix):
            return check(path)
    return ""


def _hdf5(path: Path) -> str:
    """The HDF5 superblock states where the file ends."""
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        return str(error)
    return ""


def _tar(path: Path) -> str:
    """The header of each member states its length."""
    try:
        with tarfile.open(path, "r:") as archive:
            for _ in archive:
                pass
    except tarfile.ReadError as error:
        return str(error)
    return ""


def _gzip(path: Path) -> str:
    """The last bytes are the checksum and the length of the content."""
    try:
        with gzip.open(path) as file:
            while file.read(BLOCK_BYTES):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return str(error)
    return ""


def _tiff(path: Path) -> str:
    """The header of each page states where its pixels are."""
    tifffile = require("tifffile", "real")
    try:
        with tifffile.TiffFile(path) as file:
            ends = [
                start + length
                for page in file.pages
                for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
    except tifffile.TiffFileError as error:
        return str(error)
    return "" if ends and max(ends) <= path.stat().st_size else "pixels are missing at its end"


CHECKS: dict[str, Callable[[Path], str]] = {
    ".h5ad": _hdf5,
    ".tar": _tar,
    ".gz": _gzip,
    ".tif": _tiff,
    ".tiff": _tiff,
}
