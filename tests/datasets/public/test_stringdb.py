from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import pooch
import pytest

from petri_scvi.datasets import stringdb
from petri_scvi.datasets.cache._registry import STRINGDB
from petri_scvi.datasets.public import _stringdb

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"entity1,entity2\nTOMM20,TOMM22\nTOMM22,TOMM20\nACTB,ACTB\nNAN,ACTB\nMYC,MAX\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of the same layout."""
    entry = dataclasses.replace(STRINGDB, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(_stringdb, "STRINGDB", entry)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "user")
    (tmp_path / "StringDB.txt").write_bytes(CONTENT)
    return tmp_path


def test_pairs_are_unordered_and_unique_and_no_gene_pairs_with_itself(cache: Path) -> None:
    assert stringdb(cache_dir=cache).to_numpy().tolist() == [["ACTB", "NAN"], ["MAX", "MYC"], ["TOMM20", "TOMM22"]]


def test_mouse_symbols_are_spelled_as_mouse_symbols(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETRI_SCVI_CACHE", str(cache))
    assert stringdb("mouse")["entity1"].tolist() == ["Actb", "Max", "Tomm20"]


def test_an_unknown_organism_is_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match="organism='yeast' is not accepted; pass 'human' or 'mouse'"):
        stringdb("yeast", cache_dir=cache)  # type: ignore[arg-type]


def test_the_address_is_pinned_to_a_commit() -> None:
    assert STRINGDB.url is not None
    assert len(STRINGDB.url.split("/")[5]) == 40
    assert STRINGDB.license == "CC-BY-4.0"


@pytest.mark.real
def test_the_real_table_has_the_pairs_it_should() -> None:
    table = stringdb()
    assert len(table) == 58_059
    targets = {"IFNGR1", "IFNGR2", "JAK2", "STAT1"}
    assert len(table[table["entity1"].isin(targets) & table["entity2"].isin(targets)]) >= 4
