"""Size, writing time, first picture and frame rate of the explorer: ``python -m benchmarks.explorer``.

Chromium runs without a window and without a GPU, so that WebGL is emulated by the processor. Frames are counted while
the map is dragged for some seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData

from petri_scvi import datasets, pages
from petri_scvi._compat import columns_stay_in_modalities

COUNT_FRAMES = """
() => { window.frames_seen = 0; const tick = () => { window.frames_seen += 1; requestAnimationFrame(tick) };
requestAnimationFrame(tick) }
"""


def make_screen(n_cells: int) -> MuData:
    """A synthetic screen with a random embedding and map: what they show does not matter here."""
    mdata = datasets.synthetic_screen(0, n_cells=n_cells // 2, n_pathways=12)
    rng = np.random.default_rng(0)
    mdata.obsm["X_petri"] = rng.normal(size=(mdata.n_obs, 16)).astype(np.float32)
    mdata.obsm["X_umap"] = rng.normal(size=(mdata.n_obs, 2))
    return mdata


def make_points(n_cells: int) -> MuData:
    """Cells without measurements, for the frame rate of a large map."""
    rng = np.random.default_rng(0)
    cells = AnnData(obsm={"X_petri": rng.normal(size=(n_cells, 8)).astype(np.float32)})
    cells.obs["perturbation"] = rng.choice([f"gene {i}" for i in range(50)], size=n_cells)
    with columns_stay_in_modalities():
        mdata = MuData({"image": cells})
    mdata.obsm["X_petri"] = cells.obsm["X_petri"]
    mdata.obsm["X_umap"] = rng.normal(size=(n_cells, 2))
    return mdata


def write(mdata: MuData, path: Path) -> dict[str, float]:
    """Write a page; its size and the seconds it took."""
    start = time.perf_counter()
    pages.explorer(mdata, path=path, control=None, progress=False)
    return {"seconds to write": time.perf_counter() - start, "megabytes": path.stat().st_size / 1e6}


def look(path: Path, seconds: float) -> dict[str, float]:
    """Seconds to the first picture, and frames per second while the map is dragged."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    executable = os.environ.get("PETRI_SCVI_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        page: Any = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready~=cells]", state="attached", timeout=120_000)
        first = time.perf_counter() - start
        page.wait_for_timeout(1000)
        page.mouse.move(400, 400)
        page.mouse.down()
        page.evaluate(COUNT_FRAMES)
        start, i = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            page.mouse.move(400 + 80 * np.sin(i / 10), 400 + 80 * np.cos(i / 10))
            i += 1
        rate = page.evaluate("window.frames_seen") / (time.perf_counter() - start)
        browser.close()
    return {"seconds to the first picture": first, "frames per second": rate}


def main() -> None:
    """Measure a page of cells with crops, and a large map."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000, help="cells with crops or expression")
    parser.add_argument("--points", type=int, default=100_000, help="cells of the large map")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the map is dragged")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        for name, mdata in (("cells", make_screen(arguments.cells)), ("points", make_points(arguments.points))):
            path = Path(folder) / f"{name}.html"
            found = write(mdata, path) | look(path, arguments.seconds)
            print(f"{mdata.n_obs:,} {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
