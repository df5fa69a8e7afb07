"""Measurements are those of scikit-image, of a sample of cells, and follow what the cells were drawn with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest

from petri_scvi import tl
from petri_scvi.imaging import measure_crops

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

measure = pytest.importorskip("skimage.measure")

KEY = "single_cell_images"


def measured(data: Any, **changes: Any) -> pd.DataFrame:
    tl.image_features(data, **{"max_cells": 12, "n_jobs": 1, "progress": False, **changes})
    return (data["image"] if hasattr(data, "mod") else data).obsm["image_features"]


def test_a_sample_of_cells_is_measured_and_the_rest_is_nan(screen: MuData) -> None:
    table = measured(screen)
    assert list(table.index) == list(screen["image"].obs_names)
    is_measured = table.notna().any(axis=1)
    assert is_measured.sum() == 12
    assert table[is_measured].notna().mean().mean() > 0.95
    again, other = measured(screen), measured(screen, seed=1)
    pd.testing.assert_frame_equal(again, table)
    assert (other.notna().any(axis=1) != is_measured).any()
    few = screen["image"][:20].copy()
    assert measured(few, max_cells=None, channels=["actin"]).notna().any(axis=1).all()
    assert few.uns["petri_scvi"]["image_features"]["n_cells"] == 20


def test_measurements_of_a_drawn_square_are_known() -> None:
    images = np.zeros((1, 2, 32, 32), dtype=np.float32)
    images[0, 0, 8:20, 8:24] = 0.9
    images[0, 0, 25:27, 25:27] = 0.9
    images[0, 1] = 0.25
    values, names = measure_crops(images, ["a", "b"], None)
    found = dict(zip(names, values[0], strict=True))
    square = np.zeros((32, 32), dtype=int)
    square[8:20, 8:24] = 1
    expected = measure.regionprops_table(square, properties=("area", "perimeter", "eccentricity", "solidity"))
    for name, value in expected.items():
        assert found[f"{name}__a"] == pytest.approx(value[0])
    assert found["n_objects__a"] == 2
    assert found["intensity_mean__a"] == pytest.approx(0.9 * 196 / 1024)
    assert found["intensity_max__a"] == pytest.approx(0.9)
    # A top-hat of radius 2 keeps the small square whole, and of the large one nothing but three pixels per corner.
    assert found["granularity__a"] == pytest.approx(0.9 * (4 + 4 * 3) / 1024)
    assert found["intensity_std__b"] == found["n_objects__b"] == 0
    assert np.isnan([found["texture_contrast__b"], found["solidity__b"], found["pearson__a__b"]]).all()


def test_texture_tells_stripes_from_a_gradient_but_not_bright_from_dim() -> None:
    stripes = np.tile([0.0, 1.0], (16, 8)).astype(np.float32)
    gradient = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (16, 1))
    images = np.stack([stripes, gradient, 0.1 * gradient])[:, None]
    values, names = measure_crops(images, ["a"], None)
    table = pd.DataFrame(values, columns=names)
    assert table["texture_contrast__a"][0] > 20 * table["texture_contrast__a"][1]
    assert table["texture_homogeneity__a"][0] < table["texture_homogeneity__a"][1]
    texture = [name for name in names if name.startswith("texture")]
    np.testing.assert_allclose(table.loc[1, texture], table.loc[2, texture], rtol=1e-5)


def test_only_the_cell_is_measured_if_a_channel_shows_it() -> None:
    images = np.zeros((1, 2, 24, 24), dtype=np.float32)
    images[0, 0, 4:14, 4:14] = 1.0  # the cell
    images[0, 1, 4:14, 4:14] = np.linspace(0.2, 0.4, 100).reshape(10, 10)
    inside, names = measure_crops(images, ["cell", "stain"], 0)
    images[0, 1, 15:, 15:] = 1.0  # a neighbour
    again, _ = measure_crops(images, ["cell", "stain"], 0)
    stain = [i for i, name in enumerate(names) if name.endswith("__stain") and not name.startswith("granularity")]
    np.testing.assert_array_equal(again[0, stain], inside[0, stain])
    assert inside[0, names.index("intensity_mean__stain")] == pytest.approx(0.3)


def test_channels_are_measured_on_the_scale_of_all_cells(screen: MuData) -> None:
    table = measured(screen, channels=["actin", 0])
    assert {name.split("__")[1] for name in table if not name.startswith("pearson")} == {"actin", "nucleus"}
    assert "pearson__actin__nucleus" in table
    images = screen["image"].obsm[KEY][:, [4]].astype(np.float32)
    low, high = np.quantile(images, [0, 0.9999])
    row = int(np.flatnonzero(table.notna().any(axis=1))[0])
    expected = np.clip((images[row, 0] - low) / (high - low), 0, 1).mean()
    assert table["intensity_mean__actin"].iloc[row] == pytest.approx(expected, rel=1e-3)


def test_images_on_disk_and_in_an_anndata_give_the_same(
    make_screen: Callable[..., MuData], screen: MuData, tmp_path: Path
) -> None:
    expected = measured(screen)
    images = screen["image"].obsm[KEY]
    stored = np.memmap(tmp_path / "images", dtype=images.dtype, mode="w+", shape=images.shape)
    stored[:] = images
    image = make_screen()["image"].copy()
    image.obsm[KEY] = stored
    pd.testing.assert_frame_equal(measured(image), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_measurements_survive_a_file_even_if_channels_are_named_with_slashes(screen: MuData, tmp_path: Path) -> None:
    screen["image"].uns["channel_names"] = ["a/b", "c", "d", "e", "f"]
    expected = measured(screen)
    assert "area__a_b" in expected
    screen.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu")["image"].obsm["image_features"]
    np.testing.assert_array_equal(read.to_numpy(), expected.to_numpy())
    assert list(read.columns) == list(expected.columns)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": ["nowhere"]}, ValueError, "channel 'nowhere' is not in obsm.'single_cell_images'., which has"),
        ({"channels": ["actin", 4]}, ValueError, "names a channel twice.*Name each once"),
        ({"channels": "actin"}, ValueError, "channels='actin' is one string; pass a list, such as"),
        ({"channels": []}, ValueError, r"channels is empty; name at least one of"),
        ({"mask_channel": "nucleus", "channels": ["actin"]}, ValueError, "channel 'nucleus' is not in channels"),
        ({"max_cells": 0}, ValueError, "max_cells=0"),
        ({"modality": "microscope"}, KeyError, "modality='microscope' is not in mdata.mod"),
        ({"images_key": "crops"}, KeyError, "images_key='crops' is not in obsm"),
        ({"images_key": "true_morphology"}, ValueError, "expected four axes"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    screen: MuData, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measured(screen, **arguments)
    assert "image_features" not in screen["image"].obsm


def test_crops_with_nan_are_refused_whether_they_are_measured_or_give_the_range(screen: MuData) -> None:
    image = screen["image"]
    is_measured = measured(screen).notna().any(axis=1).to_numpy()
    images = image.obsm[KEY].astype(np.float32)
    images[np.flatnonzero(is_measured)[0], 0, 3, 3] = np.nan
    image.obsm[KEY] = images
    with pytest.raises(ValueError, match="'single_cell_images'. has NaN or infinite pixels in 1 of 12 cells. Drop"):
        measured(screen)
    images[is_measured] = 1
    images[~is_measured, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="range of intensities has NaN or infinite pixels in"):
        measured(screen)
    assert measured(screen, channels=["actin"]).notna().any(axis=None)  # a channel that is not asked for may have it


def test_without_scikit_image_the_extra_is_named(screen: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[images\]"'):
        measured(screen)


@pytest.mark.slow
def test_processes_measure_what_one_process_measures(screen: MuData) -> None:
    expected = measured(screen, max_cells=20).copy()
    pd.testing.assert_frame_equal(measured(screen, max_cells=20, n_jobs=2), expected)


@pytest.mark.slow
def test_features_follow_what_the_cells_were_drawn_with(make_screen: Callable[..., MuData]) -> None:
    mdata = make_screen(n_cells=400, image_size=32)
    table = measured(mdata, max_cells=200)
    is_measured = table.notna().any(axis=1)
    truth = mdata["image"].obsm["true_morphology"][is_measured]
    expected = {
        "area__nucleus": ("nucleus_size", 0.6),
        "area__cell_body": ("cell_size", 0.85),
        "eccentricity__actin": ("cell_elongation", 0.7),
        "granularity__lipid_droplets": ("droplet_number", 0.5),
        "intensity_mean__mitochondria": ("mitochondria_intensity", 0.6),
        "intensity_mean__actin": ("actin_rim", 0.7),
        "texture_homogeneity__nucleus": ("nucleus_texture", 0.4),
    }
    for feature, (name, least) in expected.items():
        found = truth.corrwith(table.loc[is_measured, feature], method="spearman")
        assert abs(found[name]) > least, feature
