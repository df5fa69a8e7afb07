"""Montages show the right cells in the right colours, and read no others."""

from __future__ import annotations

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.colors import to_rgb
from mudata import MuData

from petri_scvi import pl


def cells_of(groups, images=None):
    """Cells whose only channel is as bright as their row number."""
    if images is None:
        images = np.arange(len(groups), dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 4, 4), np.float32)
    obs = pd.DataFrame({"group": groups}, index=[f"c{i}" for i in range(len(groups))])
    return AnnData(obs=obs, obsm={"single_cell_images": images})


def tiles(ax, size=4):
    """Pictures of the montage, shape ``(n_rows, n_columns, size, size, 3)``."""
    picture = np.asarray(ax.images[0].get_array())
    n_rows, n_columns = picture.shape[0] // (size + 1), picture.shape[1] // (size + 1)
    grid = picture.reshape(n_rows, size + 1, n_columns, size + 1, 3)
    return grid[:, :size, :, :size].transpose(0, 2, 1, 3, 4)


def brightness(ax):
    """Of every tile, from 0 to 1."""
    return tiles(ax).mean(axis=(2, 3)).max(axis=2) / max(to_rgb("#3b7dd8"))


def test_rows_are_groups_and_hold_their_cells():
    ax = pl.crops(cells_of(["a", "b"] * 10), "group", n_per_group=10)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    found = brightness(ax)
    low, high = np.percentile(np.arange(20).repeat(16), (1, 99.7))
    np.testing.assert_allclose(found[0], np.clip((np.arange(0, 20, 2) - low) / (high - low), 0, 1), atol=1e-6)
    np.testing.assert_allclose(found[1], np.clip((np.arange(1, 20, 2) - low) / (high - low), 0, 1), atol=1e-6)


def test_small_groups_end_in_white_and_cells_without_a_group_are_left_out():
    ax = pl.crops(cells_of(["a", "b", "b", None, "b"]), "group", n_per_group=3)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert (tiles(ax)[0, 1:] == 1).all()
    assert not (tiles(ax)[1] == 1).all(axis=(1, 2, 3)).any()


def test_choice_of_cells_has_a_seed_and_does_not_depend_on_other_groups():
    data = cells_of(["a", "b"] * 50)
    first, again, other = (tiles(pl.crops(data, "group", n_per_group=5, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    ranks = [np.argsort(brightness(pl.crops(data, "group", groups=g, n_per_group=5))[-1]) for g in (["b"], ["a", "b"])]
    np.testing.assert_array_equal(*ranks)


def test_chosen_groups_keep_their_order_and_by_default_the_ten_largest_are_drawn():
    data = cells_of([f"g{i:02d}" for i in range(12) for _ in range(i + 1)])
    assert [t.get_text() for t in pl.crops(data, "group", groups=["g07", "g01"]).get_yticklabels()] == ["g07", "g01"]
    ax = pl.crops(data, "group")
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"g{i:02d}" for i in range(2, 12)]
    assert ax.get_title() == "the largest 10 of 12 groups"


def test_channels_are_chosen_by_name_or_position_and_keep_their_colour(cells):
    ax = pl.crops(cells, channels=["actin", 0])
    handles = ax.get_legend().get_patches()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["actin", "dna"]
    assert [patch.get_facecolor()[:3] for patch in handles] == [to_rgb("#f0a500"), to_rgb("#3b7dd8")]
    texts = pl.crops(cells).get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["dna", "lipid droplets", "actin"]
    alone = pl.crops(cells, groups=["GENE0"], n_per_group=1, channels=["dna"])
    row = int(np.random.default_rng([0, *b"GENE0"]).choice(24))  # the first 24 cells
    pixels = cells["image"].obsm["single_cell_images"][row, 0].astype(float)
    low, high = np.percentile(pixels, (1, 99.7))
    expected = np.clip((pixels - low) / (high - low), 0, 1)[..., None] * to_rgb("#3b7dd8")
    np.testing.assert_allclose(tiles(alone, 8)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["memmap", "hdf5", "hdf5_compressed", "zarr", "dask"])
def test_crops_on_disk_are_drawn_as_those_in_memory(kind, tmp_path, rng):
    images = rng.integers(0, 255, size=(40, 2, 4, 4)).astype(np.uint8)
    groups = ["a", "b"] * 20
    expected = tiles(pl.crops(cells_of(groups, images), "group"))
    if kind == "memmap":
        stored = np.memmap(tmp_path / "images", dtype=np.uint8, mode="w+", shape=images.shape)
        stored[:] = images
    elif kind.startswith("hdf5"):
        compression = {"compression": "gzip", "chunks": (1, 2, 4, 4)} if kind == "hdf5_compressed" else {}
        stored = h5py.File(tmp_path / "images.h5", "w").create_dataset("images", data=images, **compression)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        stored = zarr.create_array(tmp_path / "images.zarr", data=images, chunks=(8, 2, 4, 4))
    else:
        stored = pytest.importorskip("dask.array").from_array(images, chunks=(8, 2, 4, 4))
    np.testing.assert_array_equal(tiles(pl.crops(cells_of(groups, stored), "group")), expected)


def test_only_crops_that_are_drawn_are_read():
    dask = pytest.importorskip("dask.array")
    read = []

    def render(block, block_info=None):
        if block_info:
            read.append(block_info[0]["chunk-location"][0])
        return block

    plain = dask.from_array(np.ones((500, 1, 4, 4)), chunks=(1, 1, 4, 4))
    lazy = plain.map_blocks(render, dtype=float, meta=np.empty((0, 1, 4, 4)))
    pl.crops(cells_of(["a", "b"] * 250, lazy), "group", n_per_group=4)
    assert len(read) == 8
    assert sorted(row % 2 for row in read) == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"group_key": "clone"}, KeyError, "group_key='clone' is not a column.*perturbation"),
        ({"modality": "dna"}, KeyError, r"modality='dna' is not in mdata.mod; it has \['image', 'rna'\]"),
        ({"images_key": "crops"}, KeyError, "images_key='crops'.*single_cell_images"),
        ({"images_key": "X_emb"}, ValueError, "expected four axes"),
        ({"groups": ["GENE0", "GENE99"]}, ValueError, r"groups=\['GENE99'\] have no cell"),
        ({"groups": []}, ValueError, r"groups=\[\] have no cell"),
        ({"channels": ["rna"]}, ValueError, "channel 'rna' is not in.*lipid_droplets"),
        ({"channels": [3]}, ValueError, "channel 3 is not in"),
        ({"n_per_group": 0}, ValueError, "n_per_group=0"),
    ],
)
def test_bad_arguments_are_named(cells, changes, error, match):
    with pytest.raises(error, match=match):
        pl.crops(cells, **changes)
    assert not plt.get_fignums()


def test_of_more_channels_than_colours_the_first_are_drawn():
    data = cells_of(["a", "b"], np.ones((2, 7, 4, 4)))
    legend = pl.crops(data, "group").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2", "3", "4"]
    with pytest.raises(ValueError, match="pass 1 to 5 of"):
        pl.crops(data, "group", channels=range(7))
    assert len(pl.crops(data, "group", channels=[5, 6]).get_legend().get_texts()) == 2


def test_a_column_without_groups_is_refused():
    with pytest.raises(ValueError, match="missing for all 2 cells"):
        pl.crops(cells_of([None, None]), "group")


# Beside a UMAP


def colours(collection):
    return {tuple(np.round(colour[:3], 6)) for colour in collection.get_facecolor()}


def test_groups_have_one_colour_in_both_pictures_and_shown_cells_a_ring(cells):
    left, right = pl.umap_crops(cells, groups=["GENE0", "GENE3"], n_per_group=4)
    others, grouped, ringed = left.collections
    assert colours(grouped) == colours(ringed) == colours(right.collections[0])
    assert len(others.get_offsets()) + len(grouped.get_offsets()) == cells.n_obs
    is_drawn = np.concatenate([cells[m].obs["perturbation"].isin(["GENE0", "GENE3"]) for m in ("image", "rna")])
    expected = {tuple(point) for point in cells.obsm["X_umap"][is_drawn]}
    assert {tuple(point) for point in grouped.get_offsets()} == expected
    is_image = np.arange(cells.n_obs) < cells["image"].n_obs
    of_image = {tuple(point) for point in cells.obsm["X_umap"][is_drawn & is_image]}
    assert len(ringed.get_offsets()) == 8
    assert {tuple(point) for point in ringed.get_offsets()} <= of_image
    for row, name in enumerate(["GENE0", "GENE3"]):
        colour = right.collections[0].get_facecolor()[row]
        rows = (cells["image"].obs["perturbation"] == name).to_numpy().nonzero()[0]
        points = {tuple(point) for point in cells.obsm["X_umap"][rows]}
        same = [
            tuple(p) in points
            for p, c in zip(ringed.get_offsets(), ringed.get_facecolor(), strict=True)
            if (c == colour).all()
        ]
        assert same == [True] * 4


def umap_cells() -> AnnData:
    data = cells_of(["a", "b", "c"] * 5)
    data.obs["group"] = data.obs["group"].astype("category")
    data.obsm["X_umap"] = np.random.default_rng(0).normal(size=(15, 2))
    return data


def test_colours_that_scanpy_stored_are_kept():
    data = umap_cells()
    data.uns["group_colors"] = np.array(["#112233", "#445566", "#778899"])
    _, right = pl.umap_crops(data, "group", groups=["c", "a"])
    np.testing.assert_allclose(right.collections[0].get_facecolor()[:, :3], [to_rgb("#778899"), to_rgb("#112233")])
    in_mudata = MuData({"image": data})
    in_mudata.obsm["X_umap"] = data.obsm["X_umap"]
    _, right = pl.umap_crops(in_mudata, "group", groups=["c", "a"])
    np.testing.assert_allclose(right.collections[0].get_facecolor()[0, :3], to_rgb("#778899"))


def test_colours_that_fit_no_group_are_not_used():
    data = umap_cells()
    data.uns["group_colors"] = ["#112233", "no colour"]
    left, _ = pl.umap_crops(data, "group")
    assert len(colours(left.collections[1])) == 3


def test_two_axes_in_two_axes_out_and_frame_as_scanpy_says():
    _, axes = plt.subplots(1, 2)
    assert pl.umap_crops(umap_cells(), "group", axes=(axes[0], axes[1])) == (axes[0], axes[1])
    assert axes[0].axison
    sc.set_figure_params(frameon=False)
    assert not pl.umap_crops(umap_cells(), "group")[0].axison


def test_a_missing_umap_names_the_call():
    data = umap_cells()
    with pytest.raises(KeyError, match=r"basis='X_tsne'.*X_umap.*scanpy\.tl\.umap"):
        pl.umap_crops(data, "group", basis="X_tsne")
    data.obsm["X_flat"] = np.zeros((15, 1))
    with pytest.raises(ValueError, match=r"obsm\['X_flat'\] has shape \(15, 1\)"):
        pl.umap_crops(data, "group", basis="X_flat")


def test_autosave_saves_the_pair(tmp_path):
    sc.settings.autosave, sc.settings.figdir, sc.settings.file_format_figs = True, tmp_path, "png"
    pl.umap_crops(umap_cells(), "group")
    assert (tmp_path / "umap_crops.png").stat().st_size > 0
    assert not plt.get_fignums()


def test_numbers_are_one_group_whatever_their_type():
    ax = pl.crops(cells_of(np.array([1, "1", 1.0, 2, 2.0] * 4, dtype=object)), "group", n_per_group=20)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]
    assert tiles(ax).shape[1] == 12
    image, rna = cells_of(np.arange(20) % 2), cells_of((np.arange(20) % 2).astype(float)[::-1])
    rna.obs_names = [f"r{i}" for i in range(20)]
    mdata = MuData({"image": image, "rna": rna})
    mdata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(40, 2))
    left, _ = pl.umap_crops(mdata, "group", n_per_group=2)
    assert [len(dots.get_offsets()) for dots in left.collections] == [0, 40, 4]  # none is in the background
