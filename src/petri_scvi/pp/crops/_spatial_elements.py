"""Elements of a SpatialData object: their resolutions and axes, and how their pixels are aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from petri_scvi._checks import require
from petri_scvi.pp.crops._crop_windows import TOLERANCE, Planes, to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from petri_scvi.pp.crops._crop_windows import Span

AXES = ("y", "x")
ALIGNED = 1e-6
"""Largest rotation or shear of a transform, relative to its scale, that counts as none."""


class LabelPlanes(Planes):
    """Labels on the pixel grid of an image: each image pixel has the label at its middle.

    Parameters
    ----------
    labels
        Array of labels, shape ``(height, width)``.
    to_image
        Affine matrix from label pixels to image pixels, by row and column.
    shape
        Height and width of the image.
    """

    def __init__(self, labels: Any, to_image: NDArray[np.float64], shape: Sequence[int]) -> None:
        super().__init__((1, int(shape[0]), int(shape[1])), labels.dtype)
        self.labels = labels
        self.steps, self.offsets = np.diag(to_image)[:2], to_image[:2, 2]

    def read(self, rows: Span, columns: Span) -> NDArray[Any]:
        found = np.zeros((1, rows[1] - rows[0], columns[1] - columns[0]), dtype=self.dtype)
        (is_row, row), (is_column, column) = self._pixels(rows, 0), self._pixels(columns, 1)
        if len(row) and len(column):
            corner = row.min(), column.min()
            part = to_numpy(self.labels[corner[0] : row.max() + 1, corner[1] : column.max() + 1])
            if np.ptp(row) + 1 == len(row) and np.ptp(column) + 1 == len(column):  # one label pixel per image pixel
                part = part[:: 1 if self.steps[0] > 0 else -1, :: 1 if self.steps[1] > 0 else -1]
            else:
                part = part[(row - corner[0])[:, None], column - corner[1]]
            found[0, is_row[0] : is_row[-1] + 1, is_column[0] : is_column[-1] + 1] = part
        return found

    def _pixels(self, span: Span, axis: int) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """Pixels of a span that are covered by labels, and the label pixels that cover them."""
        middles = np.arange(*span) + 0.5
        pixels = np.floor((middles - self.offsets[axis]) / self.steps[axis] + TOLERANCE).astype(np.int64)
        inside = np.flatnonzero((pixels >= 0) & (pixels < self.labels.shape[axis]))
        return inside, pixels[inside]


def find_element(sdata: Any, kind: str, name: str) -> Any:
    """Element of a kind by name; the error lists the elements that exist."""
    elements = getattr(sdata, kind)
    if name not in elements:
        others = [
            f"{other}: {list(getattr(sdata, other))}" for other in ("images", "labels", "shapes", "points", "tables")
        ]
        raise KeyError(f"sdata.{kind} has no {name!r}. sdata has {'; '.join(others)}.")
    return elements[name]


def raster_at(element: Any, scale: str, where: str, axes: Sequence[str]) -> Any:
    """The ``DataArray`` of an image or labels at one resolution."""
    is_multiscale = hasattr(element, "children")
    scales = list(element.children) if is_multiscale else ["scale0"]
    if scale not in scales:
        raise KeyError(f"scale={scale!r} is not in {where}, which has {scales}.")
    array = next(iter(element[scale].ds.data_vars.values())) if is_multiscale else element
    if tuple(array.dims) != tuple(axes):
        raise ValueError(
            f"{where} has axes {array.dims}; expected {tuple(axes)}. Reduce a stack to one plane or a projection first "
            "with, for example, element.max('z'), and parse it with spatialdata.models.Image2DModel or Labels2DModel."
        )
    return array


def channel_labels(image: Any) -> list[str]:
    """Names of the channels, or their positions if they have none."""
    return (
        [str(name) for name in image.coords["c"].values] if "c" in image.coords else list(map(str, range(len(image))))
    )


def matrix_to(element: Any, coordinate_system: str, where: str) -> NDArray[np.float64]:
    """Affine matrix, shape ``(3, 3)``, from row and column of an element to y and x of a coordinate system."""
    transformations = require("spatialdata.transformations", "spatial")
    known = transformations.get_transformation(element, get_all=True)
    if coordinate_system not in known:
        raise KeyError(
            f"{where} is not in coordinate_system={coordinate_system!r}, but in {list(known)}. Pass a system that "
            "image and cells share, or add one with spatialdata.transformations.set_transformation."
        )
    return np.asarray(known[coordinate_system].to_affine_matrix(input_axes=AXES, output_axes=AXES), dtype=np.float64)


def affine_between(cells: Any, image: Any, coordinate_system: str, where: str, where_image: str) -> NDArray[np.float64]:
    """Affine matrix from rows and columns of labels or shapes to those of the image, shape ``(3, 3)``."""
    to_system = matrix_to(cells, coordinate_system, where)
    from_image = matrix_to(image, coordinate_system, where_image)
    if abs(np.linalg.det(from_image[:2, :2])) == 0:
        raise ValueError(
            f"the transformation of {where_image} to {coordinate_system!r} is not invertible: {from_image.tolist()}. "
            "Replace it with spatialdata.transformations.set_transformation."
        )
    return np.asarray(np.linalg.solve(from_image, to_system), dtype=np.float64)


def check_axis_aligned(to_image: NDArray[np.float64], where: str, image: str, coordinate_system: str) -> None:
    """Require that cells and image are neither rotated nor sheared relative to each other."""
    steps = np.abs(np.diag(to_image)[:2])
    rotation = np.abs([to_image[0, 1], to_image[1, 0]])
    if rotation.max() > ALIGNED * steps.min() or steps.min() == 0:
        raise ValueError(
            f"{where} and images[{image!r}] are rotated or sheared relative to each other in {coordinate_system!r}: "
            f"the matrix from one to the other is {to_image[:2].round(4).tolist()}. Resample them to one grid first "
            f"with element = sdata.transform_element_to_coordinate_system(name, {coordinate_system!r}) or "
            "spatialdata.rasterize(...), add the results to sdata under new names, and pass these names."
        )
