"""Views of perturbations, dimensions and scores in a real browser."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import pages, tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

pytestmark = pytest.mark.browser
WEAK = "TARGET04"
"""A perturbation whose transcriptomes are said to be those of controls."""


@pytest.fixture(scope="module")
def analysed(make_mapped: Callable[..., MuData]) -> MuData:
    """A screen whose perturbations and dimensions were analysed."""
    mdata = make_mapped()
    edges = mdata.uns["synthetic_screen"]["edges"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few cells and replicates are warned of
        tl.dimension_activity(mdata, n_examples=4)
        tl.dimension_image_features(mdata)
        tl.perturbation_strength(mdata, "X_petri", n_permutations=99, progress=False)
        tl.score_screen(mdata, ["X_petri"], edges=edges, n_bootstrap=0, progress=False)
    table = mdata.uns["petri_scvi"]["perturbation_strength_X_petri"]["table"]
    table.loc[(table["perturbation"] == WEAK) & (table["modality"] == "rna"), "q_value"] = 0.6
    image = mdata["image"]
    image.obsm["image_features"]["vacuoles"] = (image.obs["perturbation"] == "TARGET02").to_numpy().astype(float)
    return mdata


@pytest.fixture(scope="module")
def views_file(analysed: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all views."""
    path = tmp_path_factory.mktemp("views") / "explorer.html"
    edges = analysed.uns["synthetic_screen"]["edges"]
    return pages.explorer(analysed, path=path, edges=edges, progress=False)


def difference(mdata: MuData, feature: str, name: str) -> float:
    """Of a perturbation to the controls, in standard deviations of the controls."""
    values = mdata["image"].obsm["image_features"][feature].to_numpy()
    labels = mdata["image"].obs["perturbation"].astype(str).to_numpy()
    controls = values[labels == "non-targeting"]
    return float((values[labels == name].mean() - controls.mean()) / controls.std(ddof=1))


def test_a_click_on_a_point_opens_the_perturbation_with_its_guides_and_neighbours(
    look: Callable[..., Any], views_file: Path, analysed: MuData
) -> None:
    page = look(views_file, "#view=perturbations", view="perturbations")
    page.locator("circle[data-name='TARGET02']").click()
    page.locator("#profile[data-pert='TARGET02']").wait_for()
    page.wait_for_function("location.hash.includes('pert=TARGET02')")
    guides = analysed["image"].obs.query("perturbation == 'TARGET02'")["guide"].unique()
    shown = page.locator("#guides tbody tr td:first-child").all_inner_texts()
    assert set(shown) == set(map(str, guides))
    spaces = page.locator("ol.neighbours").evaluate_all("all => all.map(list => list.dataset.space)")
    assert spaces == ["fused", "image", "rna"]
    assert page.locator("ol.neighbours").first.locator("li").count() == 6
    assert page.locator("#profile .columns.beside .montage").count() == 2
    page.wait_for_function("document.querySelector('#profile canvas.crop').dataset.painted")


def test_neighbours_are_ordered_by_the_cosine_of_whitened_profiles(
    look: Callable[..., Any], views_file: Path, analysed: MuData
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tl.center_scale(analysed, "X_petri")
        tl.whiten(analysed, "X_petri_scaled")
        genes = tl.aggregate_profiles(analysed, level="gene")
        tl.profile_similarity(genes, layer="rna")
    cosines = pd.Series(genes.obsp["similarity"][list(genes.obs_names).index("TARGET03")], index=genes.obs_names)
    expected = cosines.drop(["TARGET03", "non-targeting"]).sort_values(ascending=False)
    page = look(views_file, "#view=perturbations&pert=TARGET03", view="perturbations")
    rows = page.locator("ol.neighbours[data-space=rna] li").all_inner_texts()
    found = {name: float(value.replace("−", "-")) for name, value in (row.split()[:2] for row in rows)}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=0.02)
    assert found[max(found, key=lambda name: found[name])] == pytest.approx(expected.iloc[0], abs=0.02)


def test_perturbations_are_compared_in_a_measured_feature(
    look: Callable[..., Any], views_file: Path, analysed: MuData
) -> None:
    page = look(views_file, "#view=perturbations&layout=table&measure=feature%3Adroplet_number", view="perturbations")
    rows = page.locator("#perturbations tbody tr")
    name, value = rows.first.locator("td").all_inner_texts()[:2]
    assert float(value.replace("−", "-")) == pytest.approx(difference(analysed, "droplet_number", name), abs=0.03)
    names = set(analysed["image"].obs["perturbation"].astype(str))
    assert rows.count() == len(names)
    largest = max(names - {"non-targeting"}, key=lambda other: abs(difference(analysed, "droplet_number", other)))
    assert name == largest
    page.get_by_role("button", name="Perturbation", exact=True).click()
    page.wait_for_function("location.hash.includes('sort=name')")
    page.wait_for_function("document.querySelector('#perturbations tbody td').innerText.startsWith('non-targeting')")


def test_what_no_control_has_is_compared_and_a_new_measure_sorts_the_table(
    look: Callable[..., Any], views_file: Path
) -> None:
    page = look(views_file, "#view=perturbations&layout=table&sort=name", view="perturbations")
    box = page.get_by_role("combobox", name="Compare perturbations in")
    box.click()
    box.fill("vacuoles")
    page.get_by_role("option", name="vacuoles").click()
    page.wait_for_function("document.querySelector('#perturbations tbody td').innerText.startsWith('TARGET02')")
    value = page.locator("#perturbations tbody tr").first.locator("td").all_inner_texts()[1]
    assert float(value) > 2


def test_the_heat_map_has_known_pairs_and_a_click_takes_the_row(
    look: Callable[..., Any], views_file: Path, read_page: Callable[[Path], Any]
) -> None:
    page = look(views_file, "#view=perturbations&layout=heat", view="perturbations")
    meta = read_page(views_file).meta["profiles"]
    order = meta["spaces"][0]["order"]
    assert meta["edges"]
    box = page.locator("canvas.heat").bounding_box()
    cell = box["width"] / len(order)
    page.mouse.move(box["x"] + 1.5 * cell, box["y"] + 3.5 * cell)
    text = page.locator("#tip:visible").inner_text()
    assert text.startswith(f"{meta['names'][order[3]]} · {meta['names'][order[1]]}")
    page.mouse.click(box["x"] + 1.5 * cell, box["y"] + 3.5 * cell)
    page.locator(f"#profile[data-pert='{meta['names'][order[3]]}']").wait_for()


def test_views_lead_to_each_other_and_back(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file, "#view=perturbations&pert=TARGET04", view="perturbations")
    page.locator("#strongest a").first.click()
    page.locator(".card.chosen h2").wait_for()
    number = re.search(r"Dimension (\d+)", page.locator(".card.chosen h2").inner_text())
    assert number is not None
    page.locator(".card.chosen").get_by_text("Colour the cells by it").click()
    page.locator(f"body[data-coloured='dim:{number.group(1)}']").wait_for()
    page.go_back()
    page.locator(".card.chosen").wait_for()
    page.go_back()
    page.locator("#profile[data-pert='TARGET04']").wait_for()
    page.get_by_role("button", name="Show its cells on the map").click()
    page.locator("#chosen h2").filter(has_text="TARGET04").wait_for()
    page.get_by_role("button", name="Open perturbation").click()
    page.locator("#profile[data-pert='TARGET04']").wait_for()


def test_cards_are_searched(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file, "#view=dimensions", view="dimensions")
    page.locator("#search").fill("droplet number")
    page.wait_for_function("/^[1-5] of/.test(document.querySelector('#count').innerText)")
    page.wait_for_function("location.hash.includes('find=droplet')")
    assert "droplet number" in page.locator(".card:visible").first.inner_text()


def test_a_link_to_a_dimension_shows_its_card(look: Callable[..., Any], views_file: Path) -> None:
    for width in (1280, 400):
        page = look(views_file, "#view=dimensions&dim=8", view="dimensions", width=width)
        page.wait_for_timeout(1500)
        heading = page.locator("#d8 h2").bounding_box()
        above = page.locator(".bar-of-cards" if width > 820 else "header").bounding_box()
        assert above["y"] + above["height"] <= heading["y"] < 700


def test_scores_are_shown_with_their_curves(look: Callable[..., Any], views_file: Path, analysed: MuData) -> None:
    page = look(views_file, "#view=scores", view="scores")
    table = analysed.uns["petri_scvi"]["score_screen"]["table"]
    assert page.locator("#scores tbody tr").count() == len(table[["key", "modality", "fusion"]].drop_duplicates())
    auc = table.query("modality == 'rna' and metric == 'edge_auc'")["value"].item()
    row = page.locator("#scores tbody tr").filter(has_text=re.compile("X_petri, rna"))
    assert f"{auc:.3f}" in row.inner_text()
    n = page.locator("#roc polyline").count()
    row.locator("input").uncheck()
    page.wait_for_function(f"document.querySelectorAll('#roc polyline').length === {n - 1}")
    page.wait_for_function("location.hash.includes('metric=')")


@pytest.mark.parametrize("view", ["perturbations", "dimensions", "scores", "about"])
def test_no_view_scrolls_sideways_on_a_phone(look: Callable[..., Any], views_file: Path, view: str) -> None:
    page = look(views_file, f"#view={view}&pert=TARGET02", view=view, width=400)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_hostile_names_stay_text_in_every_view(
    look: Callable[..., Any], hostile_page: Path, hostile: list[str]
) -> None:
    page = look(hostile_page, "#view=perturbations&layout=table&measure=gene:GENE0003", view="perturbations")
    for name in hostile:
        page.locator("#perturbations button").get_by_text(name, exact=True).first.click()
        page.wait_for_function("name => document.querySelector('#profile').dataset.pert === name", arg=name)
    page.get_by_role("button", name="Heat map").click()
    page.locator("canvas.heat").hover()
    page.get_by_role("button", name="Points").click()
    page.locator("circle.profile").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("b:text-is('bold')").count() == 0


def test_without_controls_the_page_says_why_perturbations_are_not_compared(
    look: Callable[..., Any], mapped: MuData, tmp_path: Path
) -> None:
    path = pages.explorer(mapped, path=tmp_path / "none.html", control=None, progress=False)
    page = look(path, "#view=about", view="about")
    assert "There is no view of perturbations: they are compared with controls" in page.locator(".about").inner_text()
    assert page.get_by_role("tab").all_inner_texts() == ["Cells", "Dimensions", "About"][::2]
    assert np.isfinite(mapped.obsm["X_umap"]).all()


def test_a_report_of_dimensions_is_a_page_of_its_own(
    look: Callable[..., Any], analysed: MuData, tmp_path: Path
) -> None:
    path = pages.dimension_report(analysed, tmp_path / "report.html", progress=False)
    page = look(path, view="dimensions")
    page.locator(".strip canvas[data-painted]").first.wait_for()
    page.locator("#search").fill("target02")
    page.wait_for_function("!/^8 of/.test(document.querySelector('#count').innerText)")
    assert "TARGET02" in page.locator(".card:visible").first.inner_text()
    page.get_by_role("tab", name="About").click()
    page.locator(".about").wait_for()


def test_search_by_a_channel_offers_its_intensity_its_crops_and_its_features(
    look: Callable[..., Any], views_file: Path
) -> None:
    page = look(views_file)
    page.get_by_role("combobox", name="Search").fill("lipid")
    page.locator("li[role=option]").first.wait_for()
    hits = [tuple(text.split("\n")) for text in page.locator("li[role=option]").all_inner_texts()]
    assert hits == [
        ("lipid droplets, mean intensity", "Measured in the crops"),
        ("lipid droplets", "Channel: crops with it alone"),
        ("droplet number", "Measured feature, lipid droplets"),
        ("droplet brightness", "Measured feature, lipid droplets"),
    ]
    page.keyboard.press("Enter")
    page.locator("body[data-coloured='feature:lipid_droplets, mean intensity']").wait_for()
    page.get_by_role("combobox", name="Search").fill("lipid droplets")
    page.locator("li[role=option]").first.wait_for()
    page.keyboard.press("Enter")
    page.locator("#chosen h2").filter(has_text="image").wait_for()
    page.wait_for_function("(document.querySelector('.montage canvas') || {dataset: {}}).dataset.painted === '2x1'")
    checked = page.locator("#chosen .channel input").evaluate_all("all => all.map(box => box.checked)")
    assert checked == [False, False, True, False, False]


def test_perturbations_are_compared_in_the_intensity_of_a_channel(
    look: Callable[..., Any], views_file: Path, analysed: MuData
) -> None:
    page = look(views_file, "#view=perturbations&layout=table", view="perturbations")
    assert not any("doubt" in head for head in page.locator("#perturbations thead th").all_inner_texts())
    assert "reasons to doubt each difference are then listed" in page.locator(".caption.under").inner_text()
    box = page.get_by_role("combobox", name="Compare perturbations in")
    box.click()
    box.fill("lipid droplets")
    page.locator("li[role=option]", has_text="choose its mean intensity").wait_for()
    page.keyboard.press("Enter")
    page.locator("#perturbations th", has_text="lipid droplets, mean intensity, SD").wait_for()
    assert "Reasons for doubt" in page.locator("#perturbations thead th").all_inner_texts()
    name, value = page.locator("#perturbations tbody tr").first.locator("td").all_inner_texts()[:2]
    image = analysed["image"]
    channel = list(image.uns["channel_names"]).index("lipid_droplets")
    means = pd.Series(np.asarray(image.obsm["single_cell_images"])[:, channel].mean(axis=(1, 2)))
    groups = means.groupby(image.obs["perturbation"].astype(str).to_numpy())
    controls = groups.get_group("non-targeting")
    expected = (groups.mean() - controls.mean()) / controls.std(ddof=1)
    assert float(value.replace("−", "-")) == pytest.approx(expected[name], abs=0.05)
    assert abs(expected[name]) == pytest.approx(expected.drop("non-targeting").abs().max(), abs=0.05)


def test_nothing_is_offered_twice(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file)
    for query in ("target02", "cell cycle", "nucleus"):
        page.get_by_role("combobox", name="Search").fill(query)
        page.wait_for_timeout(200)
        hits = page.locator("li[role=option]").all_inner_texts()
        assert len(hits) > 1
        assert len(hits) == len({hit.lower() for hit in hits})
        assert not any("target gene" in hit for hit in hits)


def test_known_truth_is_offered_last_and_named_so(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file)
    page.get_by_role("combobox", name="Colour cells by").click()
    page.locator("li[role=option]").first.wait_for()
    hits = page.locator("li[role=option]").all_inner_texts()
    assert [hit.endswith("Known truth") for hit in hits] == [False] * (len(hits) - 4) + [True] * 4
    assert all(hit.startswith("true ") == hit.endswith("Known truth") for hit in hits)


def test_names_of_points_lie_on_nothing_and_hits_lie_above(look: Callable[..., Any], views_file: Path) -> None:
    for width in (1280, 400):
        fragment = "#view=perturbations&measure=feature%3Adroplet_number"
        page = look(views_file, fragment, view="perturbations", width=width)
        page.wait_for_timeout(500)  # drawn again once the text below it has its place
        box = "all => all.map(e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] })"
        names = np.array(page.locator(".point-name").evaluate_all(box))
        points = np.array(page.locator("circle.profile").evaluate_all(box))
        assert len(names) > 3
        middle = np.stack([names[:, 0], names[:, 1] + 4, names[:, 2], names[:, 3] - 4], axis=1)  # of the letters

        def overlaps(a: Any, b: Any) -> Any:
            wide = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
            high = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
            return (wide > 1) & (high > 1)

        assert not (overlaps(middle, middle) & ~np.eye(len(names), dtype=bool)).any()
        centre, radius = (points[:, :2] + points[:, 2:]) / 2, np.diff(points[:, [0, 2]]) / 2
        inner = np.hstack([centre - 0.7 * radius, centre + 0.7 * radius])  # within the circle
        assert not overlaps(middle, inner).any()
        order = page.locator("circle.profile").evaluate_all("all => all.map(e => e.dataset.name)")
        page.get_by_role("button", name="Table").click()
        largest = page.locator("#perturbations tbody td:first-child button").first.inner_text()
        assert order.index(largest) >= len(order) - 2  # controls may be above


def test_only_alike_perturbations_are_ringed(
    look: Callable[..., Any], views_file: Path, read_page: Callable[[Path], Any]
) -> None:
    file = read_page(views_file)
    meta = file.meta["profiles"]
    space = meta["spaces"][1]
    codes = file.array(space["vectors"], "i1").reshape(-1, space["d"]).astype(float)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    is_gene = np.array([name != "non-targeting" for name in meta["names"]])
    alike = (unit @ unit.T >= 0.3) & is_gene[None, :] & ~np.eye(len(unit), dtype=bool)
    i = int(np.argmin(np.where(is_gene, alike.sum(axis=1), 99)))
    assert alike[i].sum() < 6
    page = look(views_file, f"#view=perturbations&space=image&pert={meta['names'][i]}", view="perturbations")
    ringed = page.locator("circle.near").evaluate_all("all => all.map(e => e.dataset.name)")
    assert sorted(ringed) == sorted(np.array(meta["names"])[alike[i]])


def test_the_heat_map_has_no_measure_to_choose(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file, "#view=perturbations", view="perturbations")
    box = page.get_by_role("combobox", name="Compare perturbations in")
    assert box.is_visible()
    page.get_by_role("button", name="Heat map").click()
    page.locator("canvas.heat").wait_for()
    assert not box.is_visible()


def test_a_modality_that_is_not_looked_at_is_no_doubt(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file, f"#view=perturbations&space=rna&pert={WEAK}", view="perturbations")
    doubt = "not told from controls in rna"
    assert doubt in page.locator("#profile").inner_text()
    for other in ("space=image", "measure=feature%3Adroplet_number", "space=fused"):
        page = look(views_file, f"#view=perturbations&{other}&pert={WEAK}", view="perturbations")
        assert doubt not in page.locator("#profile").inner_text()


def test_the_own_gene_and_how_crops_were_chosen_are_said(
    look: Callable[..., Any], views_file: Path, read_page: Callable[[Path], Any], analysed: MuData
) -> None:
    gene, change, *_ = read_page(views_file).meta["changed_genes"]["TARGET02"]["own"]
    page = look(views_file, "#view=perturbations&pert=TARGET02", view="perturbations")
    text = page.locator("#own").inner_text().replace("−", "-")
    assert f"Its own gene, {gene}: {change:+.2f} log2 against controls" in text
    page.locator("#profile .how").nth(1).wait_for()
    n = int((analysed["image"].obs["perturbation"] == "TARGET02").sum())
    expected = f"12 of {n} on this page, at even steps in the order of the file" if n > 12 else f"all {n} on this page"
    assert page.locator("#profile .how").first.inner_text().strip() == expected
    page.get_by_role("tab", name="Dimensions").click()
    page.locator(".card .how").first.wait_for()
    assert "most and" in page.locator(".card .how").first.inner_text()
    for row in page.locator(".card table.bars:not([data-kind]) tr").all_inner_texts()[:20]:
        assert set(row.split()[1:]) != {"0"}


def test_words_are_explained_where_they_stand_and_in_about(look: Callable[..., Any], views_file: Path) -> None:
    page = look(views_file, "#view=scores", view="scores")
    page.get_by_role("button", name="Guide consistency").click()
    page.locator("#toast").filter(has_text="guides of one gene are more alike").wait_for()
    page.get_by_role("tab", name="About").click()
    words = page.locator("#words").inner_text()
    for word in ("fused", "Guide consistency", "True-positive rate", "Area under the ROC curve", "log2", "Cosine"):
        assert word in words


def test_what_cells_are_coloured_by_leads_to_the_perturbations_compared_in_it(
    look: Callable[..., Any], views_file: Path, analysed: MuData
) -> None:
    page = look(views_file, "#color=feature%3Adroplet_number")
    page.get_by_role("button", name="Compare perturbations in it").click()
    page.locator("#perturbations tbody tr").first.wait_for()
    heads = page.locator("#perturbations thead th").all_inner_texts()
    assert any("image" in head for head in heads)
    assert not any("rna" in head for head in heads)  # the feature is one of images
    page.locator("#perturbations button").get_by_text("TARGET03", exact=True).click()
    page.locator("#profile[data-pert='TARGET03']").wait_for()
    facts = page.locator("#profile .facts").inner_text().replace("−", "-")
    assert f"droplet number\t{difference(analysed, 'droplet_number', 'TARGET03'):+.2f} SD" in facts
