"""Fields with label masks become crops, and a training store that never holds all of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from petri_scvi import io, pp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = "single_cell_images"
SIZE = 12
NAMES = ["dna", "actin", "er"]
Fields = dict[str, tuple[Any, Any]]


def make_field(seed: int, shape: tuple[int, int] = (60, 70)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 4096, (3, *shape), dtype=np.uint16)
    mask = np.zeros(shape, dtype=np.int32)
    for label in range(1, 13):
        row, column = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        mask[max(0, row - 3) : row + 4, max(0, column - 2) : column + 3] = label
    return image, mask


@pytest.fixture
def fields() -> Fields:
    return {"A1-0": make_field(0), "A1-1": make_field(1, (50, 80)), "B2-0": make_field(2)}


def make_table(fields: Fields) -> pd.DataFrame:
    rows = [(name, label) for name, (_, mask) in fields.items() for label in np.unique(mask)[1:]]
    table = pd.DataFrame(rows, columns=["field", "label"], index=[f"c{i}" for i in range(len(rows))])
    table["perturbation"] = pd.Categorical(np.resize(["b", "a", "non-targeting"], len(table)))
    return table.sample(frac=1, random_state=0)


def assert_right(crops: anndata.AnnData, fields: Fields, channels: tuple[int, ...] = (0, 1, 2)) -> None:
    """Each crop is what the whole padded field has around the centroid of the cell."""
    stacked = np.asarray(crops.obsm[IMAGES])
    for i, cell in enumerate(crops.obs.itertuples()):
        image, mask = fields[cell.field]
        centre = np.array(ndimage.center_of_mass(mask == cell.label)) + 0.5
        np.testing.assert_allclose(crops.obsm["spatial"][i], centre[::-1])
        padded = np.pad(image, [(0, 0), (SIZE, SIZE), (SIZE, SIZE)])
        top, left = np.floor(centre + 1e-6).astype(int) - SIZE // 2
        assert (cell.crop_top, cell.crop_left) == (top, left)
        expected = padded[list(channels), top + SIZE : top + 2 * SIZE, left + SIZE : left + 2 * SIZE]
        np.testing.assert_array_equal(stacked[i], expected)
        assert cell.is_border == (min(top, left) < 0 or top + SIZE > mask.shape[0] or left + SIZE > mask.shape[1])


def test_every_cell_of_every_field_is_cut_and_joined(fields: Fields) -> None:
    table = make_table(fields)
    crops = pp.crops_from_fields(fields, table=table, size=SIZE, channel_names=NAMES)
    assert sorted(crops.obs_names) == sorted(table.index)
    assert crops.obs["perturbation"].astype(str).to_dict() == table["perturbation"].astype(str).to_dict()
    assert crops.obsm[IMAGES].dtype == np.uint16
    assert crops.uns["channel_names"] == NAMES
    assert crops.obs["is_border"].any()
    assert not crops.obs["is_border"].all()
    assert_right(crops, fields)


def test_without_a_table_cells_are_named_by_field_and_label(fields: Fields) -> None:
    crops = pp.crops_from_fields(fields, size=SIZE, channels=["2", 0])
    assert crops.n_obs == sum(len(np.unique(mask)) - 1 for _, mask in fields.values())
    assert crops.obs_names.is_unique
    assert crops.obs_names[0] == f"{crops.obs['field'].iloc[0]}:{crops.obs['label'].iloc[0]}"
    assert crops.uns["channel_names"] == ["2", "0"]
    assert_right(crops, fields, (2, 0))


def test_only_the_cell_itself_is_kept_if_asked(fields: Fields) -> None:
    plain = pp.crops_from_fields(fields, size=SIZE)
    masked = pp.crops_from_fields(fields, size=SIZE, mask_by_label=True)
    for i, cell in enumerate(plain.obs.itertuples()):
        padded = np.pad(fields[cell.field][1], SIZE)
        top, left = cell.crop_top + SIZE, cell.crop_left + SIZE
        is_own = padded[top : top + SIZE, left : left + SIZE] == cell.label
        np.testing.assert_array_equal(masked.obsm[IMAGES][i], plain.obsm[IMAGES][i] * is_own)


def test_files_of_any_layout_are_the_same_as_arrays(fields: Fields, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    paths: dict[str, tuple[Any, Any]] = {}
    for name, (image, mask) in fields.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")
        tifffile.imwrite(tmp_path / f"{name}-last.tif", np.moveaxis(image, 0, -1), photometric="rgb")
        for i, plane in enumerate(image):
            tifffile.imwrite(tmp_path / f"{name}-c{i}.tif", plane[None])
        tifffile.imwrite(tmp_path / f"{name}-cells.tif", mask)
        paths[name] = (tmp_path / f"{name}.tif", tmp_path / f"{name}-cells.tif")
    paths["A1-1"] = (tmp_path / "A1-1-last.tif", paths["A1-1"][1])
    paths["B2-0"] = ([tmp_path / f"B2-0-c{i}.tif" for i in range(3)], paths["B2-0"][1])
    expected = pp.crops_from_fields(fields, size=SIZE, mask_channel=1)
    listed = pd.DataFrame(list(paths.values()), columns=["image", "mask"], index=list(paths))
    for source in (paths, listed):
        found = pp.crops_from_fields(source, size=SIZE, mask_channel=1)
        np.testing.assert_array_equal(found.obsm[IMAGES], expected.obsm[IMAGES])
        pd.testing.assert_frame_equal(found.obs, expected.obs)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pp.crops_from_fields({"A": (tmp_path / "nowhere.tif", paths["A1-0"][1])}, size=SIZE)


class Counted(np.ndarray):
    """An image that notes how often its pixels are asked for."""

    n_reads = 0

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 3 and isinstance(key[1], slice) and key[1] != slice(None):
            Counted.n_reads += 1
        return np.asarray(super().__getitem__(key))


def blocks_of(crops: anndata.AnnData) -> Iterator[int]:
    yield from crops.obsm[IMAGES].chunks[0]


def test_a_store_is_written_field_by_field(fields: Fields, tmp_path: Path) -> None:
    pytest.importorskip("dask.array")
    table = make_table(fields)
    counted: Fields = {name: (image.view(Counted), mask) for name, (image, mask) in fields.items()}
    crops = pp.crops_from_fields(counted, table=table, size=SIZE, channel_names=NAMES, lazy=True)
    assert list(blocks_of(crops)) == crops.obs["field"].value_counts(sort=False)[list(fields)].tolist()
    largest = max(blocks_of(crops)) * 3 * SIZE**2 * 2
    Counted.n_reads = 0
    # A block of the store takes one field, and not two: the memory of all crops is never asked for.
    io.write_training_store(crops, tmp_path / "s.h5ad", progress=False, max_memory=4 * int(largest * 1.3))
    assert Counted.n_reads == len(fields)
    stored = anndata.read_h5ad(tmp_path / "s.h5ad")
    assert stored.obs["perturbation"].astype(str).is_monotonic_increasing
    assert list(stored.uns["channel_names"]) == NAMES
    assert_right(stored, fields)


def test_cells_without_rows_and_rows_without_cells_are_counted_and_left_out(fields: Fields) -> None:
    table = make_table(fields)
    extra = table.iloc[:1].assign(label=99).rename(index={table.index[0]: "none"})
    with pytest.warns(
        UserWarning, match=r"5 of \d+ cells of fields have no row .* and 1 of \d+ rows of table"
    ) as caught:
        crops = pp.crops_from_fields(fields, table=pd.concat([table.iloc[5:], extra]), size=SIZE)
    assert caught[0].filename == __file__
    assert set(crops.obs_names) == set(table.index[5:])
    assert_right(crops, fields)


def test_what_the_table_says_twice_of_fields_that_are_not_cut_does_not_matter(fields: Fields) -> None:
    table = make_table(fields)
    others = table[table["field"] != "A1-0"]
    doubled = pd.concat([others, table, others])
    with pytest.warns(UserWarning, match=rf"{3 * len(others)} of {len(doubled)} rows of table have no cell in fields"):
        crops = pp.crops_from_fields({"A1-0": fields["A1-0"]}, table=doubled, size=SIZE)
    assert_right(crops, fields)
    assert crops.obs["perturbation"].astype(str).to_dict() == (
        table.loc[table["field"] == "A1-0", "perturbation"].astype(str).to_dict()
    )


def test_a_field_that_no_row_is_about_is_left_out(fields: Fields) -> None:
    table = make_table(fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        crops = pp.crops_from_fields(fields, table=table[table["field"] == "A1-1"], size=SIZE)
    assert set(crops.obs["field"]) == {"A1-1"}
    assert_right(crops, fields)


def test_what_does_not_fit_together_is_refused(fields: Fields, tmp_path: Path) -> None:
    image, mask = fields["A1-0"]
    table = make_table(fields)

    def cut(source: Any = fields, **arguments: Any) -> None:
        pp.crops_from_fields(source, **{"size": SIZE, **arguments})

    with pytest.raises(ValueError, match="Both need the same height"):
        cut({"A": (image, mask[:-1])})
    with pytest.raises(ValueError, match=r"scipy.ndimage.label\(mask\)"):
        cut({"A": (image, mask > 0.5)})
    with pytest.raises(ValueError, match="differ in channels or dtype"):
        cut({"A": (image, mask), "B": (image[:2], mask)})
    with pytest.raises(ValueError, match="Choose one plane of a stack, or"):
        cut({"A": (image[None], mask)})
    with pytest.raises(ValueError, match="the images have 3 channels"):
        cut(channel_names=["dna"])
    with pytest.raises(ValueError, match="all pixels of all masks are 0"):
        cut({"A": (image, 0 * mask)})
    with pytest.raises(ValueError, match="needs an image and a mask"):
        cut({})
    with pytest.raises(TypeError, match="fields is a list"):
        cut([(image, mask)])
    with pytest.raises(ValueError, match=r"fields=\['A'\]; each field needs an image and a mask"):
        cut({"A": image[:2]})  # not its first channel as image and its second as mask
    with pytest.raises(TypeError, match=r"fields\['A'\]: the image is a list; expected .* numpy.asarray\(image\)"):
        cut({"A": (image.tolist(), mask)})
    with pytest.raises(TypeError, match=r"fields\['A'\]: the image is a NoneType"):
        cut({"A": (None, mask)})
    with pytest.raises(TypeError, match=r"fields\['A'\]: the mask is a list; expected .* numpy.asarray\(mask\)"):
        cut({"A": (image, mask.tolist())})
    (tmp_path / "notes.tif").write_text("notes")
    with pytest.raises(ValueError, match="notes.tif is not a TIFF file: .*Convert it, or pass its pixels"):
        cut({"A": (tmp_path / "notes.tif", mask)})
    with pytest.raises(FileNotFoundError, match=r"nowhere.tif does not exist"):
        cut({"A": (image, tmp_path / "nowhere.tif")})
    with pytest.raises(TypeError, match="table is a dict; expected a DataFrame"):
        cut(table=table.to_dict())
    for flag in ("lazy", "mask_by_label"):
        with pytest.raises(ValueError, match=f"{flag}='no'; pass {flag}=True or {flag}=False"):
            cut(**{flag: "no"})
    with pytest.raises(KeyError, match=r"table has no columns \['well'\]"):
        cut(table=table, field_key="well")
    with pytest.raises(ValueError, match="none of the .* cells of fields is in table"):
        cut(table=table.assign(field="Z" + table["field"]))
    field, label = table.iloc[0][["field", "label"]]
    again = rf"table has several rows for 1 cells of fields, for example for \('{field}', {label}\)"
    with pytest.raises(ValueError, match=again):
        cut(table=pd.concat([table, table.iloc[[0, 0]]]))
    with pytest.raises(ValueError, match=r"has the columns \['is_border'\], which are added"):
        cut(table=table.assign(is_border=True))
    with pytest.raises(ValueError, match="padding='edge'; pass 'zero' or 'reflect'"):
        cut(padding="edge")
