"""Cut crops around cells from an image that is read block by block.

This module works on arrays only; :func:`crops_from_spatialdata` and :func:`crops_from_fields` find images, labels and
tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from petri_scvi._checks import check_sizes
from petri_scvi.common._numbers import check_float32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Padding: TypeAlias = Literal["zero", "reflect"]
Span: TypeAlias = tuple[int, int]
"""First pixel and one past the last."""
MAX_JOB_BYTES = 2**26
"""Largest size of the crops that are cut together."""
TOLERANCE = 1e-6
"""Fraction of a pixel by which rounding in transforms may move a centre before the first edge of its pixel."""


class Planes(ABC):
    """An image whose pixels can be read in rectangles.

    Parameters
    ----------
    shape
        Channels, height and width.
    dtype
        Dtype of the pixels.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: Any) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("=")

    @abstractmethod
    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        """Pixels of a rectangle, shape ``(C, h, w)``."""


class ArrayPlanes(Planes):
    """Chosen channels of a numpy, dask or zarr array.

    Parameters
    ----------
    array
        Shape ``(C, height, width)``.
    positions
        Channels to read, in this order.
    where
        What error messages call the image.
    """

    def __init__(self, array: Any, positions: Sequence[int], where: str = "the image") -> None:
        check_pixels(array.shape, array.dtype, where)
        super().__init__((len(positions), *array.shape[1:]), array.dtype)
        self.array, self.where = array, where
        self.positions = list(positions)
        self.is_all = self.positions == list(range(array.shape[0]))

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        part = self.array[:, slice(*rows), slice(*columns)]
        pixels = to_numpy(part if self.is_all else part[self.positions])
        check_float32(pixels, self.where)
        return pixels


def to_numpy(part: Any) -> NDArray[Any]:
    """Pixels of a part of an array; dask arrays are computed in this thread, one chunk of the file at a time."""
    return np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "compute") else part)


@dataclass(frozen=True)
class Cutter:
    """Cuts crops from one image.

    The pixel that contains a centre becomes pixel ``(H // 2, W // 2)`` of the crop.
    """

    planes: Planes
    """Channels of the crops, followed by the mask channel if there is one."""
    centres: NDArray[np.int64]
    """Row and column of the central pixel of each crop, shape ``(n, 2)``; inside the image."""
    size: tuple[int, int]
    padding: Padding = "zero"
    has_mask_channel: bool = False
    labels: Planes | None = None
    """Labels of the pixels, shape ``(1, height, width)``; pixels of other cells are set to 0."""
    own_labels: NDArray[np.int64] | None = None
    """Label of each cell."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row and column of the first pixel of each crop, shape ``(n, 2)``; negative if outside the image."""
        return self._starts_of(self.centres)

    def _starts_of(self, centres: NDArray[np.int64]) -> NDArray[np.int64]:
        return centres - np.array(self.size) // 2

    @property
    def is_border(self) -> NDArray[np.bool_]:
        """Whether each crop extends beyond the image."""
        return self._leaves_image(self.starts)

    def _leaves_image(self, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(((starts < 0) | (starts + self.size > self.planes.shape[1:])).any(axis=1))

    @property
    def crop_shape(self) -> tuple[int, int, int]:
        return (self.planes.shape[0] - self.has_mask_channel, *self.size)

    def cut(self, cells: NDArray[np.integer], crops: NDArray[Any] | None = None) -> NDArray[Any]:
        """Crops of cells, shape ``(len(cells), C, H, W)``, written to ``crops`` if given.

        Only the smallest rectangle of the image that contains all of them is read.
        """
        if crops is None:
            crops = np.empty((len(cells), *self.crop_shape), dtype=self.planes.dtype)
        starts = self._starts_of(self.centres[cells])  # of these cells only: there may be millions
        rows, columns = (self._span(starts[:, axis], axis) for axis in (0, 1))
        planes = self.planes.read(rows, columns)  # (C, h, w)
        labels = None if self.labels is None else self.labels.read(rows, columns)
        corner = np.array([rows[0], columns[0]])
        n_channels = self.crop_shape[0]
        inside, own = ~self._leaves_image(starts), None if self.own_labels is None else self.own_labels[cells]
        for i, (crop, start) in enumerate(zip(crops, starts, strict=True)):
            window = self._window(planes, start, corner, is_inside=bool(inside[i]))
            crop[...] = window[:n_channels]
            if self.has_mask_channel:
                crop *= window[-1] != 0
            if labels is not None and own is not None:
                crop *= self._window(labels, start, corner, is_inside=bool(inside[i]))[0] == own[i]
        return crops

    def _window(
        self, planes: NDArray[Any], start: NDArray[np.int64], corner: NDArray[np.int64], *, is_inside: bool
    ) -> NDArray[Any]:
        """Pixels of one crop, padded beyond the image; shape ``(C, H, W)``."""
        (height, width), (top, left) = self.size, (start - corner).tolist()
        if is_inside:
            return planes[:, top : top + height, left : left + width]
        pixels = [self._padded(np.arange(start[axis], start[axis] + self.size[axis]), axis) for axis in (0, 1)]
        is_inside_image = [
            np.flatnonzero((found >= 0) & (found < length))
            for found, length in zip(pixels, self.planes.shape[1:], strict=True)
        ]
        rows, columns = (
            found[kept] - first for found, kept, first in zip(pixels, is_inside_image, corner, strict=True)
        )
        window = np.zeros((len(planes), height, width), dtype=planes.dtype)
        window[:, is_inside_image[0][:, None], is_inside_image[1]] = planes[:, rows[:, None], columns]
        return window

    def _span(self, starts: NDArray[np.int64], axis: int) -> Span:
        """Range of pixels along one axis that some crops need."""
        length = self.planes.shape[1 + axis]
        # Reflection takes pixels from elsewhere; for crops inside the image, the first and the last pixel suffice.
        leaving = (starts < 0) | (starts + self.size[axis] > length)
        pixels = np.unique(starts[leaving])[:, None] + np.arange(self.size[axis])
        needed = self._padded(pixels, axis) if self.padding == "reflect" else np.clip(pixels, 0, length - 1)
        ends = [needed.min(initial=length), starts[~leaving].min(initial=length)]
        lasts = [needed.max(initial=-1) + 1, (starts[~leaving] + self.size[axis]).max(initial=0)]
        return int(min(ends)), int(max(lasts))

    def _padded(self, pixels: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        """Pixels whose values are used: reflected into the image, or unchanged with zero padding."""
        length = self.planes.shape[1 + axis]
        if self.padding == "zero":
            return pixels
        if length == 1:
            return np.zeros_like(pixels)
        back = np.mod(pixels, 2 * (length - 1))  # the pixels at the ends are not repeated
        return np.where(back < length, back, 2 * (length - 1) - back)


def centre_pixels(centres: NDArray[np.floating]) -> NDArray[np.int64]:
    """Row and column of the pixels that contain the centres, which are in pixels; the first pixel spans 0 to 1."""
    return np.floor(centres + TOLERANCE).astype(np.int64)


def reading_jobs(
    centres: NDArray[np.int64], block: Span, crop_bytes: int, max_bytes: int = MAX_JOB_BYTES
) -> list[NDArray[np.integer]]:
    """Cells whose crops are cut together: by block, by row within a block, and at most ``max_bytes`` of crops.

    Parameters
    ----------
    centres
        Row and column of the central pixel of each crop.
    block
        Height and width of a block.
    crop_bytes
        Bytes of one crop.
    max_bytes
        Bytes of the crops of one job.
    """
    if not len(centres):
        return []
    (rows, columns), (block_rows, block_columns) = centres.T, (centres // np.array(block)).T
    order = np.lexsort((columns, rows, block_columns, block_rows))
    changes = np.diff(block_rows[order]).astype(bool) | np.diff(block_columns[order]).astype(bool)
    n_cells = max(1, max_bytes // crop_bytes)
    return [
        cells[start : start + n_cells]
        for cells in np.split(order, np.flatnonzero(changes) + 1)
        for start in range(0, len(cells), n_cells)
    ]


def block_shape(array: Any, block_size: int) -> Span:
    """Height and width of blocks: at least ``block_size``, rounded up to whole chunks of a dask array."""
    chunks = getattr(array, "chunks", None)
    sides = []
    for axis in (-2, -1):
        chunk = max(chunks[axis]) if chunks and not isinstance(chunks[axis], int) else 1
        sides.append(min(-(-block_size // chunk) * chunk, max(1, array.shape[axis])))
    return sides[0], sides[1]


def iterate_blocks(array: Any, block_size: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """First row, first column and pixels of each block of a two-dimensional array."""
    height, width = block_shape(array, block_size)
    for top in range(0, array.shape[0], height):
        for left in range(0, array.shape[1], width):
            yield top, left, to_numpy(array[top : top + height, left : left + width])


def check_pixels(shape: Sequence[int], dtype: Any, where: str) -> None:
    """Require an image with pixels that are integers or floats."""
    if 0 in shape:
        raise ValueError(f"{where} is empty: its shape is {tuple(shape)}. Leave it out.")
    if np.dtype(dtype).kind not in "uif":
        raise ValueError(
            f"{where} has dtype {dtype}; expected integers as captured (uint8, uint16) or floats. Convert it, for "
            "example with image.astype('uint16')."
        )


def read_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of crops."""
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"size={size!r}; pass one number or height and width, such as size=64 or size=(64, 48).")
    check_sizes(size=sides[0])
    check_sizes(size=sides[1])
    return int(sides[0]), int(sides[1])


def check_padding(padding: str) -> None:
    """Require a known padding."""
    if padding not in {"zero", "reflect"}:
        raise ValueError(f"padding={padding!r}; pass 'zero' or 'reflect'.")
