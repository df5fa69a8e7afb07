"""A screen with hostile names as a page, and a browser to look at it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = [
    "</script><script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=1">',
    "\"'><b>bold</b>",
    r"$\frac{$",
    "[red]&amp;{{ 1 }}{% if %}",
]
"""Names that would break a page, a formula or a progress bar."""


def hostile_names(mdata: MuData) -> MuData:
    """Rename the first perturbations and genes, a channel, and add a column."""
    for adata in mdata.mod.values():
        categories = list(adata.obs["perturbation"].cat.categories)
        new = dict(zip(categories, HOSTILE, strict=False))
        for column in ("perturbation", "target_gene"):
            adata.obs[column] = adata.obs[column].cat.rename_categories(new)
        adata.obs[HOSTILE[0]] = pd.Categorical(np.where(np.arange(adata.n_obs) % 2, HOSTILE[1], HOSTILE[3]))
    rna = mdata["rna"]
    rna.var_names = [*HOSTILE, *rna.var_names[len(HOSTILE) :]]
    mdata["image"].uns["channel_names"] = [HOSTILE[1], *mdata["image"].uns["channel_names"][1:]]
    return mdata


@pytest.fixture(scope="session")
def make_mapped(make_planted: Callable[..., MuData]) -> Callable[..., MuData]:
    """Make a screen whose perturbations are clusters on a map, each in both modalities."""

    def make(**changes: Any) -> MuData:
        mdata = make_planted(**{"n_cells": 800, "image_size": 12, **changes})
        labels = np.concatenate([part.obs["perturbation"].astype(str).to_numpy() for part in mdata.mod.values()])
        codes = pd.factorize(labels, sort=True)[0]
        angle = 2 * np.pi * codes / (codes.max() + 1)
        rng = np.random.default_rng(0)
        centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        mdata.obsm["X_umap"] = 10 * centre + 0.4 * rng.normal(size=(len(codes), 2))
        mdata.obsm["X_petri"] = np.hstack([centre, rng.normal(size=(len(codes), 4))]).astype(np.float32)
        return mdata

    return make


@pytest.fixture(scope="session")
def mapped(make_mapped: Callable[..., MuData]) -> MuData:
    """A screen on a map; shared, so tests must not change it."""
    return make_mapped()


@pytest.fixture(scope="session")
def hostile() -> list[str]:
    """Names that would break a page, a formula or a progress bar."""
    return HOSTILE


@pytest.fixture(scope="session")
def hostile_screen(make_mapped: Callable[..., MuData]) -> MuData:
    """A screen whose first perturbations, genes, columns and channels have hostile names; shared."""
    return hostile_names(make_mapped())


@pytest.fixture(scope="session")
def hostile_page(hostile_screen: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer of a screen with hostile names."""
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    return pages.explorer(hostile_screen, path=path, title=HOSTILE[0], progress=False)


class PageFile:
    """What is written in a page: ``meta``, and the texts of its other elements."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        found = re.findall(r'<script type="[^"]*" id="([^"]*)">(.*?)</script>', self.text, flags=re.DOTALL)
        self.elements = dict(found)
        self.meta = json.loads(self.elements["meta"])
        self.columns = {column["id"]: column for column in self.meta.get("columns", [])}

    def array(self, name: str, dtype: str = "u1") -> NDArray[Any]:
        """Numbers of an element."""
        return np.frombuffer(zlib.decompress(base64.b64decode(self.elements[name])), dtype=f"<{dtype}")

    def words(self, name: str) -> list[str]:
        """Names in an element."""
        return json.loads(zlib.decompress(base64.b64decode(self.elements[name])))

    def values(self, column_id: str) -> NDArray[Any]:
        """Values of a column, NaN or ``None`` where they are missing."""
        column = self.columns[column_id]
        codes = self.array(column["data"], column.get("type", "u1"))
        if column["kind"] == "number":
            return np.where(codes == 255, np.nan, column["low"] + column["step"] * codes.astype(float))
        return np.array([*column["categories"], None], dtype=object)[np.minimum(codes, len(column["categories"]))]


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], PageFile]:
    """Read a page as a file."""
    return PageFile


def find_chromium() -> str | None:
    """A Chromium or Chrome of this machine; ``PETRI_SCVI_CHROMIUM`` names another."""
    named = os.environ.get("PETRI_SCVI_CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUM)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, whose graphics card is imitated by the processor."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed; PETRI_SCVI_CHROMIUM may name one")
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=options)
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; afterwards, nothing may have left it, and the console must be empty."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_page(
        path: Path, fragment: str = "", *, width: int = 1280, view: str = "cells", init: str = "", **options: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if init:
            page.add_init_script(init)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        own = (path.as_uri(), "blob:", "data:")
        page.on(
            "request",
            lambda request: None if request.url.startswith(own) else complaints.append(f"request: {request.url}"),
        )
        page.goto(f"{path.as_uri()}{fragment}")
        page.wait_for_function(f"(document.body.dataset.ready || '').split(' ').includes('{view}')")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # The first is what drivers say about their speed, the second what tests cause that read pixels.
    harmless = ("GL Driver Message", "willReadFrequently")
    assert [text for text in complaints if not any(part in text for part in harmless)] == []
