"""The figure and the report of a dimension show what the tools found, and the right cells."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from petri_scvi import pl, tl
from petri_scvi.pl import _dimension_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

SILENT = 7


@pytest.fixture
def described(planted: MuData) -> MuData:
    """All tools called."""
    loadings = planted.uns["synthetic_screen"]["gene_loadings"]
    sets = {f"PROGRAM_{i}": list(loadings.index[loadings.iloc[:, i] != 0]) for i in (0, 1, 2, 3, 5)}
    tl.dimension_image_features(planted)
    tl.dimension_genes(planted, rankby_abs=True, progress=False)
    tl.dimension_gene_sets(planted, sets)
    tl.dimension_activity(planted, n_examples=4)
    return planted


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


def test_of_more_channels_than_colours_the_first_are_drawn(described: MuData, tmp_path: Path) -> None:
    image = described["image"].copy()
    image.obsm["single_cell_images"] = np.random.default_rng(0).random((image.n_obs, 7, 4, 4), dtype=np.float32)
    image.uns["channel_names"] = [f"stain{i}" for i in range(7)]
    image.obsm["X_sae"] = np.arange(image.n_obs, dtype=np.float32)[:, None]
    tl.dimension_activity(image)
    legend = pl.dimension(image, 0)["crops"].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"stain{i}" for i in range(5)]
    pl.dimension_report(image, tmp_path / "report.html", progress=False)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [f"stain{i}" in text for i in range(7)] == [True] * 5 + [False] * 2


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
    with pytest.raises(ValueError, match="channels="):
        pl.dimension(described, 0, channels=["nowhere"])


# Report


class Page(HTMLParser):
    """Cards, images and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: dict[str, str] = {}
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.multimodal: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.addresses += [found[name] for name in ("src", "href", "action", "data") if name in found]
        if tag == "article":
            self.cards[found["id"]] = found["data-text"]
            self.multimodal += [found["id"]] * ("data-multimodal" in found)
        if tag == "img":
            self.images.append(found["src"])


def report(mdata: MuData, path: Path, **changes: Any) -> Page:
    assert pl.dimension_report(mdata, path, progress=False, **changes) == path
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_has_a_searchable_card_per_dimension_and_needs_no_network(described: MuData, tmp_path: Path) -> None:
    page = report(described, tmp_path / "report.html")
    assert list(page.cards) == [f"d{i}" for i in range(9) if i != SILENT]
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "link" not in page.tags
    assert not re.search(r"https?://|@import|url\(", (tmp_path / "report.html").read_text())
    hits = [card for card, text in page.cards.items() if "droplet number" in text]
    assert {"d0", "d1"} <= set(hits) <= set(page.cards)
    assert "program 3" in page.cards["d3"]
    expected = tl.describe_dimensions(described)["is_multimodal"]
    assert page.multimodal == [f"d{i}" for i in expected.index[expected]]
    assert len(page.images) == 2 * 7  # most and least; dimension 5 is not active in images
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(page.images[0].split(",")[1])), format="png")
    assert picture.shape[:2] == (9, 4 * 9)  # four crops of eight pixels and the lines between
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_insignificant_findings_are_pale_and_not_searched(described: MuData, tmp_path: Path) -> None:
    page = report(described, tmp_path / "report.html", dimensions=[0], n_top=200)
    table = result(described, "genes")["table"]
    table = table[table["dimension"] == 0]
    words = page.cards["d0"].split(" | ")
    assert {gene.lower() for gene in table["gene"][table["q_value"] <= 0.05]} <= set(words)
    weak = table["gene"][table["q_value"] > 0.05]
    text = (tmp_path / "report.html").read_text()
    assert all(f'<tr class="weak"><td>{gene}</td>' in text for gene in weak)
    perturbations = {str(name).lower() for name in result(described, "activity")["perturbations"]}
    assert not ({gene.lower() for gene in weak} - perturbations) & set(words)
    members = described.uns["synthetic_screen"]["perturbations"].query("pathway == 'pathway_01'")["perturbation"]
    strong = {gene.lower() for gene in table["gene"][table["q_value"] <= 0.05]}
    assert perturbations & set(words) - strong <= {name.lower() for name in members} <= set(words)


def test_names_from_the_data_are_no_html(described: MuData, tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    described.uns["petri_scvi"]["dimension_genes_X_sae"]["table"]["gene"] = bad
    described.uns["petri_scvi"]["dimension_activity_X_sae"]["perturbations"][:] = "<b>&"
    page = report(described, tmp_path / "report.html", dimensions=[0])
    assert page.tags.count("script") == 1
    assert "b" not in page.tags
    assert "alert" in page.cards["d0"]


def test_chosen_dimensions_keep_their_order_and_an_old_report_is_replaced(described: MuData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    found = tl.describe_dimensions(described, keyword="droplet")
    assert list(report(described, path, dimensions=list(found.index)).cards) == [f"d{i}" for i in found.index]


def test_a_report_that_fails_leaves_the_old_one_and_nothing_else(
    described: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(_dimension_report, "_data_url", fail)
    with pytest.raises(OSError, match="disk full"):
        report(described, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_reports_that_cannot_be_written_are_refused(described: MuData, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        report(described, tmp_path / "nowhere" / "report.html")
    with pytest.raises(ValueError, match="dimension=99 is not in"):
        report(described, tmp_path / "report.html", dimensions=[99])
    with pytest.raises(ValueError, match="there is no dimension to show: dimensions=\\[\\]"):
        report(described, tmp_path / "report.html", dimensions=[])
    assert list(tmp_path.iterdir()) == []


def test_figure_and_report_are_the_same_from_a_file(
    described: MuData, tmp_path: Path, reread: Callable[[Any], Any]
) -> None:
    report(described, tmp_path / "report.html")
    again = reread(described)
    report(again, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "report.html").read_text()
    assert names(pl.dimension(again, 3)["genes"]) == names(pl.dimension(described, 3)["genes"])
