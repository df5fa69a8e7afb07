"""The report of dimensions shows what the tools found, and the right cells."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from petri_scvi import pages, tl
from petri_scvi.pages import _dimension_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

SILENT = 7


def result(mdata: MuData, name: str) -> Any:
    return mdata.uns["petri_scvi"][f"dimension_{name}_X_sae"]


class Report:
    """Cards of a page."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.cards = {card["number"]: card for card in page.words(page.meta["dimensions"]["cards"])}
        self.texts = {number: card["text"] for number, card in self.cards.items()}


@pytest.fixture
def report(read_page: Callable[[Path], Any]) -> Callable[..., Report]:
    """Write a report and read it."""

    def write(mdata: MuData | AnnData, path: Path, **changes: Any) -> Report:
        assert pages.dimension_report(mdata, path, progress=False, **changes) == path
        return Report(read_page(path))

    return write


def test_the_report_has_a_searchable_card_per_dimension_and_needs_no_network(
    described: MuData, tmp_path: Path, report: Callable[..., Report]
) -> None:
    found = report(described, tmp_path / "report.html")
    assert list(found.cards) == [i for i in range(9) if i != SILENT]
    assert found.page.meta["views"] == ["dimensions", "about"]
    assert not re.search(r"@import|url\(", (tmp_path / "report.html").read_text())
    hits = [number for number, text in found.texts.items() if "droplet number" in text]
    assert {0, 1} <= set(hits) <= set(found.cards)
    assert "program 3" in found.texts[3]
    expected = tl.describe_dimensions(described)["is_multimodal"]
    assert [number for number, card in found.cards.items() if card["is_multimodal"]] == list(expected.index[expected])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_crops_are_those_of_the_example_cells(described: MuData, tmp_path: Path, report: Callable[..., Report]) -> None:
    found = report(described, tmp_path / "report.html")
    crops = found.page.meta["crops"]
    images, names = described["image"].obsm["single_cell_images"], list(described["image"].obs_names)
    sheet = Image.open(io.BytesIO(base64.b64decode(found.page.elements["s0c2"])))
    pixels = np.asarray(sheet.convert("L")).astype(float)
    slots = np.argsort(found.page.array(crops["cells"], "u4"))
    for end in ("most", "least"):
        for number in (0, 3):
            for cell, name in zip(found.cards[number][end], result(described, "activity")[end][number], strict=True):
                x, y = 8 * (slots[cell] % crops["per_row"]), 8 * (slots[cell] // crops["per_row"])
                true = images[names.index(name), 2].astype(float)
                assert (
                    np.corrcoef(pixels[y : y + 8, x : x + 8].ravel(), true.ravel())[0, 1] > 0.6
                )  # eight pixels a side, as WebP
    assert found.cards[5]["most"] == []  # it is not active in images


def test_insignificant_findings_are_not_searched(
    described: MuData, tmp_path: Path, report: Callable[..., Report]
) -> None:
    found = report(described, tmp_path / "report.html", dimensions=[0], n_top=200)
    table = result(described, "genes")["table"]
    table = table[table["dimension"] == 0]
    words = found.texts[0].split(" | ")
    assert {gene.lower() for gene in table["gene"][table["q_value"] <= 0.05]} <= set(words)
    shown = {name: q for name, _, q in found.cards[0]["findings"]["genes"]}
    weak = table["gene"][table["q_value"] > 0.05]
    assert all(shown[gene] > 0.05 for gene in weak)
    perturbations = {str(name).lower() for name in result(described, "activity")["perturbations"]}
    assert not ({gene.lower() for gene in weak} - perturbations) & set(words)
    members = described.uns["synthetic_screen"]["perturbations"].query("pathway == 'pathway_01'")["perturbation"]
    strong = {gene.lower() for gene in table["gene"][table["q_value"] <= 0.05]}
    assert perturbations & set(words) - strong <= {name.lower() for name in members} <= set(words)


def test_names_from_the_data_are_no_html(described: MuData, tmp_path: Path, report: Callable[..., Report]) -> None:
    bad = '<script>alert("x")</script>'
    described.uns["petri_scvi"]["dimension_genes_X_sae"]["table"]["gene"] = bad
    described.uns["petri_scvi"]["dimension_activity_X_sae"]["perturbations"][:] = "<b>&"
    found = report(described, tmp_path / "report.html", dimensions=[0])
    assert bad not in found.page.text
    assert "alert" in found.texts[0]


def test_chosen_dimensions_keep_their_order_and_an_old_report_is_replaced(
    described: MuData, tmp_path: Path, report: Callable[..., Report]
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    found = tl.describe_dimensions(described, keyword="droplet")
    assert list(report(described, path, dimensions=list(found.index)).cards) == list(found.index)


def test_a_report_that_fails_leaves_the_old_one_and_nothing_else(
    described: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Callable[..., Report]
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: Any, **__: Any) -> Iterator[str]:
        yield "<html>"
        raise OSError("disk full")

    monkeypatch.setattr(_dimension_report, "render", fail)
    with pytest.raises(OSError, match="disk full"):
        report(described, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_reports_that_cannot_be_written_are_refused(
    described: MuData, tmp_path: Path, report: Callable[..., Report]
) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        report(described, tmp_path / "nowhere" / "report.html")
    with pytest.raises(ValueError, match="dimension=99 is not in"):
        report(described, tmp_path / "report.html", dimensions=[99])
    with pytest.raises(ValueError, match="there is no dimension to show: dimensions=\\[\\]"):
        report(described, tmp_path / "report.html", dimensions=[])
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_the_same_from_a_file(
    described: MuData, tmp_path: Path, reread: Callable[[Any], Any], report: Callable[..., Report]
) -> None:
    report(described, tmp_path / "report.html")
    report(reread(described), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "report.html").read_text()


def test_of_more_channels_than_colours_the_first_are_shown(
    described: MuData, tmp_path: Path, report: Callable[..., Report]
) -> None:
    image = described["image"].copy()
    image.obsm["single_cell_images"] = np.random.default_rng(0).random((image.n_obs, 7, 4, 4), dtype=np.float32)
    image.uns["channel_names"] = [f"stain{i}" for i in range(7)]
    image.obsm["X_sae"] = np.arange(image.n_obs, dtype=np.float32)[:, None]
    tl.dimension_activity(image)
    found = report(image, tmp_path / "report.html")
    assert [channel["name"] for channel in found.page.meta["crops"]["channels"]] == [f"stain{i}" for i in range(5)]
