"""How named groups are read, and recorded with data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi._groups import read_groups, record_groups, recorded_groups

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = {"complex": ["A", "B"], "pathway": ["B", "C"]}


def test_a_mapping_a_file_and_columns_give_the_same_groups(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("complex\tsource\tA\tB\tB\n\npathway\t\tB\tC\t\n")
    text = pd.Series(["complex", "complex; pathway", "pathway;", "", None, np.nan], index=list("ABCDEF"))
    lists = pd.Series([["complex"], ("complex", "pathway"), {"pathway"}, [], None, pd.NA], index=list("ABCDEF"))
    for groups in (GROUPS, path, str(path), text, text.astype("category"), lists):
        assert read_groups(groups, "groups") == GROUPS


def test_members_are_text_and_counted_once() -> None:
    assert read_groups({1: [3, 3.0, "x", None]}, "groups") == {"1": ["3", "x"]}


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        ({"a": "ABC"}, ValueError, r"groups\['a'\]='ABC'; pass a list of members"),
        ({"a": 3}, ValueError, r"groups\['a'\]=3; pass a list of members"),
        (["A", "B"], TypeError, r"groups is a list; pass a mapping"),
        ("nowhere.gmt", FileNotFoundError, "nowhere.gmt"),
    ],
)
def test_other_forms_are_refused(groups: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_groups(groups, "groups")


def test_a_record_is_read_from_memory_and_from_a_file(tmp_path: Path) -> None:
    adata = AnnData(obs=pd.DataFrame(index=["x"]), uns={"petri_scvi": {"other": 1}})
    assert recorded_groups(adata) == {}
    record_groups(adata, {**GROUPS, "with/slash": ["A", "C"]})
    adata.write_h5ad(tmp_path / "data.h5ad")
    for found in (adata, anndata.read_h5ad(tmp_path / "data.h5ad")):
        assert recorded_groups(found) == {**GROUPS, "with/slash": ["A", "C"]}
        assert found.uns["petri_scvi"]["other"] == 1
