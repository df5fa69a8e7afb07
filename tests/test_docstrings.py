"""The examples of docstrings run as they are written, on files and screens of the names that they use."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import inspect
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from packaging.version import Version

import petri_scvi
from petri_scvi import PETRI, baselines, datasets, tl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

SOURCE = Path(petri_scvi.__file__).parent
DOWNLOADS = ("hepg2_screen", "olfactory_bulb", "periscope", "perturb_multi", "replogle", "rosetta", "scgenescope")
"""Functions of ``datasets`` that read large files; here they return a small screen if they take the arguments."""
TABLES = ("rosetta", "scgenescope")
"""Those of which the examples read a table of features and one of continuous values."""
TRAINED = (PETRI, baselines.CLIP, baselines.CellCLIP, baselines.GroupCLIP, baselines.MAE, baselines.MULTIVI)


def examples() -> Iterator[Any]:
    """Yield the examples of each docstring of the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            found = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
            if found:
                yield pytest.param(path.stem, found, id=f"{path.stem}-{getattr(node, 'name', 'module')}")


EXAMPLES = list(examples())


def write_fields(rng: np.random.Generator) -> pd.DataFrame:
    """Write two fields as TIFF, with masks and with a table of centres, and return the perturbation of each cell."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("dask")
    masks = np.zeros((128, 128), dtype=np.uint16)
    centres = [(40, 40), (40, 88), (88, 40), (88, 88)]
    for label, (row, column) in enumerate(centres, start=1):
        masks[row - 6 : row + 7, column - 6 : column + 7] = label
    for field in ("A1-0", "A1-1"):
        tifffile.imwrite(
            f"{field}.tif", rng.integers(0, 4000, (2, 128, 128), dtype=np.uint16), photometric="minisblack"
        )
        tifffile.imwrite(f"{field}_cells.tif", masks)
    for channel in ("DNA", "ER"):
        tifffile.imwrite(f"{channel}.tif", rng.integers(0, 4000, (128, 128), dtype=np.uint16))
    pd.DataFrame({"ImageNumber": [1], "FileName_DNA": ["DNA.tif"], "FileName_ER": ["ER.tif"]}).to_csv("Image.csv")
    nuclei = pd.DataFrame(centres, columns=["Location_Center_Y", "Location_Center_X"])
    nuclei.assign(ImageNumber=1).to_csv("Nuclei.csv", index=False)
    cells = [(field, label) for field in ("A1-0", "A1-1") for label in range(1, 5)]
    return pd.DataFrame(cells, columns=["field", "label"]).assign(perturbation=["a", "b"] * 4)


def write_slide(rng: np.random.Generator) -> None:
    """Write a slide as a SpatialData object with labelled cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spatialdata = pytest.importorskip("spatialdata")
        from spatialdata.models import Image2DModel, Labels2DModel, TableModel

    if Version(spatialdata.__version__) <= Version("0.7.3") and Version(anndata.__version__) >= Version("0.13"):
        pytest.skip("spatialdata 0.7.3 cannot hold tables of anndata 0.13")
    masks = np.zeros((160, 160), dtype=np.int32)
    masks[50:60, 50:60], masks[90:100, 90:100] = 1, 2
    obs = pd.DataFrame({"region": pd.Categorical(["cells"] * 2), "instance": [1, 2], "perturbation": ["a", "b"]})
    table = anndata.AnnData(np.ones((2, 1), np.float32), obs=obs.rename(str))
    spatialdata.SpatialData(
        images={"stains": Image2DModel.parse(rng.integers(0, 99, (2, 160, 160), np.uint16), dims=("c", "y", "x"))},
        labels={"cells": Labels2DModel.parse(masks, dims=("y", "x"))},
        tables={"guides": TableModel.parse(table, region="cells", region_key="region", instance_key="instance")},
    ).write("screen.zarr")


def with_table(mdata: MuData, rng: np.random.Generator) -> MuData:
    """The screen with a layer of raw counts and a table of features as a third modality."""
    rna, table = mdata["rna"].copy(), anndata.AnnData(obs=mdata["image"].obs.rename("cp_{}".format))
    rna.layers["raw"] = rna.X.copy()
    table.obsm["X_cp"] = rng.standard_normal((table.n_obs, 12))
    return petri_scvi.pp.build_mudata(image=mdata["image"].copy(), rna=rna, cp=table)


def call_is_valid(function: Callable[..., Any], result: Any) -> Callable[..., Any]:
    """Take the arguments of a function and no others, and return something small."""

    def call(*positional: Any, **named: Any) -> Any:
        inspect.signature(function).bind(*positional, **named)
        return result

    return call


@pytest.fixture
def names(
    make_screen: Callable[..., MuData],
    trained_model: PETRI,
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """What the examples take as given: data, models and files, small enough to run within seconds."""
    monkeypatch.chdir(tmp_path)
    parts = {"periscope": "image", "replogle": "rna"}
    for name in DOWNLOADS:
        screen = make_screen(n_cells=120)
        if name in TABLES:
            for part in screen.mod:
                obs = screen[part].obs
                screen.mod[part] = anndata.AnnData(rng.standard_normal((len(obs), 6)).astype(np.float32), obs)
            screen.uns[name] = {"kinds": {"image": "features", "rna": "continuous"}}
        result = screen[parts[name]] if name in parts else screen
        monkeypatch.setattr(datasets, name, call_is_valid(getattr(datasets, name), result))
    for model in (*TRAINED, baselines.CrossModalAutoencoder):
        monkeypatch.setattr(model, "train", functools.partialmethod(model.train, max_epochs=1, accelerator="cpu"))
    mdata = make_screen()
    mdata.obsm["X_petri"] = rng.standard_normal((mdata.n_obs, 8)).astype(np.float32)
    mdata.obsm["X_umap"] = rng.standard_normal((mdata.n_obs, 2))
    for modality in ("image", "rna"):
        mdata[modality].obsm["X_pca"] = rng.standard_normal((mdata[modality].n_obs, 8))
        mdata[modality].write_h5ad(f"{modality}.h5ad")
    monkeypatch.setattr(tl, "fit_sae", functools.partial(tl.fit_sae, n_dimensions=32, max_epochs=1, accelerator="cpu"))
    small = functools.partial(
        datasets.synthetic_screen, n_cells=160, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16
    )
    monkeypatch.setattr(datasets, "synthetic_screen", small)
    return {
        "petri_scvi": petri_scvi,
        "anndata": anndata,
        "pandas": pd,
        "scanpy": scanpy,
        "mdata": mdata,
        "other": mdata.copy(),
        "model": trained_model,
        "mae": trained_model,
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "found"), EXAMPLES)
def test_the_example_runs(
    module: str, found: list[doctest.Example], names: dict[str, Any], rng: np.random.Generator
) -> None:
    if module == "_open":
        names["mdata"].write("screen.h5mu")
    if module == "_crops_from_fields":
        names["calls"] = write_fields(rng)
    if module == "_crops_from_spatialdata":
        write_slide(rng)
    if module == "_kinds":
        names["mdata"] = with_table(names["mdata"], rng)
    for example in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, module, "single"), names)
        if example.want:
            assert doctest.OutputChecker().check_output(example.want, printed.getvalue(), doctest.ELLIPSIS)


def test_every_example_is_found() -> None:
    assert len(EXAMPLES) >= 20  # docstrings with examples when this was written
