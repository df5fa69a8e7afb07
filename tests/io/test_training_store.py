"""A training store holds the cells of its source, all of them, in the promised order and layout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from petri_scvi import PETRI, io
from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.dataloaders import open_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Makers = dict[str, Callable[..., Any]]

IMAGES = "single_cell_images"


def write(source: Any, path: Path, **arguments: Any) -> Any:
    io.write_training_store(source, path, **{"progress": False, **arguments})
    read = anndata.read_h5ad if path.suffix == ".h5ad" else mudata.read_h5mu
    return read(path)


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def assert_same_cells(stored: AnnData, source: AnnData, rows: Any = None) -> None:
    """Each row of the store is the row of the source that it says it is, and no row is missing."""
    rows = stored.obs["source_row"].to_numpy() if rows is None else rows
    assert sorted(rows) == list(range(source.n_obs))
    assert stored.obs_names.tolist() == source.obs_names[rows].tolist()
    for column in source.obs:
        assert stored.obs[column].tolist() == source.obs[column].iloc[rows].tolist()
    assert (stored.X is None) == (source.X is None)
    if source.X is not None:
        np.testing.assert_array_equal(dense(stored.X), dense(source.X)[rows])
    assert set(stored.layers) == set(source.layers)
    for name in source.layers:
        if name is not None:
            np.testing.assert_array_equal(dense(stored.layers[name]), dense(source.layers[name])[rows])
    assert set(stored.obsm) == set(source.obsm)
    for name in source.obsm:
        np.testing.assert_array_equal(np.asarray(stored.obsm[name]), np.asarray(source.obsm[name])[rows])
    pd.testing.assert_frame_equal(stored.var, source.var, check_names=False)


# What is in the file


def test_the_file_is_an_ordinary_h5mu_with_all_cells(mdata: MuData, tmp_path: Path) -> None:
    stored = write(mdata, tmp_path / "screen.h5mu")
    for name in mdata.mod:
        assert_same_cells(stored[name], mdata[name])
    assert stored.uns["screen"] == "tiny"
    assert stored["image"].uns["channel_names"].tolist() == ["dna", "actin", "er"]
    assert list(tmp_path.iterdir()) == [tmp_path / "screen.h5mu"]


def test_cells_are_sorted_by_context_and_shuffled_inside(image: AnnData, tmp_path: Path) -> None:
    orders: list[list[int]] = []
    for seed in (0, 0, 1):
        path = tmp_path / f"{len(orders)}.h5ad"
        obs = write(image, path, seed=seed).obs
        assert obs["perturbation"].astype(str).is_monotonic_increasing
        orders.append(obs["source_row"].tolist())
        of_b = obs.loc[obs["perturbation"] == "b", "source_row"]
        assert not of_b.is_monotonic_increasing
    assert orders[0] == orders[1] != orders[2]


def test_several_columns_define_a_context(rna: AnnData, tmp_path: Path) -> None:
    obs = write(rna, tmp_path / "s.h5ad", context_key=["well", "perturbation"]).obs
    pairs = list(zip(obs["well"].astype(str), obs["perturbation"].astype(str), strict=True))
    assert pairs == sorted(pairs)


def test_images_are_contiguous_integers_and_counts_are_csr(mdata: MuData, tmp_path: Path) -> None:
    mdata["rna"].X = mdata["rna"].X.toarray()
    mdata["rna"].layers["counts"] = mdata["rna"].layers["counts"].tocsc()
    write(mdata, tmp_path / "s.h5mu")
    with h5py.File(tmp_path / "s.h5mu") as file:
        images = file[f"mod/image/obsm/{IMAGES}"]
        assert (images.chunks, images.compression, images.dtype) == (None, None, np.uint16)
        assert images.id.get_offset() is not None
        for matrix in (file["mod/rna/X"], file["mod/rna/layers/counts"]):
            assert matrix.attrs["encoding-type"] == "csr_matrix"
            assert matrix["indices"].dtype == np.int32
            assert all(matrix[part].id.get_offset() is not None for part in ("data", "indices", "indptr"))


def test_petri_maps_the_images_and_sees_what_it_sees_in_memory(
    make_screen: Callable[..., MuData], tiny: dict[str, Any], tmp_path: Path
) -> None:
    screen = make_screen()
    io.write_training_store(screen, tmp_path / "s.h5mu", progress=False)
    opened = io.open_screen(tmp_path / "s.h5mu")
    PETRI.setup_mudata(opened)
    model = PETRI(opened, **tiny)
    readers = model._readers(model.adata_manager)
    assert isinstance(readers["image"].array, np.memmap)
    assert readers["image"].array.filename == str(tmp_path / "s.h5mu")
    for name, values in [("image", screen["image"].obsm[IMAGES]), ("rna", dense(screen["rna"].X))]:
        rows = opened[name].obs["source_row"].to_numpy()
        np.testing.assert_array_equal(readers[name].read(np.arange(len(rows))), values[rows])


# What it is made from


@pytest.mark.parametrize("max_memory", [2**30, 4000])
@pytest.mark.parametrize("kind", ["in memory", "path", "opened", "backed"])
def test_an_anndata_may_lie_anywhere(rna: AnnData, tmp_path: Path, kind: str, max_memory: int) -> None:
    path = tmp_path / "rna.h5ad"
    rna.write_h5ad(path)
    opened: dict[str, Callable[[], Any]] = {
        "in memory": lambda: rna,
        "path": lambda: path,
        "opened": lambda: io.open_screen(path),
        "backed": lambda: anndata.read_h5ad(path, backed="r"),
    }
    assert_same_cells(write(opened[kind](), tmp_path / "s.h5ad", max_memory=max_memory), rna)


def test_backed_tables_without_expression_are_stored(mdata: MuData, image: AnnData, tmp_path: Path) -> None:
    mdata.write_h5mu(tmp_path / "source.h5mu")
    stored = write(mudata.read_h5mu(tmp_path / "source.h5mu", backed="r"), tmp_path / "s.h5mu")
    for name in mdata.mod:
        assert_same_cells(stored[name], mdata[name])
    image.write_h5ad(tmp_path / "source.h5ad")
    assert_same_cells(write(anndata.read_h5ad(tmp_path / "source.h5ad", backed="r"), tmp_path / "s.h5ad"), image)


@pytest.mark.parametrize("layout", [{}, {"chunks": (7, 3, 4, 5), "compression": "gzip"}, {"chunks": (1, 1, 4, 5)}])
def test_images_on_disk_may_have_any_layout(image: AnnData, tmp_path: Path, layout: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        stored = file.create_dataset("images", data=image.obsm[IMAGES], **layout)
        other = AnnData(obs=image.obs, uns=image.uns, obsm={**image.obsm, IMAGES: stored})
        assert_same_cells(write(other, tmp_path / "s.h5ad", max_memory=4 * 9 * 120), image)


@pytest.mark.parametrize("name", ["zarr", "dask.array"])
def test_images_may_lie_in_zarr_or_dask(image: AnnData, tmp_path: Path, name: str) -> None:
    library = pytest.importorskip(name)
    chunks = (7, 3, 4, 5)
    if name == "zarr":
        array = library.create_array(tmp_path / "z", data=image.obsm[IMAGES], chunks=chunks)
    else:
        array = library.from_array(image.obsm[IMAGES], chunks=chunks)
    other = AnnData(obs=image.obs, uns=image.uns, obsm={**image.obsm, IMAGES: array})
    assert_same_cells(write(other, tmp_path / "s.h5ad", max_memory=4 * 9 * 120), image)


def test_a_mapping_makes_an_h5mu_of_files_and_names_cells_apart(make: Makers, tmp_path: Path) -> None:
    image, rna = make["image"](prefix=""), make["rna"](prefix="")
    rna.write_h5ad(tmp_path / "rna.h5ad")
    stored = write({"image": image, "rna": tmp_path / "rna.h5ad"}, tmp_path / "s.h5mu")
    rows = stored["image"].obs["source_row"]
    assert stored["image"].obs_names.tolist() == [f"image:{row}" for row in rows]
    assert stored.n_obs == image.n_obs + rna.n_obs
    np.testing.assert_array_equal(stored["image"].obsm[IMAGES], image.obsm[IMAGES][rows])


def test_several_files_become_one_screen(make: Makers, tmp_path: Path) -> None:
    parts = {"plate1": make["mdata"](11, 12), "plate2": make["mdata"](13, 9)}
    parts["plate2"]["image"].obsm[IMAGES] += 300
    for name, part in parts.items():
        part.write_h5mu(tmp_path / f"{name}.h5mu")
    stored = write([tmp_path / f"{name}.h5mu" for name in parts], tmp_path / "s.h5mu", max_memory=2000)
    assert (stored["image"].n_obs, stored["rna"].n_obs) == (24, 21)
    assert stored["image"].obs["perturbation"].astype(str).is_monotonic_increasing
    for name, part in parts.items():
        for modality in part.mod:
            from_part = stored[modality].obs["source"] == name
            found = stored[modality][from_part.to_numpy()].copy()
            found.obs_names = [cell.removeprefix(f"{name}:") for cell in found.obs_names]
            assert_same_cells(found, part[modality])


def test_paired_cells_keep_their_common_names(make: Makers, tmp_path: Path) -> None:
    with columns_stay_in_modalities():
        mdata = MuData({"image": make["image"](20, "c"), "rna": make["rna"](20, "c")})
    stored = write(mdata, tmp_path / "s.h5mu")
    assert stored.n_obs == 20
    assert_same_cells(stored["rna"], mdata["rna"])


def test_tables_in_obsm_keep_to_their_cells(image: AnnData, tmp_path: Path) -> None:
    image.obsm["shape"] = pd.DataFrame({"area": np.arange(40.0), "kind": "round"}, index=image.obs_names)
    stored = write(image, tmp_path / "s.h5ad")
    assert stored.obsm["shape"]["area"].tolist() == stored.obs["source_row"].tolist()


def test_a_store_is_a_source_and_its_records_do_not_pile_up(image: AnnData, tmp_path: Path) -> None:
    first = write(image, tmp_path / "a.h5ad")
    again = write(tmp_path / "a.h5ad", tmp_path / "b.h5ad", seed=3)
    assert len(again.uns["petri_scvi"]["training_store"]["checksums"]) == 2
    rows = again.obs["source_row"]
    np.testing.assert_array_equal(again.obsm[IMAGES], first.obsm[IMAGES][rows])


def test_a_store_of_several_modalities_is_a_source(mdata: MuData, tmp_path: Path) -> None:
    first = write(mdata, tmp_path / "a.h5mu")
    again = write(tmp_path / "a.h5mu", tmp_path / "b.h5mu", seed=3)
    rows = again["image"].obs["source_row"]
    np.testing.assert_array_equal(again["image"].obsm[IMAGES], first["image"].obsm[IMAGES][rows])


def test_empty_rows_and_no_counts_at_all_are_stored(rna: AnnData, tmp_path: Path) -> None:
    empty = sparse.csr_matrix(rna.shape, dtype="float32")
    some = rna.X.toarray()
    some[::2] = 0
    rna.X, rna.layers["counts"] = sparse.csr_matrix(some), empty
    assert_same_cells(write(rna, tmp_path / "s.h5ad"), rna)
    io.verify_training_store(tmp_path / "s.h5ad", progress=False)


def test_what_cannot_be_kept_is_named(rna: AnnData, tmp_path: Path) -> None:
    rna.raw = rna.copy()
    rna.obsp["distances"] = sparse.eye_array(30, format="csr")
    with pytest.warns(UserWarning, match="source: distances, raw are not kept") as caught:
        io.write_training_store(rna, tmp_path / "s.h5ad", progress=False)
    assert caught[0].filename == __file__


# scPortrait


@pytest.fixture
def portrait(make: Makers, tmp_path: Path) -> tuple[AnnData, np.ndarray]:
    """An opened scPortrait file, given contexts, and its images."""
    images = make["h5sc"](tmp_path / "cells.h5sc")
    opened = io.open_screen(tmp_path / "cells.h5sc")
    opened.obs["perturbation"] = np.resize(["x", "y"], 20)
    return opened, images


def test_masks_of_scportrait_are_left_out_and_floats_become_integers(
    portrait: tuple[AnnData, np.ndarray], tmp_path: Path
) -> None:
    opened, images = portrait
    stored = write(opened, tmp_path / "s.h5ad")
    rows = stored.obs["source_row"]
    assert stored.obs["scportrait_cell_id"].tolist() == (rows + 7).tolist()
    assert stored.obsm[IMAGES].dtype == np.uint16
    np.testing.assert_allclose(stored.obsm[IMAGES] / 65535, images[rows][:, 2:], atol=0.5 / 65535 + 1e-7)
    assert stored.var["channels"].tolist() == stored.uns["channel_names"].tolist() == ["dna", "actin"]


def test_masks_and_channels_are_kept_as_asked(portrait: tuple[AnnData, np.ndarray], tmp_path: Path) -> None:
    opened, images = portrait
    stored = write(opened, tmp_path / "s.h5ad", image_channels=["actin", "seg_nucleus"])
    rows = stored.obs["source_row"]
    np.testing.assert_allclose(stored.obsm[IMAGES] / 65535, images[rows][:, [3, 0]], atol=1e-5)
    assert stored.uns["channel_names"].tolist() == ["actin", "seg_nucleus"]


def test_a_scportrait_store_trains_beside_counts(
    portrait: tuple[AnnData, np.ndarray], rna: AnnData, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    rna.obs["perturbation"] = np.resize(["y", "x"], 30)
    io.write_training_store({"image": portrait[0], "rna": rna}, tmp_path / "s.h5mu", progress=False)
    opened = io.open_screen(tmp_path / "s.h5mu")
    PETRI.setup_mudata(opened, image_channels=["actin"])
    model = PETRI(opened, **{**tiny, "patch_size": 1})
    assert model._readers(model.adata_manager)["image"].shape == (20, 1, 4, 5)


def test_channels_of_several_files_are_found_by_name(make: Makers, tmp_path: Path) -> None:
    first, second = make["image"](8), make["image"](9, prefix="j")
    second.obsm[IMAGES] = second.obsm[IMAGES][:, [2, 0, 1]]
    second.uns["channel_names"] = ["er", "dna", "actin"]
    stored = write([first, second], tmp_path / "s.h5ad")
    is_second = (stored.obs["source"] == "1").to_numpy()
    rows = stored.obs["source_row"][is_second]
    np.testing.assert_array_equal(stored.obsm[IMAGES][is_second], second.obsm[IMAGES][rows][:, [1, 2, 0]])


# What is refused


def refused(tmp_path: Path, source: Any, path: str = "s.h5ad", **arguments: Any) -> None:
    """Call it, and require that it leaves nothing behind."""
    before = sorted(tmp_path.iterdir())
    try:
        io.write_training_store(source, tmp_path / path, **{"progress": False, **arguments})
    finally:
        assert sorted(tmp_path.iterdir()) == before


def test_a_file_is_never_overwritten(image: AnnData, tmp_path: Path) -> None:
    (tmp_path / "s.h5ad").write_text("precious")
    with pytest.raises(FileExistsError, match="Delete it, or pass another path"):
        refused(tmp_path, image)
    assert (tmp_path / "s.h5ad").read_text() == "precious"


def test_a_table_without_contexts_is_refused(make: Makers, image: AnnData, tmp_path: Path) -> None:
    make["h5sc"](tmp_path / "cells.h5sc")
    with pytest.raises(KeyError, match="context_key='perturbation' is not a column of source.obs"):
        refused(tmp_path, tmp_path / "cells.h5sc")
    image.obs.loc["i3", "perturbation"] = np.nan
    with pytest.raises(ValueError, match="missing for 1 of 40 cells"):
        refused(tmp_path, {"image": image}, "s.h5mu")


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ("image", "s.h5mu", "written as .h5ad or .zarr. Name its modality"),
        ("mdata", "s.h5ad", "the modalities .* written as .h5mu or .zarr"),
    ],
)
def test_the_name_of_the_file_has_to_fit(make: Makers, tmp_path: Path, source: str, path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refused(tmp_path, make[source](), path)


def test_sources_of_the_wrong_kind_are_refused(make: Makers, tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match="has a ndarray; expected AnnData.*crops_from_spatialdata and crops_from_fields"
    ):
        refused(tmp_path, np.ones(3))
    with pytest.raises(ValueError, match="empty list"):
        refused(tmp_path, [])
    with pytest.raises(ValueError, match="empty mapping"):
        refused(tmp_path, {})
    with pytest.raises(ValueError, match="mixes MuData and AnnData"):
        refused(tmp_path, [make["image"](), make["mdata"]()])
    with pytest.raises(ValueError, match="is a MuData; a mapping has one modality per name"):
        refused(tmp_path, {"image": make["mdata"]()})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        refused(tmp_path, tmp_path / "nowhere.h5ad")
    (tmp_path / "text.h5ad").write_text("text")
    with pytest.raises(ValueError, match="is not an HDF5 file"):
        refused(tmp_path, tmp_path / "text.h5ad")


@pytest.mark.parametrize("value", [np.nan, -0.1, 7.0])
def test_floats_that_are_no_intensities_are_refused_and_nothing_is_left(
    portrait: tuple[AnnData, np.ndarray], image: AnnData, tmp_path: Path, value: float
) -> None:
    images = np.full((40, 3, 4, 5), 0.5, dtype="float32")
    images[17, 1, 2, 3] = value
    image.obsm[IMAGES] = images
    with pytest.raises(ValueError, match=r"floats from .* expected floats in \[0, 1\]"):
        refused(tmp_path, image)


def test_channels_that_are_not_there_are_refused(portrait: tuple[AnnData, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channel 'golgi' is not in source"):
        refused(tmp_path, portrait[0], image_channels=["golgi"])
    with pytest.raises(ValueError, match="pass a list"):
        refused(tmp_path, portrait[0], image_channels="dna")
    with pytest.raises(ValueError, match="a channel twice"):
        refused(tmp_path, portrait[0], image_channels=["dna", 2])
    portrait[0].var["channel_mapping"] = "mask"
    with pytest.raises(ValueError, match="all channels of source are masks"):
        refused(tmp_path, portrait[0])


def test_files_that_do_not_fit_together_are_refused(make: Makers, tmp_path: Path) -> None:
    first, second = make["image"](8), make["image"](8, prefix="j", dtype="uint8")
    with pytest.raises(ValueError, match="differs in height, width or dtype"):
        refused(tmp_path, [first, second])
    first, second = make["rna"](8), make["rna"](8, prefix="j")
    second.var_names = [f"h{i}" for i in range(7)]
    with pytest.raises(ValueError, match="are not those of source"):
        refused(tmp_path, [first, second])
    second = make["rna"](8, prefix="j")
    second.X = second.X.astype("float64")
    with pytest.raises(ValueError, match="X of the tables of source differs"):
        refused(tmp_path, [first, second])


def test_cells_that_share_a_name_are_refused(image: AnnData, tmp_path: Path) -> None:
    image.obs_names = ["i"] * 40
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        refused(tmp_path, image)


def test_csc_on_disk_is_refused_with_the_conversion(rna: AnnData, tmp_path: Path) -> None:
    rna.X = rna.X.tocsc()
    rna.write_h5ad(tmp_path / "rna.h5ad")
    with pytest.raises(ValueError, match=r"to_memory\(\).tocsr\(\)"):
        refused(tmp_path, tmp_path / "rna.h5ad")


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("context_key", [], r"context_key is empty: \[\]. Name at least one obs column"),
        ("context_key", None, "context_key is empty: None"),
        ("max_memory", "2GB", "max_memory='2GB'; it is a number of bytes"),
        ("max_memory", float("nan"), "max_memory=nan; it is a number of bytes"),
        ("seed", None, "seed=None; it must be a whole number of at least 0"),
        ("seed", -1, "seed=-1; it must be a whole number"),
        ("progress", "no", "progress='no'; pass progress=True or progress=False"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(
    image: AnnData, tmp_path: Path, argument: str, value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        refused(tmp_path, image, **{argument: value})


def test_images_that_are_spoken_of_must_be_there(mdata: MuData, rna: AnnData, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"images_key='crops', but no source has obsm\['crops'\]; they have \['centre'"):
        refused(tmp_path, mdata, "s.h5mu", images_key="crops")
    with pytest.raises(KeyError, match=r"image_channels=\['dna'\], but no source has"):
        refused(tmp_path, rna, image_channels=["dna"])


def test_a_file_that_was_cut_off_is_named(image: AnnData, tmp_path: Path) -> None:
    image.write_h5ad(tmp_path / "s.h5ad")
    with (tmp_path / "s.h5ad").open("r+b") as file:
        file.truncate((tmp_path / "s.h5ad").stat().st_size // 2)
    with pytest.raises(OSError, match=r"s.h5ad cannot be opened: .*truncated.*copy or write it again"):
        io.open_screen(tmp_path / "s.h5ad")


def test_less_memory_than_a_row_is_refused(image: AnnData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Pass max_memory=480 or more"):
        refused(tmp_path, image, max_memory=479)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    image: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5000))
    with pytest.raises(OSError, match="needs .* in .*, which has 5.00 kB free"):
        refused(tmp_path, image)


# Opening


def test_an_opened_screen_holds_no_large_array(mdata: MuData, tmp_path: Path) -> None:
    mdata.write_h5mu(tmp_path / "s.h5mu")
    opened = io.open_screen(tmp_path / "s.h5mu")
    assert isinstance(opened["image"].obsm[IMAGES], h5py.Dataset)
    assert type(opened["rna"].X).__name__ == "_CSRDataset"
    assert type(opened["rna"].layers["counts"]).__name__ == "_CSRDataset"
    pd.testing.assert_frame_equal(opened["rna"].obs, mdata["rna"].obs)
    assert opened.uns["screen"] == "tiny"
    np.testing.assert_array_equal(open_rows(opened["rna"].X).read(np.array([3, 1])), dense(mdata["rna"].X)[[3, 1]])


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def test_a_mudata_without_modalities_is_not_opened_as_one_table(mdata: MuData, tmp_path: Path) -> None:
    mdata.write_h5mu(tmp_path / "s.h5mu")
    edit(tmp_path / "s.h5mu", lambda file: file.__delitem__("mod"))
    with pytest.raises(ValueError, match="is a MuData without modalities"):
        io.open_screen(tmp_path / "s.h5mu")


def test_groups_that_only_have_the_names_of_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    edit(path, lambda file: file.create_dataset("images", data=np.ones((2, 1, 4, 4))))
    with pytest.raises(ValueError, match=r"obs and var must be tables as anndata .* there is \['images'\]"):
        io.open_screen(path)
    for name in ("obs", "var"):
        edit(path, lambda file, name=name: file.create_dataset(f"{name}/column", data=np.arange(2)))  # type: ignore[misc]
    with pytest.raises(ValueError, match="obs and var must be tables as anndata"):
        io.open_screen(path)


def test_a_modality_without_a_table_of_cells_is_named(mdata: MuData, tmp_path: Path) -> None:
    mdata.write_h5mu(tmp_path / "s.h5mu")
    edit(tmp_path / "s.h5mu", lambda file: file.__delitem__("mod/rna/obs"))
    with pytest.raises(ValueError, match="no AnnData in /mod/rna: obs must be tables"):
        io.open_screen(tmp_path / "s.h5mu")


def test_a_file_of_anndata_0_7_which_does_not_say_what_it_is_opens(rna: AnnData, tmp_path: Path) -> None:
    rna.write_h5ad(tmp_path / "s.h5ad")
    edit(tmp_path / "s.h5ad", lambda file: file.attrs.__delitem__("encoding-type"))
    pd.testing.assert_frame_equal(io.open_screen(tmp_path / "s.h5ad").obs, rna.obs)


def test_rows_of_an_opened_screen_can_be_chosen(image: AnnData, tmp_path: Path) -> None:
    image.write_h5ad(tmp_path / "s.h5ad")
    opened = io.open_screen(tmp_path / "s.h5ad")
    np.testing.assert_array_equal(opened[[5, 2]].obsm[IMAGES], image.obsm[IMAGES][[5, 2]])


@pytest.mark.parametrize("name", ["screen.h5ad", "screen.zarr"])
def test_a_source_without_arrays_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    source = AnnData(obs=pd.DataFrame({"perturbation": ["a", "b"]}, index=["x", "y"]))
    with pytest.raises(ValueError, match="nothing to store"):
        io.write_training_store(source, tmp_path / name, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_joint_embedding_is_left_out_with_a_warning(screen: MuData, tmp_path: Path) -> None:
    screen.obsm["X_joint"] = np.zeros((screen.n_obs, 2), dtype=np.float32)
    with pytest.warns(UserWarning, match=r"mdata.obsm has \['X_joint'\], which is not stored"):
        io.write_training_store(screen, tmp_path / "screen.h5mu", progress=False)
