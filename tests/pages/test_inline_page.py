"""The explorer in a notebook."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from petri_scvi import pages
from petri_scvi.pages import _inline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData


@pytest.fixture(scope="module")
def inline(mapped: MuData) -> pages.InlinePage:
    """A page that was not written to a file; shared."""
    return pages.explorer(mapped, genes=[], title="a <b> & c", progress=False)


def test_without_a_path_the_page_can_be_shown_and_saved(
    inline: pages.InlinePage, mapped: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inline, "has_anywidget", lambda: False)
    written = pages.explorer(mapped, genes=[], title="a <b> & c", path=tmp_path / "a.html", progress=False)
    saved = inline.save(tmp_path / "b.html")
    assert saved.read_text(encoding="utf-8") == written.read_text(encoding="utf-8")
    shown = inline._repr_html_()
    assert shown is not None
    content = re.search(r'srcdoc="([^"]*)"', shown)
    assert content is not None
    assert html.unescape(content.group(1)) == saved.read_text(encoding="utf-8")
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    assert inline._repr_mimebundle_() is None
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[notebook\]"'):
        _ = inline.selection
    with pytest.raises(FileNotFoundError, match="make it first"):
        inline.save(tmp_path / "nowhere" / "a.html")


def test_with_anywidget_a_widget_is_shown_and_gives_the_names(inline: pages.InlinePage) -> None:
    pytest.importorskip("anywidget")
    assert inline._repr_html_() is None
    assert inline.selection == []
    bundle = inline._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    inline._shown_widget().selection = ["cell a", "cell b"]
    assert inline.selection == ["cell a", "cell b"]
    assert "InlinePage('a <b> & c'" in repr(inline)


@pytest.mark.browser
def test_the_chosen_cells_come_back_from_the_frame(
    browser: Any, inline: pages.InlinePage, mapped: MuData, read_page: Callable[[Path], Any]
) -> None:
    script = (_inline.STATIC / "widget.js").read_text(encoding="utf-8").replace("export default", "window.widget =")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.set_content("<div id=here></div>")
    page.evaluate(
        """([script, page]) => { (0, eval)(script); const kept = { page, title: "t", height: 700, selection: [] };
        window.kept = kept;
        widget.render({ model: { get: key => kept[key], set: (key, value) => { kept[key] = value; },
            save_changes: () => {} }, el: document.querySelector("#here") }); }""",
        [script, inline._page],
    )
    frame = page.frame_locator("iframe")
    frame.locator("#map").wait_for()
    frame.get_by_role("combobox", name="Search").fill("target03")
    frame.locator("li[role=option]").first.wait_for()
    page.keyboard.press("Enter")
    n = sum(int((part.obs["perturbation"] == "TARGET03").sum()) for part in mapped.mod.values())
    page.wait_for_function(f"window.kept.selection.length === {n}")
    names = page.evaluate("window.kept.selection")
    labels = {name: label for part in mapped.mod.values() for name, label in part.obs["perturbation"].items()}
    assert {labels[name] for name in names} == {"TARGET03"}
    frame.get_by_role("button", name="Choose no cells").click()
    page.wait_for_function("window.kept.selection.length === 0")
    page.close()
    assert [text for text in complaints if "GL Driver" not in text] == []
