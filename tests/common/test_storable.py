"""Values that files cannot hold are refused, with a conversion that works; all others are accepted."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi.common._storable import check_array, check_mapping, check_names, check_table

N = 4
CELLS = [f"c{i}" for i in range(N)]


def objects(*values: Any) -> pd.Series:
    return pd.Series(list(values), dtype=object)


COLUMNS = {
    "whole numbers": np.arange(N),
    "fractions": np.arange(N) / 2,
    "flags": np.ones(N, dtype=bool),
    "text": objects(*"abcd"),
    "text with gaps": objects("a", None, "b", np.nan),
    "categories": pd.Categorical(["a", "b", None, "a"]),
    "categories of numbers": pd.Categorical([1, 2, 1, 2]),
    "numbers with gaps": pd.array([1, None, 2, 3], dtype="Int64"),
    "flags with gaps": pd.array([True, None, False, True], dtype="boolean"),
    "repeated strings": pd.array(["a", None, "b", "a"], dtype="string"),
    "complex numbers": np.arange(N) * 1j,
    "nothing": objects(*[None] * N),
    "mixture": objects(1, "a", 2, "b"),
    "mixture with gaps": objects(1, "a", None, 2.5),
    "numbers as objects": objects(1, 2, None, 4),
    "flags as objects": objects(True, False, None, True),
    "lists": objects([1], [2], None, [1]),
    "mappings": objects({}, {1: 2}, None, {}),
    "decimals": objects(*[Decimal(1)] * N),
    "paths": objects(*[Path("a")] * N),
    "dates": pd.date_range("2020", periods=N),
    "dates with gaps": pd.to_datetime(["2020-01-01", None, "2020-01-02", None]),
    "dates of a zone": pd.date_range("2020", periods=N, tz="UTC"),
    "durations": pd.to_timedelta(np.arange(N), unit="s"),
    "periods": pd.period_range("2020", periods=N, freq="D"),
    "intervals": pd.cut([1, 2, np.nan, 4], 2),
    "categories of dates": pd.Categorical(pd.date_range("2020", periods=N)),
    "categories of anything": pd.Categorical(objects("a", 1, "b", 2)),
    "fractions with gaps": pd.array([0.5, None, 2, 3], dtype="Float64"),
    "few numbers": pd.arrays.SparseArray([0, 0, 1, 0]),
    "different strings": pd.array(["a", "d", "b", "c"], dtype="string"),
    "different strings with a gap": pd.array(["a", None, "b", "c"], dtype="string"),
}


def write(obs: pd.DataFrame, path: Path) -> pd.DataFrame:
    AnnData(obs=obs.copy()).write_h5ad(path)
    return anndata.read_h5ad(path).obs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_is_refused_where_anndata_cannot_write_it_and_the_advice_makes_one_it_can(
    kind: str, tmp_path: Path
) -> None:
    obs = pd.DataFrame({"column": COLUMNS[kind]}).set_axis(CELLS, axis=0)
    try:
        write(obs, tmp_path / "a.h5ad")
    except Exception:  # noqa: BLE001 - of several kinds, by release
        with pytest.raises(
            ValueError, match=r"obs\['column'\] has dtype .* of kind \w+.*, which files cannot hold"
        ) as raised:
            check_table(obs, "obs")
        code = re.search(r"Convert it: (.*); or drop it", str(raised.value))
        assert code is not None
        exec(code[1], {"obs": obs, "pandas": pd})
        is_missing = pd.isna(pd.Series(COLUMNS[kind])).tolist()
        assert write(obs, tmp_path / "b.h5ad")["column"].isna().tolist() == is_missing
    check_table(obs, "obs")


def test_some_columns_are_refused() -> None:
    for kind in ("dates", "intervals", "mixture", "lists", "nothing"):
        with pytest.raises(ValueError, match="which files cannot hold"):
            check_table(pd.DataFrame({"column": COLUMNS[kind]}), "obs")


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a\0b", "", ".", "..", 3, None])
def test_names_that_would_be_another_place_are_refused_wherever_they_are(name: Any) -> None:
    frame = pd.DataFrame([[1.0]], columns=[name])
    for check in (
        lambda: check_names([name], "a key of obsm"),
        lambda: check_table(frame, "obs"),
        lambda: check_mapping({name: 1}, "uns"),
        lambda: check_mapping({"a": {"b": {name: 1}}}, "uns"),
        lambda: check_mapping({"a": frame}, "uns"),
    ):
        with pytest.raises(ValueError, match=f"{re.escape(repr(name))}.*[Rr]ename"):
            check()


def test_other_names_are_accepted() -> None:
    check_names(["X_pca", "a:b", "a b", "...", "ä", "a.b", "_x", "%"], "a key of obsm")
    with pytest.raises(ValueError, match="the name of the index of obs is 'a/b'"):
        check_table(pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="a/b")), "obs")
    with pytest.raises(ValueError, match="'_index', which files reserve for the row names. Rename it"):
        check_table(pd.DataFrame({"_index": [1]}), "obs")
    with pytest.raises(ValueError, match=r"obs has several columns \['a'\]"):
        check_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), "obs")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.ones((3, 0)), r"shape \(3, 0\), so there is nothing in it. Delete it: del obsm\['a'\]"),
        (pd.DataFrame(index=CELLS), r"shape \(4, 0\), so there is nothing in it"),
        (np.ones((3, 2), dtype=complex), r"dtype complex128; expected integers or floats. Store obsm\['a'\].real and"),
        (np.ones((3, 2), dtype=object), r"dtype object.*obsm\['a'\].astype\('float32'\)"),
        (np.full((3, 2), "a"), "dtype <U1; expected integers or floats"),
        (np.zeros((3, 2), dtype="datetime64[s]"), "dtype datetime64"),
        (
            np.ones((3, 2), dtype=np.longdouble),
            r"expected at most float64. Convert it: obsm\['a'\].astype\('float64'\)",
        ),
        ([[1, 2]], "is a list; expected an array of numbers"),
    ],
)
def test_arrays_that_files_cannot_hold_are_refused(array: Any, match: str) -> None:
    if getattr(array, "dtype", None) == np.longdouble and array.dtype.itemsize == 8:
        pytest.skip("long doubles are doubles here")
    with pytest.raises(ValueError, match=match):
        check_array(array, "obsm['a']")


def test_arrays_of_numbers_and_flags_are_accepted() -> None:
    for dtype in ("bool", "uint8", "int64", "float16", "float64"):
        check_array(np.ones((3, 2), dtype=dtype), "obsm['a']")
    check_array(pd.DataFrame({"a": [1.0]}), "obsm['a']")


def test_uns_is_tried_entry_by_entry() -> None:
    check_mapping({"a": 1, "b": "text", "c": {"d": np.arange(3)}, "e": ["x", "y"], "f": None}, "uns")
    with pytest.raises(
        ValueError, match=r"uns\['a'\]\['b'\] is a object that files cannot hold: .*del uns\['a'\]\['b'\]"
    ):
        check_mapping({"a": {"b": object()}}, "uns")
    with pytest.raises(ValueError, match=r"uns\['a'\]\['when'\] has dtype datetime64"):
        check_mapping({"a": pd.DataFrame({"when": COLUMNS["dates"]})}, "uns")


@pytest.mark.parametrize("values", [["a", "b\0c", "a"], pd.Categorical(["a", "b\0c", "a"])])
def test_null_characters_in_text_are_refused_with_the_call_that_replaces_them(values: Any) -> None:
    obs = pd.DataFrame({"a": values})
    with pytest.raises(ValueError, match=r"of kind text with null characters.* = obs\['a'\]\.astype\(str\)") as error:
        check_table(obs, "obs")
    call = str(error.value).split(": ", 1)[1].split("; or drop it")[0].removeprefix("Convert it: ")
    exec(call, {"obs": obs})
    check_table(obs, "obs")
    with pytest.raises(ValueError, match="the index of obs has names with null characters"):
        check_table(pd.DataFrame(index=["a\0"]), "obs")
