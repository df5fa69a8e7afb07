"""Screens that the tests of the baselines share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest

from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray


@pytest.fixture(scope="session")
def _original(make_screen: Callable[..., MuData]) -> MuData:
    with columns_stay_in_modalities():
        return make_screen()


@pytest.fixture
def screen(_original: MuData) -> MuData:
    """A copy of one tiny screen, free to be changed: a copy is quicker than a new one."""
    return _original.copy()


@pytest.fixture
def on_disk(screen: MuData, tmp_path: Path) -> MuData:
    """The tiny screen with its crops in a compressed HDF5 file, which can only be read row by row."""
    images = screen["image"].obsm["single_cell_images"]
    with h5py.File(tmp_path / "crops.h5", "w") as file:
        file.create_dataset("crops", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
    screen["image"].obsm["single_cell_images"] = h5py.File(tmp_path / "crops.h5")["crops"]
    return screen


@pytest.fixture(scope="session")
def unchanged() -> Callable[..., Any]:
    """Context after which values, columns and slots of every modality must be what they were."""

    @contextmanager
    def unchanged(mdata: MuData) -> Iterator[None]:
        before = {name: _contents(part) for name, part in mdata.mod.items()}
        slots = (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs))
        yield
        assert (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs)) == slots
        for name, contents in before.items():
            now = _contents(mdata[name])
            assert list(now) == list(contents), name
            for place, values in contents.items():
                if isinstance(values, pd.DataFrame):
                    pd.testing.assert_frame_equal(now[place], values)
                else:
                    np.testing.assert_array_equal(now[place], values, err_msg=f"{name} {place}")

    return unchanged


def _contents(part: AnnData) -> dict[str, Any]:
    """Copies of all that a model could change, by place; arrays on disk are read."""
    contents: dict[str, Any] = {"obs": part.obs.copy(), "var": part.var.copy(), "uns": sorted(part.uns)}
    contents["X"] = _dense(part.X)
    for place in ("obsm", "varm", "obsp", "varp", "layers"):
        contents |= {f"{place} {key}": _dense(array) for key, array in getattr(part, place).items() if key is not None}
    return contents


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if hasattr(values, "toarray") else np.array(values)
