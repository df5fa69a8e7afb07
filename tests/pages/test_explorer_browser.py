"""The explorer in a real browser: what a user does with it."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(mapped: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer of a screen on a map."""
    return pages.explorer(mapped, path=tmp_path_factory.mktemp("plain") / "explorer.html", progress=False)


def labels_of(mdata: MuData, column: str = "perturbation") -> NDArray[np.str_]:
    return np.concatenate([part.obs[column].astype(str).to_numpy() for part in mdata.mod.values()])


def on_screen(page: Any, mdata: MuData) -> NDArray[np.float64]:
    """Where the cells are in the window, from their coordinates."""
    points = mdata.obsm["X_umap"]
    low, high = points.min(axis=0), points.max(axis=0)
    box = page.locator("#map").bounding_box()
    radius = 0.94 * min(box["width"], box["height"]) / (high - low).max()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    return middle + radius * (points - (low + high) / 2) * [1, -1]


def pixel(page: Any, place: NDArray[np.float64]) -> list[int]:
    """Colour of a point of the window, as it is painted."""
    shot = "data:image/png;base64," + base64.b64encode(page.screenshot()).decode()
    script = """async ([url, x, y]) => {
        const image = new Image(); image.src = url; await image.decode();
        const canvas = document.createElement("canvas"); canvas.width = image.width; canvas.height = image.height;
        const pen = canvas.getContext("2d"); pen.drawImage(image, 0, 0);
        return [...pen.getImageData(x, y, 1, 1).data].slice(0, 3)}"""
    return page.evaluate(script, [shot, float(place[0]), float(place[1])])


def circle(page: Any, places: NDArray[np.float64]) -> None:
    """Draw a rectangle around places with the lasso."""
    (left, top), (right, bottom) = places.min(axis=0) - 8, places.max(axis=0) + 8
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in [(right, top), (right, bottom), (left, bottom), (left, (top + bottom) / 2)]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("painter", ["canvas", "gl"])
def test_cells_are_painted_where_they_lie_in_the_colour_of_their_group(
    look: Callable[..., Any], page_file: Path, mapped: MuData, painter: str
) -> None:
    page = look(page_file, f"#color=modality&painter={painter}")
    assert page.locator("#map").get_attribute("data-painter") == painter
    page.wait_for_timeout(500)
    kinds = np.repeat(["image", "rna"], [part.n_obs for part in mapped.mod.values()])
    places = on_screen(page, mapped)
    # A cell that no other covers.
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(len(places))
    for kind, colour in (("image", (0x01, 0x73, 0xB2)), ("rna", (0xDE, 0x8F, 0x05))):
        cell = np.argmax(np.where(kinds == kind, distance.min(axis=1), 0))
        np.testing.assert_allclose(pixel(page, places[cell]), colour, atol=45)


def test_search_finds_a_perturbation_and_chooses_its_cells(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file)
    page.keyboard.press("/")
    page.keyboard.type("target03")
    page.locator("li[role=option]:first-child").filter(has_text=re.compile("TARGET03\\s*Perturbation")).wait_for()
    page.keyboard.press("Enter")
    n = int((labels_of(mapped) == "TARGET03").sum())
    page.locator(f"#chosen[data-n='{n}']").wait_for()
    assert page.locator("#chosen h2").inner_text().startswith("TARGET03")


def test_a_chosen_group_has_a_colour_of_its_own(look: Callable[..., Any], page_file: Path, mapped: MuData) -> None:
    guides = sorted(set(labels_of(mapped, "guide")))
    assert len(guides) > 10
    page = look(page_file, f"#color=obs:guide&group=obs:guide%1F{guides[-1]}")
    row = page.locator(".legend-list li").filter(has_text=guides[-1]).first
    grey = page.locator(".legend-list li").last
    colour = "e => getComputedStyle(e).backgroundColor"
    assert row.locator(".swatch").evaluate(colour) != grey.locator(".swatch").evaluate(colour)


def test_search_says_which_genes_are_not_on_the_page(look: Callable[..., Any], mapped: MuData, tmp_path: Path) -> None:
    path = pages.explorer(mapped, path=tmp_path / "few.html", genes=["GENE0001"], progress=False)
    page = look(path)
    other = next(name for name in mapped["rna"].var_names if name.startswith("GENE") and name != "GENE0001")
    page.get_by_role("combobox", name="Search").fill(other)
    hit = page.locator("li[role=option]:first-child")
    hit.filter(has_text="its values are not on this page").wait_for()
    assert hit.get_attribute("aria-disabled") == "true"


def test_search_finds_a_gene_and_colours_by_it(look: Callable[..., Any], page_file: Path, mapped: MuData) -> None:
    page = look(page_file)
    page.get_by_role("combobox", name="Search").fill("gene0001")
    page.keyboard.press("Enter")
    page.locator("body[data-coloured='gene:GENE0001']").wait_for()
    low, high = (float(text) for text in page.locator(".ramp-ends span:not(.soft)").all_inner_texts())
    counts = mapped["rna"].X.toarray()
    total = counts.sum(axis=1, keepdims=True)
    values = np.log2(1 + counts / total * np.median(total))[:, list(mapped["rna"].var_names).index("GENE0001")]
    assert low == 0
    assert high == pytest.approx(values.max(), rel=0.01)


def test_hover_shows_the_crop_of_the_cell_under_the_pointer(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file)
    places = on_screen(page, mapped)
    page.mouse.move(*places[5])
    tip = page.locator("#tip:visible")
    shown = tip.locator(".cell-name").inner_text().split()[0]
    row = list(mapped.obs_names).index(shown)
    assert np.linalg.norm(places[row] - places[5]) < 5
    if shown in mapped["image"].obs_names:
        picture = tip.locator("canvas").evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
        drawn = np.array(picture).reshape(12, 12, 4)[..., :3].sum(axis=2)
        crop = mapped["image"].obsm["single_cell_images"][list(mapped["image"].obs_names).index(shown)]
        assert np.corrcoef(drawn.ravel(), crop.astype(float).sum(axis=0).ravel())[0, 1] > 0.8
    page.mouse.move(5, 300)
    page.locator("#tip").wait_for(state="hidden")


def test_hover_over_a_transcriptome_names_its_top_genes(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file, f"#cell={mapped['image'].n_obs + 3}")
    text = page.locator("#cell-box").inner_text()
    named = re.search(r"High here: ([\w-]+)", text)
    assert named is not None
    assert "log2 above the mean of all cells" in text
    counts = mapped["rna"].X.toarray()
    levels = np.log2(1 + counts / counts.sum(axis=1, keepdims=True) * np.median(counts.sum(axis=1)))
    height = levels - levels.mean(axis=0)
    height[:, (counts > 0).mean(axis=0) < 0.01] = 0
    assert named.group(1) == mapped["rna"].var_names[height[3].argmax()]
    assert f"{named.group(1)} +{height[3].max():.1f}" in text


def test_lasso_shows_a_montage_the_enriched_perturbation_and_saves_the_names(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file)
    is_in = labels_of(mapped) == "TARGET02"
    places = on_screen(page, mapped)
    circle(page, places[is_in])
    rows = np.flatnonzero(
        (places >= places[is_in].min(axis=0) - 8).all(axis=1) & (places <= places[is_in].max(axis=0) + 8).all(axis=1)
    )
    page.locator(f"#chosen[data-n='{len(rows)}']").wait_for()
    page.locator("#enrichment tbody tr td").first.wait_for()
    first = page.locator("#enrichment tbody tr").first.locator("td").all_inner_texts()
    assert first[0] == "TARGET02"
    assert first[1] == str(is_in.sum())
    expected = sum(
        (rows_here := rows[np.isin(mapped.obs_names[rows], part.obs_names)]).size
        * (part.obs["perturbation"] == "TARGET02").mean()
        for part in mapped.mod.values()
    )
    assert float(first[2]) == pytest.approx(expected, abs=0.06)
    assert rows_here.size
    n_images = int(np.isin(mapped.obs_names[rows], mapped["image"].obs_names).sum())
    page.wait_for_function(f"document.querySelectorAll('.montage canvas').length === {min(40, n_images)}")
    page.wait_for_function("document.querySelector('.montage canvas').dataset.painted")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download these cell names").click()
    assert saved.value.path().read_text().split() == list(mapped.obs_names[rows])


def test_a_link_shows_the_same_view(look: Callable[..., Any], page_file: Path, mapped: MuData) -> None:
    page = look(page_file)
    circle(page, on_screen(page, mapped)[labels_of(mapped) == "TARGET02"])
    page.get_by_role("combobox", name="Colour cells by").click()
    page.get_by_role("option", name="batch").click()
    page.locator("body[data-coloured='obs:batch']").wait_for()
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(400)
    n = page.locator("#chosen").get_attribute("data-n")
    fragment = page.evaluate("location.hash")
    assert "camera" in fragment
    again = look(page_file, fragment)
    again.locator(f"#chosen[data-n='{n}']").wait_for()
    again.locator("body[data-coloured='obs:batch']").wait_for()
    again.wait_for_timeout(400)
    outline = "document.querySelector('.lasso').getAttribute('points').split(/[ ,]/).map(Number)"
    np.testing.assert_allclose(again.evaluate(outline), page.evaluate(outline), atol=0.5)


def test_channels_are_switched_for_all_crops_alike(look: Callable[..., Any], page_file: Path) -> None:
    page = look(page_file, "#group=obs:perturbation%1FTARGET02")
    page.wait_for_function("document.querySelector('.montage canvas')?.dataset.painted")
    total = """() => [...document.querySelectorAll('.montage canvas')].slice(0, 5).map(canvas => {
        const levels = canvas.getContext('2d').getImageData(0, 0, 12, 12).data;
        return [0, 1, 2].map(i => levels.filter((_, j) => j % 4 === i).reduce((a, b) => a + b))})"""
    before = np.array(page.evaluate(total))
    page.locator("#chosen .channel").filter(has_text="nucleus").get_by_role("button", name="only").click()
    page.wait_for_function("document.querySelector('.montage canvas').dataset.painted.startsWith('0x')")
    page.wait_for_timeout(300)
    after = np.array(page.evaluate(total))
    assert (after <= before).all()
    red, green, blue = after.T
    # The nucleus is #3b7dd8.
    np.testing.assert_allclose(red / blue, 0x3B / 0xD8, atol=0.03)
    np.testing.assert_allclose(green / blue, 0x7D / 0xD8, atol=0.03)
    assert "off=1%1F2%1F3%1F4" in page.evaluate("location.hash")


def test_names_from_the_data_stay_text(
    look: Callable[..., Any], hostile_page: Path, hostile_screen: MuData, hostile: list[str]
) -> None:
    page = look(hostile_page)
    assert page.title() == hostile[0]
    for name in hostile:
        page.get_by_role("combobox", name="Search").fill(name)
        hit = page.locator("li[role=option]:first-child .hit")
        hit.get_by_text(name, exact=True).wait_for()
        assert hit.inner_text() == name
        page.keyboard.press("Enter")
        n = int((labels_of(hostile_screen) == name).sum())
        page.locator(f"#chosen[data-n='{n}']").wait_for()
        assert page.locator("#chosen h2").inner_text().startswith(name)
    page.get_by_role("combobox", name="Colour cells by").click()
    page.get_by_role("option").filter(has_text=hostile[0].replace("_", " ")).first.click()
    page.locator(".legend-list .name").first.wait_for()
    places = on_screen(page, hostile_screen)
    page.mouse.move(*places[0])
    page.locator("#tip:visible").wait_for()
    page.get_by_role("tab", name="About").click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("b:text-is('bold')").count() == 0


def test_without_webgl_the_page_says_so_and_works(look: Callable[..., Any], page_file: Path, mapped: MuData) -> None:
    gone = """const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function(kind, ...rest) {
            return /webgl/.test(kind) ? null : get.call(this, kind, ...rest)}"""
    page = look(page_file, init=gone)
    assert "no WebGL" in page.locator(".notice:visible").inner_text()
    is_in = labels_of(mapped) == "TARGET04"
    circle(page, on_screen(page, mapped)[is_in])
    page.locator("#enrichment tbody tr").first.get_by_text("TARGET04").wait_for()


def test_the_map_is_used_with_keys_alone(look: Callable[..., Any], page_file: Path) -> None:
    page = look(page_file)
    page.locator("#map").focus()
    for key in ("+", "+", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    page.wait_for_timeout(400)
    camera = re.search(r"camera=([^&]+)", page.evaluate("location.hash"))
    assert camera is not None
    x, y, zoom = camera.group(1).split("+")
    assert float(x) > 0
    assert float(y) > 0
    assert float(zoom) == pytest.approx(1.4**2, abs=0.01)
    page.keyboard.press("0")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#cell-box:visible .cell-name").wait_for()
    page.keyboard.press("Escape")
    page.locator("#cell-box").wait_for(state="hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    look: Callable[..., Any], page_file: Path, mapped: MuData, theme: str
) -> None:
    page = look(page_file, "#group=obs:perturbation%1FTARGET02", width=400, color_scheme=theme, has_touch=True)
    page.locator(".montage canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.touchscreen.tap(*on_screen(page, mapped)[4])
    page.locator("#cell-box:visible .cell-name").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme") == theme


def test_escape_chooses_nothing_and_what_the_lasso_does_not_list_is_counted(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file)
    places = on_screen(page, mapped)
    corners = np.stack([places.min(axis=0) + 60, places.max(axis=0) - 60])
    circle(page, corners)
    is_in = ((places >= corners[0] - 8) & (places <= corners[1] + 8)).all(axis=1)
    page.wait_for_function("document.querySelector('#chosen').dataset.n > 0")
    total = int(page.locator("#chosen").get_attribute("data-n"))
    assert total == pytest.approx(is_in.sum(), abs=3)  # cells on the edge
    counts = pd.Series(labels_of(mapped)[is_in]).value_counts()
    page.locator("#enrichment").wait_for()
    shown = page.locator("#enrichment tbody td:first-child").all_inner_texts()
    listed = page.locator("#enrichment tbody td:nth-child(2)").all_inner_texts()
    n, n_cells = len(counts) - len(shown), total - sum(map(int, listed))
    assert n > 0
    assert page.locator("#not-listed").inner_text() == f"Not listed: {n} perturbations with {n_cells:,} cells."
    page.locator(".montage button").last.click()
    page.locator("#cell-box:visible .cell-name").wait_for()
    assert page.locator("#view-cells .panel").evaluate("panel => panel.scrollTop") == 0
    page.keyboard.press("Escape")  # the focus is on the crop, not on the map
    page.locator("#cell-box").wait_for(state="hidden")
    assert page.locator("#chosen").get_attribute("data-n") == ""
    assert not page.locator("svg.overlay .lasso").get_attribute("points")


def test_tooltips_close_with_escape_and_with_the_view(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file)
    place = on_screen(page, mapped)[3]
    for close in ("Escape", "tab"):
        page.mouse.move(*place + 200)
        page.mouse.move(*place)
        page.locator("#tip:visible").wait_for()
        if close == "Escape":
            page.keyboard.press("Escape")
        else:
            page.evaluate("document.querySelector('[data-view=about]').click()")  # the pointer stays where it is
        page.locator("#tip").wait_for(state="hidden")


def test_the_brightness_in_use_is_shown(look: Callable[..., Any], page_file: Path) -> None:
    page = look(page_file, "#group=obs:perturbation%1FTARGET02&bright=2.2")
    level = page.locator("#chosen .bright output")
    level.wait_for()
    assert level.inner_text() == "2.2×"
    slider = page.locator("#chosen .bright input")
    assert slider.input_value() == "2.2"
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#chosen .bright output').innerText === '2.3×'")


def test_a_crop_of_a_perturbation_leads_to_its_cell_on_the_whole_map(
    look: Callable[..., Any], page_file: Path, mapped: MuData
) -> None:
    page = look(page_file, "#camera=0.9000+0.9000+30.000")
    circle(page, on_screen(page, mapped)[:1] * 0 + [[400, 300], [500, 400]])
    page.wait_for_function("location.hash.includes('lasso=')")
    page.get_by_role("tab", name="Perturbations").click()
    page.locator("circle[data-name='TARGET02']").click()
    crop = page.locator("#profile .beside .montage button").first
    name = crop.get_attribute("aria-label").removeprefix("Cell ")
    crop.scroll_into_view_if_needed()
    panel = page.locator("#view-perturbations .panel")
    assert panel.evaluate("panel => { panel.scrollTop = 500; return panel.scrollTop }") > 0
    page.locator("circle[data-name='TARGET03']").click()
    page.locator("#profile[data-pert='TARGET03']").wait_for()
    assert panel.evaluate("panel => panel.scrollTop") == 0
    page.go_back()
    page.locator("#profile[data-pert='TARGET02']").wait_for()
    page.locator(f"#profile .beside .montage button[aria-label='Cell {name}']").click()
    page.locator("#cell-box:visible .cell-name", has_text=name).wait_for()
    assert page.locator("#chosen").get_attribute("data-n") == ""
    assert not page.locator("svg.overlay .lasso").get_attribute("points")
    page.wait_for_timeout(200)
    ring, (x, y) = page.locator("circle.ring").bounding_box(), on_screen(page, mapped)[mapped.obs_names.get_loc(name)]
    assert ring["x"] + ring["width"] / 2 == pytest.approx(x, abs=2)
    assert ring["y"] + ring["height"] / 2 == pytest.approx(y, abs=2)
