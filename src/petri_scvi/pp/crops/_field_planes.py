"""Pixels and labels of fields, in TIFF files or arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from petri_scvi._checks import require
from petri_scvi.common._numbers import check_float32
from petri_scvi.pp.crops._crop_windows import ArrayPlanes, Planes, check_pixels
from petri_scvi.pp.crops._label_centres import check_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from petri_scvi.pp.crops._crop_windows import Span

Pixels: TypeAlias = "str | os.PathLike[str] | NDArray[Any] | Sequence[str | os.PathLike[str]]"
"""A TIFF file, an array, or one TIFF file per channel."""


class TiffPlanes(Planes):
    """All channels of one field in TIFF files; every read decodes whole files."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.paths = list(paths)
        self.where = f"the image of fields[{name!r}]"
        heads = [_read_head(path) for path in self.paths]
        if len(set(heads)) > 1 or (len(heads) > 1 and len(heads[0][0]) > 2):
            raise ValueError(
                f"fields[{name!r}]: each of several files must hold one channel, all of the same shape and "
                f"dtype; found {heads}. Pass one file per channel, or one file with all channels."
            )
        shape, dtype = heads[0]
        check_pixels(shape, dtype, self.where)
        self.axis = _channel_axis(shape, name)
        if self.axis is None:
            shape = (len(self.paths), *shape)
        elif self.axis == 2:
            shape = (shape[2], *shape[:2])
        super().__init__((int(shape[0]), int(shape[1]), int(shape[2])), np.dtype(dtype))

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        read = [_read_tiff(path).squeeze() for path in self.paths]
        pixels = np.stack(read) if self.axis is None else np.moveaxis(read[0], self.axis, 0)
        check_float32(pixels, self.where)
        return pixels[:, slice(*rows), slice(*columns)].astype(self.dtype, copy=False)


class ChosenPlanes(Planes):
    """Some channels of a field."""

    def __init__(self, planes: Planes, positions: Sequence[int]) -> None:
        super().__init__((len(positions), *planes.shape[1:]), planes.dtype)
        self.planes, self.positions = planes, list(positions)

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        return self.planes.read(rows, columns)[self.positions]


class MaskPlanes(Planes):
    """Labels of one field."""

    def __init__(self, mask: Any, name: str, shape: tuple[int, int, int]) -> None:
        super().__init__((1, *shape[1:]), np.int64)
        self.mask, self.name = mask, name

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        return read_mask(self.mask, self.name, self.shape)[None, slice(*rows), slice(*columns)]


def open_image(image: Any, name: str) -> Planes:
    """Open the image of a field without reading the pixels of files."""
    paths = image if isinstance(image, list | tuple) else [image]
    if paths and all(isinstance(path, str | os.PathLike) for path in paths):
        return TiffPlanes([Path(path).expanduser() for path in paths], name)
    if not hasattr(image, "dtype"):
        raise TypeError(
            f"fields[{name!r}]: the image is a {type(image).__name__}; expected a TIFF file, a list of TIFF files with "
            "one channel each, or an array: numpy.asarray(image)."
        )
    where = f"the image of fields[{name!r}]"
    if isinstance(image, np.ndarray):
        check_float32(image, where)  # arrays that are not in memory are checked when they are read
    axis = _channel_axis(image.shape, name)
    array = image[None] if axis is None else np.moveaxis(image, axis, 0)
    return ArrayPlanes(array, range(array.shape[0]), where)


def _read_head(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape without axes of length 1, and dtype, without reading pixels."""
    with _open_tiff(path) as file:
        series = file.series[0]
        return tuple(n for n in series.shape if n > 1), str(series.dtype)


def _read_tiff(path: Path) -> NDArray[Any]:
    """All pixels of a file."""
    with _open_tiff(path) as file:
        return np.asarray(file.asarray())


def _open_tiff(path: Path) -> Any:
    """Open a TIFF file; errors name it."""
    tifffile = require("tifffile", "fields")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Correct the path of the file.")
    try:
        return tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise ValueError(f"{path} is not a TIFF file: {error}. Convert it, or pass its pixels as an array.") from error


def _channel_axis(shape: Sequence[int], name: str) -> int | None:
    """Axis of the channels: the last if it is the shortest, else the first; ``None`` if there is none."""
    if len(shape) == 2:
        return None
    if len(shape) != 3:
        raise ValueError(
            f"fields[{name!r}]: the image has shape {tuple(shape)}; expected (C, height, width), (height, width, C) or "
            "(height, width). Choose one plane of a stack, or project it."
        )
    return 2 if shape[2] < min(shape[:2]) else 0


def read_mask(mask: Any, name: str, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Labels of a field whose image has the shape ``(C, height, width)``."""
    is_file = isinstance(mask, str | os.PathLike)
    if not is_file and not hasattr(mask, "dtype"):
        raise TypeError(
            f"fields[{name!r}]: the mask is a {type(mask).__name__}; expected a TIFF file or an array: "
            "numpy.asarray(mask)."
        )
    labels = _read_tiff(Path(mask).expanduser()) if is_file else np.asarray(mask)
    if labels.shape != shape[1:]:
        raise ValueError(
            f"fields[{name!r}]: the mask has shape {labels.shape} and the image {shape} as (C, height, width). Both "
            "need the same height and width."
        )
    check_labels(labels, *mask_of(mask, name))
    return labels.astype(np.int64, copy=False)


def mask_of(mask: Any, name: str) -> tuple[str, str]:
    """What error messages call the mask of a field, and the code that gives its pixels."""
    is_file = isinstance(mask, str | os.PathLike)
    return f"the mask of fields[{name!r}]", f"tifffile.imread({os.fspath(mask)!r})" if is_file else "mask"
