"""Cut crops out of a SpatialData object, beside squidpy and spatialdata's own tiles; ``python -m benchmarks.crops``."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from petri_scvi import pp

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import geopandas
        import spatialdata
        import squidpy
        from shapely import Point
        from spatialdata.dataloader import ImageTilesDataset
        from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel
except ImportError as error:
    raise SystemExit(
        f"{error.name} is missing; docs/installation.md says how to make spatial.txt, then run "
        'pip install -c spatial.txt ".[spatial]" squidpy'
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SIDE, N_CHANNELS, SPACING, SIZE = 3600, 5, 80, 64
N_TILES = 32
"""Cells for the ways that would take minutes for all."""


def make(chunk: int) -> tuple[Any, NDArray[np.uint16], NDArray[np.float64]]:
    """A SpatialData object of 2,025 round cells, its image and their centres as x, y."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2**16, (N_CHANNELS, SIDE, SIDE), dtype=np.uint16)
    grid = np.arange(SPACING // 2, SIDE, SPACING)
    rows, columns = (axis.ravel() + rng.integers(-18, 19, axis.size) for axis in np.meshgrid(grid, grid, indexing="ij"))
    labels = np.zeros((SIDE, SIDE), dtype=np.int32)
    reach = np.arange(-20, 21)
    disc = np.hypot(reach[:, None], reach) <= 20
    for label, (row, column) in enumerate(zip(rows, columns, strict=True), start=1):
        labels[row - 20 : row + 21, column - 20 : column + 21][disc] = label
    ids = np.arange(1, len(rows) + 1)
    obs = pd.DataFrame({"region": pd.Categorical(["cells"] * len(ids)), "instance": ids}, index=ids.astype(str))
    table = TableModel.parse(AnnData(obs=obs), region="cells", region_key="region", instance_key="instance")
    pixels, where, counts = labels.ravel(), np.indices(labels.shape), np.bincount(labels.ravel())[1:]
    centres = np.stack([np.bincount(pixels, weights=axis.ravel())[1:] / counts + 0.5 for axis in where[::-1]], axis=1)
    circles = geopandas.GeoDataFrame({"geometry": [Point(*xy) for xy in centres], "radius": SIZE / 2}, index=ids)
    sdata = spatialdata.SpatialData(
        images={"stains": Image2DModel.parse(image, dims=("c", "y", "x"), chunks=(1, chunk, chunk))},
        labels={"cells": Labels2DModel.parse(labels, dims=("y", "x"), chunks=(chunk, chunk))},
        shapes={"circles": ShapesModel.parse(circles)},
        tables={"guides": table},
    )
    return sdata, image, centres


def squidpy_crops(image: NDArray[np.uint16], centres: NDArray[np.float64]) -> Callable[[], list[NDArray[Any]]]:
    """Its crops are of odd size: 65 for 64."""
    container = squidpy.im.ImageContainer(image, layer="stains", dims=("channels", "y", "x"), lazy=False)
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(centres))]), obsm={"spatial": centres})
    adata.uns["spatial"] = {"one": {"scalefactors": {"spot_diameter_fullres": float(SIZE)}}}
    return lambda: list(container.generate_spot_crops(adata, as_array="stains", squeeze=True))


def tiles(sdata: Any) -> Callable[[], list[Any]]:
    subset = spatialdata.SpatialData(
        images={"stains": sdata["stains"]}, shapes={"circles": sdata["circles"].iloc[:N_TILES]}
    )
    dataset = ImageTilesDataset(subset, {"circles": "stains"}, {"circles": "global"}, tile_dim_in_units=SIZE)
    return lambda: [np.asarray(dataset[i]["stains"].data.compute()) for i in range(N_TILES)]


def queries(sdata: Any, centres: NDArray[np.float64]) -> Callable[[], list[Any]]:
    def cut() -> Iterator[Any]:
        for centre in centres[:N_TILES]:
            low, high = centre - SIZE / 2, centre + SIZE / 2
            part = spatialdata.bounding_box_query(
                sdata["stains"],
                axes=("x", "y"),
                min_coordinate=low,
                max_coordinate=high,
                target_coordinate_system="global",
            )
            yield np.asarray(part.data.compute())

    return lambda: list(cut())


def check_equal(sdata: Any, crops: list[NDArray[Any]]) -> None:
    """Ours at squidpy's size are squidpy's."""
    ours = pp.crops_from_spatialdata(sdata, image="stains", labels="cells", table="guides", size=SIZE + 1)
    for label, crop in zip(ours.obs["label"], ours.obsm["single_cell_images"], strict=True):
        np.testing.assert_array_equal(crop, np.moveaxis(np.asarray(crops[label - 1]).squeeze(), -1, 0))


def in_turns(calls: dict[str, Callable[[], Any]], n_rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds on the clock and of the processor of each call, in turns, after a round that does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for i in range(1 + n_rounds):
        for name, call in calls.items():
            gc.collect()  # what the way before left behind is not of this one
            clock, processor = time.perf_counter(), time.process_time()
            result = call()
            if i:
                found[name].append((time.perf_counter() - clock, time.process_time() - processor))
            del result
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-rounds", type=int, default=7)
    parser.add_argument("--chunk", type=int, default=1024, help="side of the chunks of image and labels")
    args = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()}")
    print(", ".join(f"{name} {version(name)}" for name in ("spatialdata", "squidpy", "dask", "zarr", "numpy")))
    sdata, image, centres = make(args.chunk)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "screen.zarr"
        sdata.write(path)
        stored = spatialdata.read_zarr(path)

        def ours(source: Any, **arguments: Any) -> Callable[[], AnnData]:
            cells = {"labels": "cells", "table": "guides"} if "shapes" not in arguments else {}
            return lambda: pp.crops_from_spatialdata(source, image="stains", size=SIZE, **cells, **arguments)

        ways: dict[str, tuple[Callable[[], Any], int]] = {
            "ours, labels": (ours(sdata), len(centres)),
            "ours, labels, masked by label": (ours(sdata, mask_by_label=True), len(centres)),
            "ours, circles": (ours(sdata, shapes="circles"), len(centres)),
            "ours, labels, from zarr on disk": (ours(stored), len(centres)),
            "squidpy generate_spot_crops, centres given, 65 px": (squidpy_crops(image, centres), len(centres)),
            "spatialdata bounding_box_query, centres given": (queries(sdata, centres), N_TILES),
            "spatialdata ImageTilesDataset, circles": (tiles(sdata), N_TILES),
        }
        check_equal(sdata, ways["squidpy generate_spot_crops, centres given, 65 px"][0]())
        sizes = {crop.shape[1:] for crop in ways["spatialdata ImageTilesDataset, circles"][0]()}
        print(f"{len(centres)} cells, image {image.shape}; sizes of spatialdata's tiles: {sorted(sizes)}")
        seconds = in_turns({name: call for name, (call, _) in ways.items()}, args.n_rounds)
    base = seconds["ours, labels"]
    print("| way | cells/s, median [least to most] | per CPU second | ours, labels, is faster by: clock; CPU |")
    for name, (_, n_cells) in ways.items():
        clock, processor = ([n_cells / one[i] for one in seconds[name]] for i in (0, 1))
        ratios = [
            median(one[i] / n_cells * len(centres) / mine[i] for one, mine in zip(seconds[name], base, strict=True))
            for i in (0, 1)
        ]
        spread = f"{median(clock):,.0f} [{min(clock):,.0f} to {max(clock):,.0f}]"
        print(f"| {name} | {spread} | {median(processor):,.0f} | {ratios[0]:.1f}; {ratios[1]:.1f} |")


if __name__ == "__main__":
    main()
