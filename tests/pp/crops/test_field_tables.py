"""Centres in a table cut the crops that masks cut, and columns of a table name the files."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from petri_scvi import io, pp

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = "single_cell_images"
SIZE = 10
CORNERS = [(0, 0), (3, 20), (20, 6), (22, 24), (12, 34), (33, 12), (31, 35)]
CENTRES: Any = {"x_key": "Location_Center_X", "y_key": "Location_Center_Y", "field_key": "ImageNumber"}
Fields = dict[str, tuple[np.ndarray, np.ndarray]]


def draw_field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 44), dtype=np.int32)
    for label, (row, column) in enumerate(CORNERS, start=1):
        mask[row : row + rng.integers(3, 8), column : column + rng.integers(3, 8)] = label
    return rng.integers(0, 4096, (2, *mask.shape), dtype=np.uint16), mask


@pytest.fixture
def fields() -> Fields:
    return {name: draw_field(seed) for seed, name in enumerate(["1", "2", "3"])}


def measure(fields: Fields) -> pd.DataFrame:
    """One row per object, with the centroid of SciPy, which is that of CellProfiler."""
    rows = []
    for name, (_, mask) in fields.items():
        labels = np.unique(mask)[1:]
        for label, (y, x) in zip(labels, ndimage.center_of_mass(mask > 0, mask, labels), strict=True):
            rows.append((int(name), label, x, y))
    table = pd.DataFrame(rows, columns=["ImageNumber", "ObjectNumber", "Location_Center_X", "Location_Center_Y"])
    table["perturbation"] = pd.Categorical(np.resize(["b", "a", "non-targeting"], len(table)))
    return table.sample(frac=1, random_state=0)


def images_of(fields: Fields) -> dict[str, Any]:
    return {name: image for name, (image, _) in fields.items()}


@pytest.mark.parametrize("is_lazy", [False, True])
def test_measured_centres_give_the_crops_of_the_masks_they_were_measured_in(fields: Fields, is_lazy: bool) -> None:
    if is_lazy:
        pytest.importorskip("dask.array")
    table = measure(fields)
    by_mask = pp.crops_from_fields(fields, table=table, size=SIZE, field_key="ImageNumber", label_key="ObjectNumber")
    by_centre = pp.crops_from_fields(images_of(fields), table=table, size=SIZE, lazy=is_lazy, **CENTRES)
    assert by_centre.n_obs == len(table)
    found = by_centre.obs.loc[by_mask.obs_names]
    pd.testing.assert_frame_equal(found, by_mask.obs.drop(columns="label")[found.columns])
    order = by_centre.obs_names.get_indexer(by_mask.obs_names)
    np.testing.assert_array_equal(np.asarray(by_centre.obsm[IMAGES])[order], by_mask.obsm[IMAGES])
    np.testing.assert_allclose(by_centre.obsm["spatial"][order], by_mask.obsm["spatial"])


def test_whole_numbers_are_the_pixel_in_the_middle_of_the_crop(fields: Fields) -> None:
    image = fields["1"][0]
    table = pd.DataFrame({"field": ["1", "1"], "x": [7, 30], "y": [20, 11]}, index=["a", "b"])
    crops = pp.crops_from_fields({"1": image}, table=table, size=5, x_key="x", y_key="y")
    for name, (x, y) in {"a": (7, 20), "b": (30, 11)}.items():
        np.testing.assert_array_equal(crops[name].obsm[IMAGES][0, :, 2, 2], image[:, y, x])


def write_cellprofiler(fields: Fields, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables Image.csv and Nuclei.csv, and a file per channel in a folder per channel."""
    tifffile = pytest.importorskip("tifffile")
    rows = []
    for name, (image, mask) in fields.items():
        row: dict[str, Any] = {"ImageNumber": int(name), "mask": str(folder / f"{name}_cells.tif")}
        tifffile.imwrite(row["mask"], mask)
        for channel, plane in zip(["DNA", "ER"], image, strict=True):
            (folder / channel).mkdir(exist_ok=True)
            row |= {f"FileName_{channel}": f"{name}.tif", f"PathName_{channel}": str(folder / channel)}
            tifffile.imwrite(folder / channel / f"{name}.tif", plane)
        rows.append(row)
    return pd.DataFrame(rows), measure(fields)


def test_the_tables_of_cellprofiler_name_files_and_centres(fields: Fields, tmp_path: Path) -> None:
    images, nuclei = write_cellprofiler(fields, tmp_path)
    expected = pp.crops_from_fields(images_of(fields), table=nuclei, size=SIZE, **CENTRES)
    merged = nuclei.merge(images, on="ImageNumber").set_axis(nuclei.index)
    keys = ["FileName_DNA", "FileName_ER"]
    for source, table in [
        (images, nuclei),
        (merged, nuclei),
        (merged, merged),
        (images.set_index("ImageNumber"), nuclei),
    ]:
        found = pp.crops_from_fields(source, table=table, size=SIZE, file_keys=keys, **CENTRES)
        order = found.obs_names.get_indexer(expected.obs_names)
        np.testing.assert_array_equal(found.obsm[IMAGES][order], expected.obsm[IMAGES])
        assert found.uns["channel_names"] == ["DNA", "ER"]
    swapped = pp.crops_from_fields(images, table=nuclei, size=SIZE, file_keys=keys[::-1], channels=["DNA"], **CENTRES)
    order = swapped.obs_names.get_indexer(expected.obs_names)
    np.testing.assert_array_equal(swapped.obsm[IMAGES][order], expected.obsm[IMAGES][:, :1])


def test_columns_of_files_go_with_masks_too(fields: Fields, tmp_path: Path) -> None:
    images, nuclei = write_cellprofiler(fields, tmp_path)
    arguments: Any = {"size": SIZE, "field_key": "ImageNumber", "label_key": "ObjectNumber", "mask_by_label": True}
    expected = pp.crops_from_fields(fields, table=nuclei, **arguments)
    keys = [f"FileName_{channel}" for channel in ("DNA", "ER")]
    for source in (images, pd.concat([images, images])):
        found = pp.crops_from_fields(source, table=nuclei, file_keys=keys, **arguments)
        np.testing.assert_array_equal(found.obsm[IMAGES], expected.obsm[IMAGES])


def test_files_in_columns_without_folders_are_paths_and_the_home_folder_is_known(
    fields: Fields, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, nuclei = write_cellprofiler(fields, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    listed = pd.DataFrame({"dna": [f"~/DNA/{n}.tif" for n in images["ImageNumber"]]}, index=images["ImageNumber"])
    found = pp.crops_from_fields(listed, table=nuclei, size=SIZE, file_keys=["dna"], **CENTRES)
    expected = pp.crops_from_fields(images_of(fields), table=nuclei, size=SIZE, channels=[0], **CENTRES)
    np.testing.assert_array_equal(found.obsm[IMAGES], expected.obsm[IMAGES])
    assert found.uns["channel_names"] == ["dna"]
    masked = {str(n): (f"~/DNA/{n}.tif", f"~/{n}_cells.tif") for n in images["ImageNumber"]}
    assert pp.crops_from_fields(masked, size=SIZE).n_obs == found.n_obs


def test_a_store_of_centres_is_written(fields: Fields, tmp_path: Path) -> None:
    pytest.importorskip("dask.array")
    crops = pp.crops_from_fields(images_of(fields), table=measure(fields), size=SIZE, lazy=True, **CENTRES)
    io.write_training_store(crops, tmp_path / "s.h5ad", progress=False)
    stored = io.open_screen(tmp_path / "s.h5ad")
    order = crops.obs_names.get_indexer(stored.obs_names)
    np.testing.assert_array_equal(stored.obsm[IMAGES][:], np.asarray(crops.obsm[IMAGES])[order])


def test_rows_of_other_fields_and_outside_of_fields_are_counted_and_left_out(fields: Fields) -> None:
    table = measure(fields)
    table.loc[table.index[:2], "Location_Center_X"] = [-0.6, 43.6]
    n_others = int((table["ImageNumber"].iloc[2:] == 3).sum() + (table["ImageNumber"].iloc[:2] == 3).sum())
    n_outside = int((table["ImageNumber"].iloc[:2] != 3).sum())
    assert n_outside
    images = {name: image for name, image in images_of(fields).items() if name != "3"}
    with pytest.warns(
        UserWarning, match=f"{n_others} of 21 rows of table belong to other .* and {n_outside} of 21 rows .* outside"
    ) as caught:
        crops = pp.crops_from_fields(images, table=table, size=SIZE, **CENTRES)
    assert caught[0].filename == __file__
    assert crops.n_obs == len(table) - n_others - n_outside
    table.loc[table["ImageNumber"] == 3, "Location_Center_X"] = np.nan  # of no concern
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert pp.crops_from_fields(images, table=table, size=SIZE, **CENTRES).n_obs == crops.n_obs


def test_the_outermost_positions_are_inside(fields: Fields) -> None:
    table = pd.DataFrame({"field": "1", "x": [-0.5, 43.49], "y": [39.49, -0.5]}, index=["a", "b"])
    crops = pp.crops_from_fields({"1": fields["1"][0]}, table=table, size=4, x_key="x", y_key="y")
    assert crops.obs[["crop_top", "crop_left"]].to_numpy().tolist() == [[-2, 41], [37, -2]]


def test_what_does_not_fit_together_is_refused(fields: Fields, tmp_path: Path) -> None:
    table, images = measure(fields), images_of(fields)

    def cut(source: Any = images, **arguments: Any) -> None:
        pp.crops_from_fields(source, **{"size": SIZE, "table": table, **CENTRES, **arguments})

    with pytest.raises(ValueError, match="x_key='Location_Center_X' and y_key=None; pass both columns, or neither"):
        cut(y_key=None)
    with pytest.raises(ValueError, match="are columns of table, which is None. Pass table="):
        cut(table=None)
    with pytest.raises(ValueError, match="mask_by_label=True needs masks, but x_key and y_key replace them"):
        cut(mask_by_label=True)
    with pytest.raises(KeyError, match=r"table has no columns \['column'\].*Name another one with .*x_key or y_key"):
        cut(x_key="column")
    with pytest.raises(ValueError, match=r"x_key and y_key, a field is its image alone: \{name: image\}"):
        cut({"1": fields["1"]})
    with pytest.raises(ValueError, match=r"centres of the cells instead, name these columns with x_key and y_key"):
        cut(x_key=None, y_key=None)
    with pytest.raises(ValueError, match=r"dropna\(subset=\['Location_Center_X'\]\)"):
        cut(table=table.assign(Location_Center_X=table["Location_Center_X"].where(table["ObjectNumber"] > 1)))
    with pytest.raises(ValueError, match=r"dtype (object|str).*pandas.to_numeric\(table\['Location_Center_X'\]\)"):
        cut(table=table.assign(Location_Center_X=table["Location_Center_X"].astype(str)))
    with pytest.raises(
        ValueError, match="no row of table has its centre inside its field.*its field has 44 x 40 pixels"
    ):
        cut(table=table.assign(Location_Center_X=table["Location_Center_X"] * 1000 + 1000))
    with pytest.raises(
        ValueError, match=r"no row of table belongs to a field.* has for example \['\d', .* fields are .*'A'"
    ):
        cut({"A": images["1"]})
    with pytest.raises(ValueError, match="table has 1 rows with the field and centre of another row"):
        cut(table=pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match=r"has the columns \['label'\], which are added"):
        cut(table=table.assign(label=1), x_key=None, y_key=None, label_key="ObjectNumber")
    with pytest.raises(ValueError, match=r"table has several columns \['Location_Center_X'\]"):
        cut(table=pd.concat([table, table[["Location_Center_X"]]], axis=1))


def test_columns_of_files_that_cannot_be_read_are_refused(fields: Fields, tmp_path: Path) -> None:
    listed, nuclei = write_cellprofiler(fields, tmp_path)

    def cut(source: Any = listed, keys: Any = ("FileName_DNA",), **arguments: Any) -> None:
        pp.crops_from_fields(source, **{"size": SIZE, "table": nuclei, "file_keys": keys, **CENTRES, **arguments})

    with pytest.raises(TypeError, match="file_keys.* names columns, but fields is a dict. Pass the DataFrame"):
        cut(images_of(fields))
    with pytest.raises(ValueError, match="file_keys='FileName_DNA'; pass a list"):
        cut(keys="FileName_DNA")
    with pytest.raises(KeyError, match=r"fields has no columns \['FileName_RNA'\]; it has \['ImageNumber'"):
        cut(keys=["FileName_RNA"])
    with pytest.raises(ValueError, match=r"fields\['FileName_DNA'\] names no file in 1 of 3 rows. Drop these rows"):
        cut(listed.assign(FileName_DNA=listed["FileName_DNA"].where(listed["ImageNumber"] > 1)))
    with pytest.raises(ValueError, match="fields has several rows for '1' that name different files"):
        cut(listed.assign(ImageNumber=1))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cut(listed.assign(PathName_DNA=str(tmp_path / "nowhere")))
    with pytest.raises(
        KeyError, match=r"no columns \['image'\].*Name the files in them, or their columns with file_keys"
    ):
        cut(keys=None)


def test_pixels_that_cannot_become_crops_are_refused_by_field(fields: Fields) -> None:
    image, mask = fields["1"]
    for wrong, match in [
        (image.astype(complex), "fields\\['A'\\] has dtype complex128; expected integers as captured"),
        (image.astype(object), "fields\\['A'\\] has dtype object"),
        (image > 0, "fields\\['A'\\] has dtype bool.*image.astype\\('uint16'\\)"),
        (image[:0], "fields\\['A'\\] is empty: its shape is \\(0, 40, 44\\)"),
        (image * 1e36, "fields\\['A'\\] has \\d+ values that are too large for float32"),
    ]:
        with pytest.raises(ValueError, match=match):
            pp.crops_from_fields({"A": (wrong, mask)}, size=SIZE)
    assert pp.crops_from_fields({"A": (image * 1e30, mask)}, size=SIZE).obsm[IMAGES].dtype == np.float64
    assert pp.crops_from_fields({"A": ((image > 0).astype("uint16"), mask)}, size=SIZE).n_obs == 7


def test_a_file_of_pixels_too_large_for_float32_is_refused_when_it_is_cut(fields: Fields, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    image, mask = fields["1"]
    tifffile.imwrite(tmp_path / "a.tif", image * 1e36, photometric="minisblack")
    with pytest.raises(ValueError, match="fields\\['A'\\] has \\d+ values that are too large for float32"):
        pp.crops_from_fields({"A": (tmp_path / "a.tif", mask)}, size=SIZE)


def test_columns_that_files_cannot_hold_are_refused_before_a_mask_is_read(fields: Fields) -> None:
    table = measure(fields).assign(when=pd.Timestamp("2020-01-01"))
    unread: Any = {"1": (np.zeros((2, 40, 44), dtype=np.uint16), None)}  # would be refused, had it been looked at
    with pytest.raises(ValueError, match=r"table\['when'\] has dtype datetime64.*table\['when'\].map\(str, na_action"):
        pp.crops_from_fields(unread, table=table, size=SIZE, field_key="ImageNumber", label_key="ObjectNumber")
    table["when"] = table["when"].map(str, na_action="ignore").astype("category")
    assert "when" in pp.crops_from_fields(images_of(fields), table=table, size=SIZE, **CENTRES).obs
