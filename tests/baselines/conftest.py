"""Screens that the tests of the baselines share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray


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
        before = {name: (part.copy(), _dense(part.X).copy()) for name, part in mdata.mod.items()}
        slots = (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs))
        yield
        assert (sorted(mdata.obsm), sorted(mdata.uns), sorted(mdata.obs)) == slots
        for name, (part, values) in before.items():
            now = mdata[name]
            np.testing.assert_array_equal(_dense(now.X), values)
            for place in ("obsm", "varm", "obsp", "layers", "uns"):
                assert sorted(getattr(now, place)) == sorted(getattr(part, place)), (name, place)
            for key, array in part.obsm.items():
                np.testing.assert_array_equal(np.asarray(now.obsm[key]), np.asarray(array))
            assert now.obs.equals(part.obs)
            assert now.var.equals(part.var)

    return unchanged


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)
