"""Alignment of the pixels of labels with those of an image, as far as it can be tested without spatialdata."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import pp
from petri_scvi.pp.crops._crops_from_spatialdata import _point_centres
from petri_scvi.pp.crops._spatial_elements import LabelPlanes, check_axis_aligned, raster_at

LABELS = np.arange(1, 12 * 9 + 1, dtype=np.uint16).reshape(12, 9)


@pytest.mark.parametrize("steps", [(1, 1), (2, 3), (0.5, 0.5), (-1, 1), (-2, -0.5), (1, 1.5)])
@pytest.mark.parametrize("offsets", [(0, 0), (3, -2), (0.5, 7.25)])
def test_an_image_pixel_has_the_label_that_its_middle_lies_on(
    steps: tuple[float, float], offsets: tuple[float, float]
) -> None:
    shift = [
        offset + (length * -step if step < 0 else 0)
        for offset, length, step in zip(offsets, (12, 9), steps, strict=True)
    ]
    to_image = np.array([[steps[0], 0, shift[0]], [0, steps[1], shift[1]], [0, 0, 1]], dtype=float)
    planes = LabelPlanes(LABELS, to_image, (14, 20))
    expected = np.zeros((14, 20), dtype=np.uint16)
    for row in range(14):
        for column in range(20):
            y, x, _ = np.linalg.solve(to_image, [row + 0.5, column + 0.5, 1])
            if 0 <= y + 1e-6 < 12 and 0 <= x + 1e-6 < 9:
                expected[row, column] = LABELS[int(y + 1e-6), int(x + 1e-6)]
    assert expected.any()
    np.testing.assert_array_equal(planes.read((0, 14), (0, 20))[0], expected)
    np.testing.assert_array_equal(planes.read((3, 9), (5, 20))[0], expected[3:9, 5:20])


@pytest.mark.parametrize("matrix", [[[0, 1], [1, 0]], [[1, 0.01], [0, 1]], [[0.8, -0.6], [0.6, 0.8]], [[0, 0], [0, 1]]])
def test_a_rotation_or_shear_names_the_way_out(matrix: list[list[float]]) -> None:
    to_image = np.eye(3)
    to_image[:2, :2] = matrix
    with pytest.raises(ValueError, match=r"element = sdata.transform_element_to_coordinate_system\(name, 'global'\)"):
        check_axis_aligned(to_image, "labels['cells']", "stains", "global")


def test_mirrors_scales_and_rounding_are_no_rotation() -> None:
    check_axis_aligned(np.array([[-0.5, 1e-12, 3], [1e-12, 2, 4], [0, 0, 1]]), "labels", "stains", "global")


def test_a_stack_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"Reduce a stack to one plane or a projection first"):
        raster_at(SimpleNamespace(dims=("c", "z", "y", "x")), "scale0", "images['stains']", ("c", "y", "x"))


def test_what_is_missing_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"image": "stains", "size": 8}
    with pytest.raises(
        ValueError,
        match="labels=None, shapes=None, points=None; name one of them: the labels, the shapes or the points",
    ):
        pp.crops_from_spatialdata("slide.zarr", **arguments)
    with pytest.raises(ValueError, match="padding='wrap'"):
        pp.crops_from_spatialdata("slide.zarr", labels="cells", padding="wrap", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="block_size=0; it must be at least 1"):
        pp.crops_from_spatialdata("slide.zarr", labels="cells", block_size=0, **arguments)
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[spatial\]"'):
        pp.crops_from_spatialdata("slide.zarr", labels="cells", **arguments)


class Points:
    """As far as points of a SpatialData object are used: a dask table, and in attrs who they are."""

    def __init__(self, table: pd.DataFrame, **attributes: str) -> None:
        self.table = table
        self.attrs = {"spatialdata_attrs": attributes} if attributes else {}

    def __getitem__(self, columns: list[str]) -> SimpleNamespace:
        return SimpleNamespace(compute=lambda: self.table[columns])


def test_points_are_the_centres_of_cells() -> None:
    table = pd.DataFrame({"x": [3.0, 4.5], "y": [1.25, 9.0], "gene": ["a", "b"], "cell": [17, 12]}, index=[5, 8])
    names, centres = _point_centres(Points(table), "points['cells']")
    assert names.tolist() == [5, 8]
    assert centres.tolist() == [[1.25, 3.0], [9.0, 4.5]]
    named, same = _point_centres(Points(table, feature_key="gene", instance_key="cell"), "points['cells']")
    assert named.tolist() == [17, 12]
    assert same.tolist() == centres.tolist()


def test_points_without_a_name_or_a_place_are_refused() -> None:
    table = pd.DataFrame({"x": [3.0, np.nan], "y": [1.25, 9.0], "cell": [17, 17]}, index=[5, 5])
    with pytest.raises(ValueError, match=r"the index of points\['cells'\] names 1 points like another one"):
        _point_centres(Points(table), "points['cells']")
    with pytest.raises(ValueError, match=r"the column 'cell' of points\['cells'\] names 1 points"):
        _point_centres(Points(table.reset_index(drop=True), instance_key="cell"), "points['cells']")
    with pytest.raises(
        ValueError, match=r"points without a position. Drop them with points.dropna\(subset=\['x', 'y'\]\)"
    ):
        _point_centres(Points(table.reset_index(drop=True)), "points['cells']")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"labels": "cells", "points": "spots"}, "labels='cells', shapes=None, points='spots'; name one of them"),
        ({"points": "spots", "mask_by_label": True}, "mask_by_label=True needs labels: points have no pixels"),
        ({"points": "spots", "labels_scale": "scale1"}, "applies to labels, but points='spots' are used"),
    ],
)
def test_points_have_no_pixels(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pp.crops_from_spatialdata("slide.zarr", image="stains", size=8, **arguments)
