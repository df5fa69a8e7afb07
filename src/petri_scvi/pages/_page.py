"""One HTML file that needs no server and no network: every page of this room is written here."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from petri_scvi.common import user_path, written_whole
from petri_scvi.pages.contents._payload import storable
from petri_scvi.pl._colours import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TEMPLATES = Environment(loader=PackageLoader("petri_scvi.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
STATIC = files("petri_scvi.pages") / "static"
DRAWING_LIBRARY = "vendor/regl-scatterplot.min.js"
SCRIPTS = (
    "dom.js",
    "store.js",
    "state.js",
    "palettes.js",
    "statistics.js",
    "glossary.js",
    "labels.js",
    "crops.js",
    "canvas_points.js",
    "gl_points.js",
    "points_map.js",
    "search.js",
    "cells_view.js",
    "selection.js",
    "differences.js",
    "profiles.js",
    "profile_card.js",
    "heat_map.js",
    "profiles_view.js",
    "dimensions_view.js",
    "scores_view.js",
    "about_view.js",
    "main.js",
)
"""Our own code, in the order in which it is read."""


def page_path(path: str | Path) -> Path:
    """The file to write a page to, in a folder that exists."""
    target = user_path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; make it first")
    return target


def write_page(target: Path, pieces: Iterable[str]) -> None:
    """Write the pieces of a page to a file, which is replaced once all are written."""
    with written_whole(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.writelines(pieces)


def render(
    meta: dict[str, Any],
    *,
    first: Iterable[tuple[str, str]] = (),
    rest: Iterable[tuple[str, str]] = (),
) -> Iterator[str]:
    """Pieces of a page.

    Parameters
    ----------
    meta
        What the page knows beside its arrays; ``title`` and ``views`` at least.
    first, rest
        Names and contents of the arrays: those that the first picture needs, and the others.
    """
    has_map = "cells" in meta["views"]
    return TEMPLATES.get_template("page.html").generate(
        meta=storable(meta | {"version": version("petri-scvi"), "palettes": palettes()}),
        title=meta["title"],
        style=Markup((STATIC / "page.css").read_text(encoding="utf-8")),
        vendor=_script(DRAWING_LIBRARY) if has_map else None,
        licences=_script("vendor/LICENSES.txt") if has_map else None,
        scripts=[_script(name) for name in SCRIPTS],
        first=first,
        rest=rest,
    )


def palettes() -> dict[str, list[str]]:
    """Colours of groups, and of numbers on a light and on a dark page."""

    def steps(name: str, start: float, end: float, n: int = 48) -> list[str]:
        return [to_hex(colour) for colour in colormaps[name](np.linspace(start, end, n))]

    # Without the end that cannot be told from the page.
    light, dark = steps("viridis_r", 0.08, 1.0), steps("viridis", 0.15, 1.0)
    return {"groups": list(PALETTE), "light": light, "dark": dark}


def _script(name: str) -> Markup:
    """A file of ours, or of the library, as it stands; nothing in it may end the element."""
    text = (STATIC / name).read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise ValueError(f"{name} contains '</script', which would end its element in the page")
    return Markup(text)
