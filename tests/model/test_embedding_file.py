"""An embedding that is written to a file is the one in memory, and the tools work on it from there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest

from petri_scvi import PETRI, io, tl
from petri_scvi.model import _embedding_file
from petri_scvi.tl import _embedding, _read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

KINDS = ["h5mu", "zarr"]
WHITENED = "X_petri_scaled_whitened"


def read(path: Path) -> Any:
    pytest.importorskip("zarr") if path.suffix == ".zarr" else None
    return {".h5mu": mudata.read_h5mu, ".h5ad": anndata.read_h5ad, ".zarr": mudata.read_zarr}[path.suffix](path)


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "zarr":
        pytest.importorskip("zarr")
    return tmp_path / f"embedding.{request.param}"


def test_the_file_has_all_cells_and_their_embedding(
    trained_model: PETRI, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In HDF5 in the order of the cells, in zarr in that of documents.
    arguments: dict[str, Any] = {}
    if path.suffix == ".zarr":
        arguments = {"pool": "concat", "position": "set_transformer", "seed": 3}
    monkeypatch.setattr(_embedding_file, "CHUNK_ROWS", 100)
    trained_model.write_latent_representation(path, key_added="X_cells", **arguments)
    found, expected = read(path), trained_model.get_latent_representation(**arguments)
    np.testing.assert_array_equal(found.obsm["X_cells"], expected)
    assert found.obsm["X_cells"].dtype == np.float32
    assert found.obs_names.tolist() == trained_model.adata.obs_names.tolist()
    for name in found.mod:
        assert found[name].obs["guide"].tolist() == trained_model.adata[name].obs["guide"].tolist()
    opened = io.open_screen(path)
    assert not isinstance(opened.obsm["X_cells"], np.ndarray)
    np.testing.assert_array_equal(opened.obsm["X_cells"][:], expected)
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_one_modality_is_a_table(trained_model: PETRI, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rna.{suffix}"
    trained_model.write_latent_representation(path, modality="rna")
    opened = io.open_screen(path)
    np.testing.assert_array_equal(opened.obsm["X_petri"][:], trained_model.get_latent_representation(modality="rna"))
    assert opened.obs_names.tolist() == trained_model.adata["rna"].obs_names.tolist()
    assert read(path).shape == (228, 0)


def test_rows_belong_to_their_cells_when_the_mudata_mixes_its_modalities(
    trained_model: PETRI, screen: MuData, rng: np.random.Generator, tmp_path: Path
) -> None:
    shuffled = screen[rng.permutation(468)].copy()
    trained_model.write_latent_representation(tmp_path / "e.h5mu", shuffled)
    opened = io.open_screen(tmp_path / "e.h5mu")
    places = trained_model.adata.obs_names.get_indexer(opened.obs_names)
    np.testing.assert_allclose(
        opened.obsm["X_petri"][:], trained_model.get_latent_representation()[places], rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("in_folder", [False, True])
def test_scaling_and_profiles_from_the_file_are_those_from_memory(
    trained_model: PETRI,
    make_screen: Callable[..., MuData],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_folder: bool,
) -> None:
    for reader in (_embedding, _read_rows):
        monkeypatch.setattr(reader, "CHUNK_ROWS", 50)
    largest = 0
    original = _embedding.read_rows

    def recorded(array: Any, rows: slice, *args: Any) -> Any:
        nonlocal largest
        chunk = original(array, rows, *args)
        largest = max(largest, len(chunk))
        return chunk

    monkeypatch.setattr(_embedding, "read_rows", recorded)
    in_memory = make_screen()
    in_memory.obsm["X_petri"] = trained_model.get_latent_representation()
    trained_model.write_latent_representation(path)
    opened = io.open_screen(path)
    (path.parent / "scaled").mkdir()
    folder = path.parent / "scaled" if in_folder else None
    profiles = []
    for mdata, place in [(in_memory, None), (opened, folder)]:
        tl.center_scale(mdata, replicate_key="batch", folder=place)
        tl.whiten(mdata, folder=place)
        profiles.append(tl.aggregate_profiles(mdata))
    for key in ("X_petri_scaled", WHITENED):
        np.testing.assert_array_equal(opened.obsm[key], in_memory.obsm[key])
        assert isinstance(opened.obsm[key].base, np.memmap) == in_folder
    np.testing.assert_array_equal(profiles[1].X, profiles[0].X)
    assert profiles[1].obs.equals(profiles[0].obs)
    assert largest == 50
    assert len(list((path.parent / "scaled").iterdir())) == 2 * in_folder
    if in_folder:
        with pytest.raises(FileExistsError, match="Delete it, or pass another folder or key_added"):
            tl.whiten(opened, folder=folder)


def test_results_of_single_modalities_are_files_of_their_own(
    trained_model: PETRI, screen: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in screen.mod:
        screen[name].obsm["X"] = trained_model.get_latent_representation(modality=name)
    tl.center_scale(screen, "X", replicate_key="batch", folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image_X_scaled.npy", "rna_X_scaled.npy"]
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        tl.center_scale(screen, "X", replicate_key="batch", folder=tmp_path / "nowhere")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=screen.n_obs * 16 * 4 - 1))
    with pytest.raises(OSError, match="X_again needs .* which has .* free.*pass a folder on another disk"):
        tl.center_scale(screen, "X", replicate_key="batch", folder=tmp_path, key_added="X_again")
    assert not list(tmp_path.glob("*X_again*"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("when", pd.interval_range(0, 228), r"obs\['when'\] has dtype interval.* which files cannot hold. Convert it"),
        ("a/b", 1, "obs is 'a/b', which would be another place"),
        ("mixed", [1, "a"] * 114, r"obs\['mixed'\] has dtype object"),
    ],
)
@pytest.mark.parametrize("modality", [None, "rna"])
def test_columns_that_files_cannot_hold_are_refused_before_any_cell_is_embedded(
    trained_model: PETRI,
    screen: MuData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    values: Any,
    message: str,
    modality: str | None,
) -> None:
    screen["rna"].obs[column] = values

    def embedded(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a cell was embedded")

    monkeypatch.setattr("petri_scvi.model._representation.encode_cells", embedded)
    path = tmp_path / ("e.h5mu" if modality is None else "e.h5ad")
    with pytest.raises(ValueError, match=message):
        trained_model.write_latent_representation(path, screen, modality=modality)
    with pytest.raises(ValueError, match="key_added is 'a/b', which would be another place"):
        trained_model.write_latent_representation(path, modality=modality, key_added="a/b")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_file(trained_model: PETRI, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        assert [left.suffix for left in path.parent.iterdir() if left.suffix] == [".unfinished"]
        assert not path.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_embedding_file, "_copy", stop)
        with pytest.raises(KeyboardInterrupt):
            trained_model.write_latent_representation(path)
    assert list(path.parent.iterdir()) == []
    # A file of that name may be the user's.
    other = path.with_name(f"{path.name}.partial")
    other.write_text("mine")
    trained_model.write_latent_representation(path)
    assert sorted(left.name for left in path.parent.iterdir()) == [path.name, other.name]
    with pytest.raises(FileExistsError, match="Delete it"):
        trained_model.write_latent_representation(path)


def test_a_disk_without_room_for_the_embedding_twice_is_refused(
    trained_model: PETRI, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * trained_model.adata.n_obs * 16 * 4
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=rf"{path.name} needs .* which has .* free.*pass a path on another disk"):
        trained_model.write_latent_representation(path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed))
    trained_model.write_latent_representation(path)
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("e.h5ad", {}, "all modalities is written as .h5mu or .zarr"),
        ("e.h5mu", {"modality": "rna"}, "one modality is written as .h5ad or .zarr"),
        ("e.h5mu", {"pool": None}, "one vector per cell"),
        ("e.h5ad", {"modality": "atac"}, "the model knows"),
    ],
)
def test_what_cannot_be_written_is_refused(
    trained_model: PETRI, tmp_path: Path, name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        trained_model.write_latent_representation(tmp_path / name, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_joint_obsm_in_another_order_is_not_opened(
    trained_model: PETRI, screen: MuData, rng: np.random.Generator, tmp_path: Path
) -> None:
    shuffled = screen[rng.permutation(468)].copy()
    shuffled.obsm["X_petri"] = trained_model.get_latent_representation(shuffled)
    shuffled.write_h5mu(tmp_path / "s.h5mu")
    with pytest.warns(UserWarning, match="joint obsm, .* is not opened: its rows are in another order"):
        opened = io.open_screen(tmp_path / "s.h5mu")
    assert "X_petri" not in opened.obsm
    with h5py.File(tmp_path / "s.h5mu") as file:
        assert "X_petri" in file["obsm"]
