"""What writes a file is killed at random moments, or runs out of disk: nothing is half-written, and nothing is left.

Training, downloads and the conversion of Perturb-Multi, which go on where they were, have tests of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from anndata import read_h5ad
from mudata import read_h5mu

from petri_scvi import PETRI, io, pages, tl
from petri_scvi.common._sealed import check_seal
from tests.kill_process import killed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

resource = pytest.importorskip("resource", reason="needs POSIX")
MAX_MEMORY = 200_000
"""Several blocks per array of a store."""


class Writer(NamedTuple):
    """A function that writes to a path, and one that fails if what is there is not complete."""

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


def read_table(path: Path) -> None:
    found = (read_h5ad if path.suffix == ".h5ad" else read_h5mu)(path)
    assert np.isfinite(found.obsm["X_petri"]).all()


def read_zarr(path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    assert np.isfinite(zarr.open_group(path, mode="r")["obsm/X_petri"][:]).all()


def read_page(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def writers(make_screen: Callable[..., MuData], tiny: dict[str, Any]) -> dict[str, Writer]:
    """Writers by the name of what they write."""
    mdata, unembedded = make_screen(n_cells=1200), make_screen(n_cells=1200)
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=1, max_steps=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    mdata.obsm["X_petri"] = model.get_latent_representation()
    mdata.obsm["X_umap"] = mdata.obsm["X_petri"][:, :2].copy()
    sae = tl.fit_sae(mdata, n_dimensions=64, max_epochs=1, accelerator="cpu", progress=False)

    def store(path: Path) -> None:
        io.write_training_store(unembedded, path, max_memory=MAX_MEMORY, progress=False)

    def verify(path: Path) -> None:
        io.verify_training_store(path, progress=False)

    def scale(path: Path) -> None:
        tl.center_scale(mdata, "X_petri", key_added="X_scaled", folder=path.parent)

    return {
        "model": Writer(lambda path: model.save(path, overwrite=True), lambda path: PETRI.load(path, mdata)),
        "model_with_data": Writer(lambda path: model.save(path, overwrite=True, save_anndata=True), PETRI.load),
        "sae.pt": Writer(lambda path: sae.save(path, overwrite=True), check_seal),
        "embedding.h5mu": Writer(model.write_latent_representation, read_table),
        "embedding.h5ad": Writer(lambda path: model.write_latent_representation(path, modality="rna"), read_table),
        "embedding.zarr": Writer(model.write_latent_representation, read_zarr),
        "X_scaled.npy": Writer(scale, np.load),
        "explorer.html": Writer(lambda path: pages.explorer(mdata, path=path, progress=False), read_page),
        "store.h5mu": Writer(store, verify),
        "store.zarr": Writer(store, verify),
    }


NAMES = [
    "model",
    "model_with_data",
    "sae.pt",
    "embedding.h5mu",
    "embedding.h5ad",
    "embedding.zarr",
    "X_scaled.npy",
    "explorer.html",
    "store.h5mu",
    "store.zarr",
]
REPLACED = {"model", "model_with_data", "sae.pt", "explorer.html"}
"""What a second call replaces. The others refuse a path that exists."""


def remove(path: Path) -> None:
    """Delete a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def outcome(call: Callable[[], Any], max_bytes: int | None = None) -> str:
    """Call in a child, where no file can have more than some bytes; ``"done"``, an error or a signal.

    In a child, because libraries that have run threads in this process cannot in its later children.
    """
    reader, report = os.pipe()

    def reported() -> None:
        try:
            if max_bytes is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
            call()
        except Exception as error:  # noqa: BLE001 - what is raised is what is tested
            os.write(report, f"{type(error).__name__}: {error}"[:2000].encode())
        else:
            os.write(report, b"done")

    is_killed = killed(reported)
    os.close(report)
    with os.fdopen(reader) as pipe:
        return "killed by a signal" if is_killed else pipe.read()


def write_and_read(writer: Writer, path: Path) -> None:
    """Write, and read what was written."""
    assert outcome(lambda: (writer.write(path), writer.read(path))) == "done"


@pytest.mark.parametrize("n_kills", [pytest.param(4, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    writers: dict[str, Writer], tmp_path: Path, name: str, n_kills: int
) -> None:
    writer, path, rng = writers[name], tmp_path / name, np.random.default_rng(0)
    start = time.perf_counter()
    write_and_read(writer, path)
    seconds = time.perf_counter() - start
    n_killed = n_tried = 0
    while n_killed < n_kills:
        n_tried += 1
        assert n_tried < 10 * n_kills, "the call ends before it is killed"
        if name not in REPLACED and path.exists():
            remove(path)
        n_killed += killed(lambda: writer.write(path), rng.uniform(0, seconds))
        if path.exists():
            assert outcome(lambda: writer.read(path)) == "done"
        else:
            assert name not in REPLACED, "the old file is gone"
    if name not in REPLACED and path.exists():
        remove(path)
    write_and_read(writer, path)
    assert [left.name for left in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_else(
    writers: dict[str, Writer], tmp_path: Path, name: str
) -> None:
    folder, writer = tmp_path / "disk", writers[name]
    folder.mkdir()
    path = folder / name
    write_and_read(writer, path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    n_bytes = max(file.stat().st_size for file in files) // 2
    if name not in REPLACED:
        remove(path)
    found = outcome(lambda: writer.write(path), n_bytes)
    # HDF5 says something else, or crashes, when it cannot write to a file whose size it has reserved.
    # write_training_store requires the free space first, so this takes another program that fills the disk.
    assert "File too large" in found or (name.startswith("store") and found != "done")
    if name in REPLACED:
        assert outcome(lambda: writer.read(path)) == "done"
    else:
        assert not path.exists()
    write_and_read(writer, path)
    assert [left.name for left in folder.iterdir()] == [name]
