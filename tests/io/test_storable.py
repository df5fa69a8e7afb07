"""What a training store cannot hold is refused by name, before anything is written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from petri_scvi import io
from petri_scvi.io.store import _arrays, _write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ["a/b", "a\\b", "a\0b", "", "."]
SLOTS: dict[str, Callable[[AnnData, str], None]] = {
    "a key of source.layers": lambda rna, name: rna.layers.__setitem__(name, rna.X.copy()),
    "a key of source.obsm": lambda rna, name: rna.obsm.__setitem__(name, np.ones((rna.n_obs, 2))),
    "a key of source.varm": lambda rna, name: rna.varm.__setitem__(name, np.ones((rna.n_vars, 2))),
    "a key of source.uns": lambda rna, name: rna.uns.__setitem__(name, 1),
    "a key of source.uns['a']": lambda rna, name: rna.uns.__setitem__("a", {name: 1}),
    "a column of source.obs": lambda rna, name: rna.obs.__setitem__(name, 1),
    "a column of source.var": lambda rna, name: rna.var.__setitem__(name, 1),
    "a column of source.obsm['a']": lambda rna, name: rna.obsm.__setitem__(
        "a", pd.DataFrame({name: np.ones(rna.n_obs)}, index=rna.obs_names)
    ),
    "the name of the index of source.obs": lambda rna, name: setattr(rna.obs.index, "name", name),
}


def refused(source: Any, folder: Path, suffix: str = ".h5ad") -> str:
    """The error, after which the folder is as it was."""
    with pytest.raises(ValueError, match=".") as raised:
        io.write_training_store(source, folder / f"s{suffix}", progress=False)
    assert list(folder.iterdir()) == []
    return str(raised.value)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slot", SLOTS)
def test_names_that_would_be_another_place_in_the_file_are_refused(
    slot: str, name: str, suffix: str, rna: AnnData, tmp_path: Path
) -> None:
    SLOTS[slot](rna, name)
    assert f"{slot} is {name!r}, which would be another place in the file. Rename it" in refused(rna, tmp_path, suffix)


@pytest.mark.parametrize("name", NAMES)
def test_modalities_of_such_names_are_refused(name: str, rna: AnnData, tmp_path: Path) -> None:
    assert f"a modality is {name!r}, which would be another place" in refused({name: rna}, tmp_path, ".h5mu")


def test_names_with_colons_are_kept_apart(rna: AnnData, tmp_path: Path) -> None:
    """The records call the layer X of rna as they would the X of a modality named rna:layers."""
    rna.layers["X"] = rna.X * 2
    other = AnnData(rna.X, obs=rna.obs.set_axis("other" + rna.obs_names, axis=0), var=rna.var.set_axis(list("abcdefg")))
    io.write_training_store({"rna": rna, "rna:layers": other}, tmp_path / "s.h5mu", progress=False)
    io.verify_training_store(tmp_path / "s.h5mu", progress=False)
    stored = io.open_screen(tmp_path / "s.h5mu")
    doubled, plain = stored["rna"].layers["X"].to_memory(), stored["rna:layers"].X.to_memory()
    np.testing.assert_array_equal(doubled.toarray(), rna[stored["rna"].obs_names].layers["X"].toarray())
    np.testing.assert_array_equal(plain.toarray(), other[stored["rna:layers"].obs_names].X.toarray())


@pytest.mark.parametrize(
    ("column", "code"),
    [
        (pd.date_range("2020", periods=30), ".map(str, na_action='ignore').astype('category')"),
        (pd.cut(np.arange(30), 3), ".map(str, na_action='ignore').astype('category')"),
        (pd.to_timedelta(np.arange(30), unit="s"), ".map(str, na_action='ignore').astype('category')"),
        (np.array([1, "a"] * 15, dtype=object), ".map(str, na_action='ignore').astype('category')"),
        (pd.Series([[1]] * 30).to_numpy(), ".map(str, na_action='ignore').astype('category')"),
        (np.array([None] * 30, dtype=object), ".astype(float)"),
        (np.array([True, None] * 15, dtype=object), ".astype('boolean')"),
    ],
)
def test_columns_that_hdf5_cannot_store_are_refused_and_the_advice_stores_them(
    column: Any, code: str, rna: AnnData, tmp_path: Path
) -> None:
    rna.obs["time"] = column
    message = refused(rna, tmp_path)
    found = re.search(r"Convert it: (source.obs\['time'\] = .*); or drop it", message)
    assert found is not None, message
    assert found[1].endswith(code)
    exec(found[1], {"source": rna, "pandas": pd})
    io.write_training_store(rna, tmp_path / "s.h5ad", progress=False)
    stored = io.open_screen(tmp_path / "s.h5ad").obs["time"]
    assert stored.astype(object).where(stored.notna(), None).tolist() == (
        rna.obs["time"].astype(object).where(rna.obs["time"].notna(), None)[stored.index].tolist()
    )


def test_a_column_that_two_files_fill_differently_is_refused(make: Any, tmp_path: Path) -> None:
    first, second = make["rna"](), make["rna"](prefix="s")
    first.obs["dose"], second.obs["dose"] = 1, "high"
    assert "source.obs['dose'] has dtype object with values of kind mixed" in refused([first, second], tmp_path)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize(
    ("array", "match"),
    [
        (
            np.ones((30, 0)),
            "source.obsm['a'] has shape (30, 0), so there is nothing in it. Delete it: del source.obsm['a']",
        ),
        (np.ones((30, 2), dtype=complex), "source.obsm['a'] has dtype complex128; expected integers or floats"),
        (np.ones((30, 2), dtype=object), "source.obsm['a'] has dtype object; expected integers or floats"),
        (np.full((30, 2), 1e39), "obsm/a has 60 values that are too large for float32, for example 1e+39"),
        (sparse.csr_matrix(np.full((30, 2), 1e39)), "obsm/a has 60 values that are too large for float32"),
    ],
)
def test_arrays_that_training_could_not_read_are_refused(
    array: Any, match: str, suffix: str, rna: AnnData, tmp_path: Path
) -> None:
    rna.obsm["a"] = array
    assert match in refused(rna, tmp_path, suffix)
    del rna.obsm["a"]
    io.write_training_store(rna, tmp_path / f"s{suffix}", progress=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rna: setattr(rna, "X", rna.X.toarray().astype("float16")), "source.X has dtype float16"),
        (lambda rna: rna.layers.__setitem__("c", rna.X.astype(complex)), "source.layers['c'] has dtype complex128"),
        (lambda rna: setattr(rna, "X", rna.X.astype(float) * 1e39), "X has"),
        (lambda rna: rna.layers.__setitem__("d", rna.X.toarray().astype(float) * 1e39), "layers/d has"),
        (
            lambda rna: rna.uns.__setitem__("a", {"b": object()}),
            "source.uns['a']['b'] is a object that files cannot hold",
        ),
        (lambda rna: rna.varm.__setitem__("v", np.ones((7, 2), dtype=object)), "source.varm['v'] has dtype object"),
        (lambda rna: rna.obs.__setitem__("_index", 1), "a column of source.obs is '_index'"),
    ],
)
def test_matrices_and_what_is_beside_them_are_refused_too(
    change: Callable[[AnnData], None], match: str, rna: AnnData, tmp_path: Path
) -> None:
    change(rna)
    assert match in refused(rna, tmp_path)


def test_a_screen_without_cells_is_refused(rna: AnnData, image: AnnData, tmp_path: Path) -> None:
    assert "source['rna'] has no cells" in refused({"image": image, "rna": rna[:0].copy()}, tmp_path, ".h5mu")


def test_values_on_disk_are_looked_at_in_blocks(rna: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rna.X = rna.X.astype("float64")
    rna.obsm["a"] = np.ones((30, 4))
    rna.obsm["a"][29, 3] = -1e300
    rna.write_h5ad(tmp_path / "source.h5ad")
    sizes = []

    def note(values: np.ndarray, where: str) -> None:
        sizes.append(values.nbytes)
        check(values, where)

    check = _arrays.check_float32
    monkeypatch.setattr(_arrays, "check_float32", note)
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match="obsm/a has 1 values that are too large for float32, for example -1e\\+300"):
        io.write_training_store(
            tmp_path / "source.h5ad", tmp_path / "new" / "s.h5ad", progress=False, max_memory=_write.N_COPIES * 256
        )
    assert max(sizes) <= 256
    assert len(sizes) > 4


def test_columns_that_a_store_writes_itself_are_refused(rna: AnnData, tmp_path: Path) -> None:
    rna.obs["source"] = "mine"
    io.write_training_store(rna, tmp_path / "one.h5ad", progress=False)
    assert set(io.open_screen(tmp_path / "one.h5ad").obs["source"]) == {"mine"}
    (tmp_path / "one.h5ad").unlink()
    assert "source (0).obs has a column 'source', which a training store writes itself" in refused([rna, rna], tmp_path)
    rna.obs = rna.obs.rename(columns={"source": "my_source"}).assign(source_row=1)
    assert "source.obs has a column 'source_row'" in refused(rna, tmp_path)


def test_a_store_can_be_stored_again(rna: AnnData, tmp_path: Path) -> None:
    io.write_training_store(rna, tmp_path / "one.h5ad", progress=False)
    io.write_training_store(tmp_path / "one.h5ad", tmp_path / "two.h5ad", progress=False, seed=1)
    one, two = (io.open_screen(tmp_path / f"{name}.h5ad") for name in ("one", "two"))
    assert one.obs_names[two.obs["source_row"]].equals(two.obs_names)
