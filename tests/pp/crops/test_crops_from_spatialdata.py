"""Crops of a SpatialData object: any resolution, offset and scale, joined with its table."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from packaging.version import Version
from scipy import ndimage

from petri_scvi import io, pp

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(zarr|Zarr|dask|Dask|xarray|Transformation|axes).*:UserWarning"),
]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Scale, Sequence, Translation

if Version(spatialdata.__version__) <= Version("0.7.3") and Version(version("anndata")) >= Version("0.13"):
    pytest.skip("spatialdata 0.7.3 cannot hold tables of anndata 0.13", allow_module_level=True)

IMAGES = "single_cell_images"
NAMES = ["dna", "actin", "er"]
SHAPE = (160, 200)
SIZE = 16


def draw() -> tuple[np.ndarray, np.ndarray]:
    """An image and labels with a gap in their numbers; some cells at the border."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (3, *SHAPE), dtype=np.uint16)
    labels = np.zeros(SHAPE, dtype=np.int32)
    for label in range(3, 63):
        row, column = rng.integers(0, SHAPE[0]), rng.integers(0, SHAPE[1])
        labels[max(0, row - 4) : row + 4, max(0, column - 3) : column + 5] = 2 * label
    return image, labels


def make_table(ids: Any, region: str = "cells") -> AnnData:
    obs = pd.DataFrame(
        {"region": pd.Categorical([region] * len(ids)), "instance": ids}, index=[f"cell{i}" for i in ids]
    )
    obs["perturbation"] = pd.Categorical(np.resize(["b", "a", "non-targeting"], len(ids)))
    table = AnnData(np.ones((len(ids), 2), dtype=np.float32), obs=obs)
    return TableModel.parse(table, region=region, region_key="region", instance_key="instance")


def make(
    *, image_to: Any = None, labels_to: Any = None, scales: Any = None, chunks: Any = (1, 64, 50), ids: Any = None
) -> Any:
    image, labels = draw()
    if image_to is not None:
        image_to = {"global": image_to}
    if labels_to is not None:
        labels_to = {"global": labels_to}
    return spatialdata.SpatialData(
        images={
            "stains": Image2DModel.parse(
                image,
                dims=("c", "y", "x"),
                c_coords=NAMES,
                transformations=image_to,
                scale_factors=scales,
                chunks=chunks,
            )
        },
        labels={
            "cells": Labels2DModel.parse(
                labels, dims=("y", "x"), transformations=labels_to, scale_factors=scales, chunks=chunks[1:]
            )
        },
        tables={"guides": make_table(np.unique(labels)[1:] if ids is None else ids)},
    )


def reference(image: np.ndarray, centre: np.ndarray, padding: str = "zero") -> np.ndarray:
    mode: Any = "constant" if padding == "zero" else "reflect"
    padded = np.pad(image, [(0, 0), (SIZE, SIZE), (SIZE, SIZE)], mode=mode)
    top, left = np.floor(np.asarray(centre) + 1e-6).astype(int) + SIZE - SIZE // 2
    return padded[:, top : top + SIZE, left : left + SIZE]


def centre_of(labels: np.ndarray, label: int) -> np.ndarray:
    return np.array(ndimage.center_of_mass(labels == label)) + 0.5


def cut(sdata: Any, **arguments: Any) -> AnnData:
    return pp.crops_from_spatialdata(
        sdata, **{"image": "stains", "labels": "cells", "table": "guides", "size": SIZE, "block_size": 64, **arguments}
    )


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("is_lazy", [True, False])
def test_every_cell_is_that_of_a_plain_cropper(padding: Any, is_lazy: bool) -> None:
    image, labels = draw()
    crops = cut(make(), padding=padding, lazy=is_lazy)
    assert crops.n_obs == len(np.unique(labels)) - 1
    stacked = np.asarray(crops.obsm[IMAGES])
    assert stacked.dtype == np.uint16
    assert crops.uns["channel_names"] == NAMES
    for i, cell in enumerate(crops.obs.itertuples()):
        assert cell.Index == f"cell{cell.label}"
        assert cell.label == cell.instance
        centre = centre_of(labels, cell.label)
        np.testing.assert_array_equal(stacked[i], reference(image, centre, padding))
        np.testing.assert_allclose(crops.obsm["spatial"][i], centre[::-1])
        outside = min(cell.crop_top, cell.crop_left) < 0
        outside |= cell.crop_top + SIZE > SHAPE[0] or cell.crop_left + SIZE > SHAPE[1]
        assert cell.is_border == outside
    assert 0 < crops.obs["is_border"].sum() < crops.n_obs


def test_channels_are_chosen_by_name_or_position_and_masks_applied() -> None:
    image, labels = draw()
    image[1, ::2] = 0
    sdata = make()
    sdata["stains"][1, ::2] = 0
    by_label = cut(sdata, channels=["er", 0], mask_by_label=True)
    by_channel = cut(sdata, channels=[2, "dna"], mask_channel="actin")
    assert by_label.uns["channel_names"] == by_channel.uns["channel_names"] == ["er", "dna"]
    for i, label in enumerate(by_label.obs["label"]):
        centre = centre_of(labels, label)
        whole, is_own = reference(image, centre), reference(labels[None], centre) == label
        np.testing.assert_array_equal(by_label.obsm[IMAGES][i], whole[[2, 0]] * is_own)
        np.testing.assert_array_equal(by_channel.obsm[IMAGES][i], whole[[2, 0]] * (whole[1] != 0))


@pytest.mark.parametrize(("scale", "labels_scale"), [("scale0", "scale1"), ("scale1", "scale0"), ("scale2", "scale1")])
def test_every_resolution_of_image_and_labels_can_be_used(scale: str, labels_scale: str) -> None:
    sdata = make(scales=[2, 2])
    image = np.asarray(sdata["stains"][scale].ds["image"].data)
    labels = np.asarray(sdata["cells"][labels_scale].ds["image"].data)
    ratio = image.shape[1] / labels.shape[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small cells vanish at low resolution
        crops = cut(sdata, scale=scale, labels_scale=labels_scale)
        masked = cut(sdata, scale=scale, labels_scale=labels_scale, mask_by_label=True)
    assert crops.n_obs > 20
    rows, columns = (np.floor((np.arange(n) + 0.5) / ratio).astype(int) for n in image.shape[1:])
    on_image = labels[rows[:, None], columns]
    for i, label in enumerate(crops.obs["label"]):
        centre = centre_of(labels, label) * ratio
        np.testing.assert_array_equal(crops.obsm[IMAGES][i], reference(image, centre))
        is_own = reference(on_image[None], centre) == label
        np.testing.assert_array_equal(masked.obsm[IMAGES][i], reference(image, centre) * is_own)
        np.testing.assert_allclose(crops.obsm["spatial"][i], centre[::-1] * SHAPE[1] / image.shape[2])


def test_image_and_labels_may_differ_in_scale_offset_and_mirroring() -> None:
    to_um = Sequence([Scale([0.5, 0.25], axes=("x", "y")), Translation([100, 50], axes=("x", "y"))])
    mirrored = Affine([[-0.5, 0, 90], [0, 0.25, 55], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    sdata = make(image_to=to_um, labels_to=mirrored)
    image, labels = draw()
    with pytest.raises(ValueError, match="no cell of labels\\['cells'\\] has its centre inside the image"):
        cut(sdata)
    moved = Affine([[-0.5, 0, 195], [0, 0.25, 55], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    with pytest.warns(UserWarning, match="their centre outside the image; they are left out") as caught:
        crops = cut(make(image_to=to_um, labels_to=moved))
    assert caught[-1].filename == __file__
    assert 0 < crops.n_obs < len(np.unique(labels)) - 1
    for i, label in enumerate(crops.obs["label"]):
        row, column = centre_of(labels, label)
        x, y = 195 - 0.5 * column, 55 + 0.25 * row
        np.testing.assert_allclose(crops.obsm["spatial"][i], [x, y])
        np.testing.assert_array_equal(crops.obsm[IMAGES][i], reference(image, np.array([(y - 50) * 4, (x - 100) * 2])))


def test_a_turn_that_both_share_does_not_matter_and_one_between_them_names_the_way_out() -> None:
    turn = Affine([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    image, labels = draw()
    crops = cut(make(image_to=turn, labels_to=turn))
    label = crops.obs["label"].iloc[7]
    np.testing.assert_array_equal(crops.obsm[IMAGES][7], reference(image, centre_of(labels, label)))
    sdata = make(image_to=turn)
    with pytest.raises(ValueError, match="rotated or sheared .* sdata.transform_element_to_coordinate_system"):
        cut(sdata)
    # The way out, as the message has it.
    sdata["flat"] = sdata.transform_element_to_coordinate_system("stains", "global")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cells beside the turned image
        flat = cut(sdata, image="flat")
    assert flat.n_obs > 20
    x, y = flat.obsm["spatial"][3]
    row, column = centre_of(labels, flat.obs["label"].iloc[3])
    np.testing.assert_allclose([x, y], [column, row])


def test_polygons_and_circles_mark_cells_too() -> None:
    from shapely import Point, Polygon

    image, _ = draw()
    corners = np.array([[20.0, 30.0], [100.0, 80.0], [3.0, 150.0]])
    polygons = [Polygon([(x - 3, y - 3), (x + 4, y - 3), (x + 4, y + 4), (x - 3, y + 4)]) for x, y in corners]
    import geopandas

    sdata = make()
    sdata["outlines"] = ShapesModel.parse(geopandas.GeoDataFrame({"geometry": polygons}, index=["a", "b", "c"]))
    points = geopandas.GeoDataFrame({"geometry": [Point(*xy) for xy in corners + 0.5], "radius": 3.0})
    sdata["spots"] = ShapesModel.parse(points)
    sdata["calls"] = make_table(["c", "a", "b"], "outlines")
    crops = cut(sdata, labels=None, shapes="outlines", table="calls")
    spots = cut(sdata, labels=None, shapes="spots", table=None)
    assert sorted(crops.obs["label"]) == ["a", "b", "c"]
    assert crops.obs_names.tolist() == [f"cell{name}" for name in crops.obs["label"]]
    for i, name in enumerate(crops.obs["label"]):
        x, y = corners["abc".index(name)] + 0.5
        np.testing.assert_array_equal(crops.obsm[IMAGES][i], reference(image, np.array([y, x])))
        np.testing.assert_array_equal(spots.obsm[IMAGES][i], crops.obsm[IMAGES][i])
    with pytest.raises(ValueError, match=r"spatialdata.rasterize\(.*return_regions_as_labels=True"):
        cut(sdata, labels=None, shapes="outlines", table="calls", mask_by_label=True)


@pytest.mark.parametrize("is_named", [False, True])
def test_points_at_the_centres_of_labels_give_their_crops(is_named: bool) -> None:
    _, labels = draw()
    ids = np.unique(labels)[1:]
    centres = np.array([centre_of(labels, label) for label in ids])
    table = pd.DataFrame({"x": centres[:, 1], "y": centres[:, 0]}, index=ids)
    sdata = make(image_to=Translation([30, -20], axes=("x", "y")), labels_to=Translation([30, -20], axes=("x", "y")))
    moved = {"global": Translation([30, -20], axes=("x", "y"))}
    if is_named:
        table = table.assign(cell=ids).reset_index(drop=True)
        sdata["spots"] = PointsModel.parse(table, instance_key="cell", transformations=moved)
    else:
        sdata["spots"] = PointsModel.parse(table, transformations=moved)
    sdata["calls"] = make_table(ids, "spots")
    expected = cut(sdata)
    crops = cut(sdata, labels=None, points="spots", table="calls")
    assert sorted(crops.obs_names) == sorted(expected.obs_names)
    order = crops.obs_names.get_indexer(expected.obs_names)
    np.testing.assert_array_equal(crops.obsm[IMAGES][order], expected.obsm[IMAGES])
    np.testing.assert_allclose(crops.obsm["spatial"][order], expected.obsm["spatial"])


def test_labels_that_mark_many_cells_each_are_refused() -> None:
    image, labels = draw()
    sdata = make()
    sdata["binary"] = Labels2DModel.parse(np.minimum(labels, 1), dims=("y", "x"), chunks=(64, 50))
    with pytest.raises(ValueError, match=r"labels\['binary'\] has only one label, 1, in \d+ separate pieces"):
        cut(sdata, labels="binary", table=None)


def test_cells_without_rows_and_rows_without_cells_are_counted_and_left_out() -> None:
    _, labels = draw()
    ids = np.unique(labels)[1:]
    sdata = make(ids=np.append(ids[4:], [1001, 1003]))
    with pytest.warns(UserWarning, match=r"4 of \d+ cells of labels\['cells'\] have no row .* 2 of \d+ rows") as caught:
        crops = cut(sdata)
    assert caught[-1].filename == __file__
    assert sorted(crops.obs["label"]) == sorted(ids[4:])
    with pytest.raises(ValueError, match="none of the"):
        cut(make(ids=[1001]))
    everything = cut(sdata, table=None)
    assert sorted(everything.obs_names) == sorted(f"cells:{label}" for label in ids)


def test_a_store_is_written_from_disk_block_by_block(tmp_path: Path) -> None:
    image, labels = draw()
    make(scales=[2]).write(tmp_path / "screen.zarr")
    crops = cut(tmp_path / "screen.zarr", lazy=True)
    assert len(crops.obsm[IMAGES].chunks[0]) > 4
    io.write_training_store({"image": crops}, tmp_path / "s.h5mu", progress=False, max_memory=4 * 20 * 1536)
    stored = io.open_screen(tmp_path / "s.h5mu")["image"]
    assert stored.n_obs == len(np.unique(labels)) - 1
    for i, label in enumerate(stored.obs["label"]):
        np.testing.assert_array_equal(stored.obsm[IMAGES][i], reference(image, centre_of(labels, label)))
    assert list(stored.uns["channel_names"]) == NAMES


def test_what_is_missing_is_named() -> None:
    sdata = make(scales=[2])
    with pytest.raises(KeyError, match=r"sdata.images has no 'dapi'. sdata has images: \['stains'\]"):
        cut(sdata, image="dapi")
    with pytest.raises(KeyError, match=r"scale='scale7' is not in .*, which has \['scale0', 'scale1'\]"):
        cut(sdata, scale="scale7")
    with pytest.raises(KeyError, match=r"coordinate_system='um', but in \['global'\]"):
        cut(sdata, coordinate_system="um")
    with pytest.raises(TypeError, match="sdata is a ndarray; expected a SpatialData object .*crops_from_fields"):
        cut(np.ones((3, 9, 9)))
    with pytest.raises(ValueError, match="labels_scale='scale1' applies to labels, but shapes='circles' are used"):
        cut(sdata, labels=None, shapes="circles", labels_scale="scale1")
    with pytest.raises(ValueError, match="name one of them: the labels, the shapes or the points"):
        cut(sdata, shapes="cells")
    with pytest.raises(ValueError, match="channel 'golgi' is not in images"):
        cut(sdata, channels=["golgi"])
    sdata["nuclei"] = sdata["cells"]
    with pytest.raises(ValueError, match=r"has no rows for 'nuclei'; obs\['region'\] has \['cells'\]"):
        cut(sdata, labels="nuclei")
    del sdata.tables["guides"].uns["spatialdata_attrs"]
    with pytest.raises(ValueError, match="TableModel.parse"):
        cut(sdata)


PEAK = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import petri_scvi as ps
import spatialdata

def status(entry):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(entry)).split()[1])

def run(image):
    crops = ps.pp.crops_from_spatialdata(
        sys.argv[1], image=image, labels=image + "_cells", size=32, block_size=512, lazy=True)
    crops.obs["perturbation"] = "a"
    ps.io.write_training_store(crops, sys.argv[2] + image + ".h5ad", progress=False, max_memory=2**23)
    return crops.n_obs

run("small")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
n = run("large")
print(json.dumps({"cells": n, "peak": status("VmHWM") - before}))
"""


@pytest.mark.slow
def test_memory_is_that_of_a_block_and_not_of_the_image_or_the_crops(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    images, labels = {}, {}
    for name, side in [("small", 512), ("large", 4096)]:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 2**16, (3, side, side), dtype=np.uint16)
        grid = np.arange((side // 64) ** 2, dtype=np.int32).reshape(side // 64, -1) + 1
        cells = np.kron(grid, np.pad(np.ones((32, 32), dtype=np.int32), 16))
        images[name] = Image2DModel.parse(image, dims=("c", "y", "x"), chunks=(1, 512, 512))
        labels[f"{name}_cells"] = Labels2DModel.parse(cells, dims=("y", "x"), chunks=(512, 512))
    spatialdata.SpatialData(images=images, labels=labels).write(tmp_path / "s.zarr")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "s.zarr"), str(tmp_path / "out")]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[-1])
    assert found["cells"] == 64**2
    n_bytes_of_image = 3 * 4096**2 * 2  # 101 MB; the crops are 25 MB
    assert found["peak"] < n_bytes_of_image / 3
    assert anndata.read_h5ad(tmp_path / "outlarge.h5ad", backed="r").n_obs == 64**2
