"""The report of dimensions shows what the tools found, and the right cells."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest

from petri_scvi import pages, tl
from petri_scvi.pages import _dimension_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

SILENT = 7


def result(mdata: MuData, name: str) -> Any:
    return mdata.uns["petri_scvi"][f"dimension_{name}_X_sae"]


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
    assert pages.dimension_report(mdata, path, progress=False, **changes) == path
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


def test_the_report_is_the_same_from_a_file(described: MuData, tmp_path: Path, reread: Callable[[Any], Any]) -> None:
    report(described, tmp_path / "report.html")
    report(reread(described), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "report.html").read_text()


def test_of_more_channels_than_colours_the_first_are_shown(described: MuData, tmp_path: Path) -> None:
    image = described["image"].copy()
    image.obsm["single_cell_images"] = np.random.default_rng(0).random((image.n_obs, 7, 4, 4), dtype=np.float32)
    image.uns["channel_names"] = [f"stain{i}" for i in range(7)]
    image.obsm["X_sae"] = np.arange(image.n_obs, dtype=np.float32)[:, None]
    tl.dimension_activity(image)
    report(image, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [f"stain{i}" in text for i in range(7)] == [True] * 5 + [False] * 2
