"""The figure of a dimension shows what the tools found, and the right cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from petri_scvi import pl, tl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def result(mdata: MuData, name: str) -> Any:
    return mdata.uns["petri_scvi"][f"dimension_{name}_X_sae"]


def names(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def lengths(ax: Any) -> list[float]:
    return [bar.get_width() for bar in ax.patches]


def test_panels_show_the_findings_of_the_tools_in_their_order(described: MuData) -> None:
    axes = pl.dimension(described, 0, n_top=5)
    assert list(axes) == ["crops", "perturbations", "genes", "gene_sets", "image_features"]
    for panel, column in (("genes", "gene"), ("image_features", "feature")):
        table = result(described, panel)["table"]
        table = table[table["dimension"] == 0].head(5)
        assert names(axes[panel]) == list(table[column])
        np.testing.assert_allclose(lengths(axes[panel]), table["correlation"], rtol=1e-6)
        is_filled = [to_rgba(bar.get_facecolor())[3] > 0 for bar in axes[panel].patches]
        assert is_filled == list(table["q_value"] <= 0.05)
    sets = result(described, "gene_sets")["table"]
    sets = sets[sets["dimension"] == 0]
    assert names(axes["gene_sets"]) == list(sets["gene_set"])[:5]
    np.testing.assert_allclose(lengths(axes["gene_sets"]), -np.log10(sets["q_value"])[:5])
    title = plt.gcf().get_suptitle()
    assert title.startswith("Dimension 0, active in ")


def test_perturbations_that_activate_a_dimension_come_first(described: MuData) -> None:
    ax = pl.dimension(described, 2)["perturbations"]
    truth = described.uns["synthetic_screen"]["perturbations"].set_index("perturbation")["pathway"]
    members = set(truth.index[truth == "pathway_03"])
    assert set(names(ax)[: len(members)]) == members
    activity = result(described, "activity")
    rows = [list(activity["perturbations"]).index(name) for name in names(ax)]
    for points, name in zip(ax.collections, ("image", "rna"), strict=True):
        np.testing.assert_allclose(np.asarray(points.get_offsets())[:, 0], activity["mean"][name][rows, 2])
        assert points.get_label() == name


def test_crops_are_those_of_the_example_cells(described: MuData) -> None:
    image = described["image"].copy()
    brightness = np.arange(image.n_obs, dtype=np.float32)
    image.obsm["single_cell_images"] = np.broadcast_to(brightness[:, None, None, None], (image.n_obs, 1, 4, 4)).copy()
    image.uns["channel_names"] = ["only"]
    image.obsm["X_sae"] = np.where(np.isin(np.arange(image.n_obs), [3, 700, 1500]), brightness, 0)[:, None]
    tl.dimension_activity(image, n_examples=3)
    ax = pl.dimension(image, 0)["crops"]
    assert names(ax) == ["most", "least"]
    picture = np.asarray(ax.images[0].get_array()).max(axis=2)
    tiles = picture[2, [2, 7, 12]]
    assert (np.argsort(-tiles) == [0, 1, 2]).all()  # 1500, 700, 3: the most active first
    assert tiles[0] > 5 * tiles[2]


def test_of_more_channels_than_colours_the_first_are_drawn(described: MuData) -> None:
    image = described["image"].copy()
    image.obsm["single_cell_images"] = np.random.default_rng(0).random((image.n_obs, 7, 4, 4), dtype=np.float32)
    image.uns["channel_names"] = [f"stain{i}" for i in range(7)]
    image.obsm["X_sae"] = np.arange(image.n_obs, dtype=np.float32)[:, None]
    tl.dimension_activity(image)
    legend = pl.dimension(image, 0)["crops"].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"stain{i}" for i in range(5)]


def test_panels_of_tools_that_were_not_called_and_of_missing_images_are_left_out(planted: MuData) -> None:
    rna = planted["rna"].copy()
    rna.obsm["X_sae"] = planted.obsm["X_sae"][np.flatnonzero(np.asarray(planted.obsmap["rna"]).ravel())]
    with pytest.raises(KeyError, match=r"Call petri_scvi.tl.dimension_activity\(data, 'X_sae'\) first"):
        pl.dimension(rna, 0)
    tl.dimension_activity(rna)
    assert list(pl.dimension(rna, 0)) == ["perturbations"]
    tl.dimension_genes(rna, progress=False)
    axes = pl.dimension(rna, 4)  # inactive in RNA
    assert list(axes) == ["perturbations", "genes"]
    assert [text.get_text() for text in axes["genes"].texts] == ["none"]


@pytest.mark.parametrize("size", [8, 14])
def test_no_word_leaves_the_figure(described: MuData, size: int) -> None:
    with mpl.rc_context({"font.size": size}):
        axes = pl.dimension(described, 1)
        figure = plt.gcf()
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for ax in axes.values():
            for text in [*ax.get_yticklabels(), ax.title, ax.xaxis.label]:
                box = text.get_window_extent()
                assert box.x0 >= -1
                assert box.x1 <= width + 1
                assert box.y0 >= -1
                assert box.y1 <= height + 1
        panel = axes["perturbations"]
        (legend,) = panel.figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["image", "rna"]
        assert not legend.get_window_extent().overlaps(panel.xaxis.label.get_window_extent())


@pytest.mark.parametrize("number", [-1, 9, 0.0, True])
def test_a_dimension_that_does_not_exist_is_refused(described: MuData, number: Any) -> None:
    with pytest.raises(ValueError, match=r"is not in obsm\['X_sae'\]; its dimensions are 0 to 8"):
        pl.dimension(described, number)


def test_other_slots_and_channels_are_refused_if_missing(described: MuData) -> None:
    with pytest.raises(KeyError, match="images_key='crops'"):
        pl.dimension(described, 0, images_key="crops")
    with pytest.raises(ValueError, match="channels: channel 'nowhere'"):
        pl.dimension(described, 0, channels=["nowhere"])


def test_the_figure_is_the_same_from_a_file(described: MuData, reread: Callable[[Any], Any]) -> None:
    again = reread(described)
    assert names(pl.dimension(again, 3)["genes"]) == names(pl.dimension(described, 3)["genes"])
