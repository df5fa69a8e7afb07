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
from petri_scvi._constants import CONTROL

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


def make_large(mdata: MuData, n_cells: int) -> MuData:
    """More cells than have room for their crops: drawn with replacement from those of a smaller screen."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, part in mdata.mod.items():
        large = part[np.sort(rng.integers(part.n_obs, size=n_cells // 2))].copy()
        large.obs_names = [f"{name}_{i}" for i in range(large.n_obs)]
        parts[name] = large
    with columns_stay_in_modalities():
        large = MuData(parts)
    large.obsm["X_petri"] = rng.normal(size=(large.n_obs, 16)).astype(np.float32)
    large.obsm["X_umap"] = rng.normal(size=(large.n_obs, 2))
    return large


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


def write(mdata: MuData, path: Path, control: str | None = CONTROL) -> dict[str, float]:
    """Write a page; its size, the seconds it took, and those of the processor, which other programs do not lengthen."""
    start, start_busy = time.perf_counter(), time.process_time()
    pages.explorer(mdata, path=path, control=control, progress=False)
    taken = {"seconds to write": time.perf_counter() - start, "processor seconds": time.process_time() - start_busy}
    return taken | {"megabytes": path.stat().st_size / 1e6}


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
        n_crops = page.evaluate("(JSON.parse(document.getElementById('meta').textContent).crops || {n: 0}).n")
        rate = page.evaluate("window.frames_seen") / (time.perf_counter() - start)
        browser.close()
    return {"seconds to the first picture": first, "frames per second": rate, "crops": n_crops}


def main() -> None:
    """Measure a page of cells with crops, with and without a map to make, a page whose crops do not fit, and a map."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000, help="cells with crops or expression")
    parser.add_argument("--large", type=int, default=200_000, help="cells of the screen whose crops do not fit")
    parser.add_argument("--points", type=int, default=100_000, help="cells of the large map")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the map is dragged")
    arguments = parser.parse_args()

    def report(name: str, mdata: MuData, found: dict[str, float]) -> None:
        numbers = ", ".join(f"{key} {value:.2f}" for key, value in found.items())
        print(f"{mdata.n_obs:,} {name}: {numbers}", flush=True)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "explorer.html"
        cells = make_screen(arguments.cells)
        report("cells with crops", cells, write(cells, path) | look(path, arguments.seconds))
        large = make_large(cells, arguments.large)
        report("cells whose crops do not fit", large, write(large, path) | look(path, arguments.seconds))
        points = make_points(arguments.points)
        report("points", points, write(points, path, None) | look(path, arguments.seconds))
        del cells.obsm["X_umap"]
        report("cells, and a UMAP to make", cells, write(cells, path))


if __name__ == "__main__":
    main()
