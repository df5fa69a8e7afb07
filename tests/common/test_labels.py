from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from petri_scvi.common._labels import as_text, check_controls, column_list, label_list, read_column, read_labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0, 1], ["1", "0", "1"]),
        ([1.0, np.nan, 0.0], ["1", None, "0"]),
        ([0.5, 2.0], ["0.5", "2"]),
        ([True, False], ["True", "False"]),
        (["a", None, np.nan, pd.NA], ["a", None, None, None]),
        ([1, "1", 1.0, "b"], ["1", "1", "1", "b"]),
        (pd.Categorical(["b", None, "a"], categories=["c", "b", "a"]), ["b", None, "a"]),
        (pd.Categorical([2, 1]), ["2", "1"]),
        (pd.array([1, None], dtype="Int64"), ["1", None]),
        (pd.array([True, None], dtype="boolean"), ["True", None]),
        (pd.to_datetime(["2024-01-31", None]), ["2024-01-31", None]),
        ([b"a", "a"], ["a", "a"]),
        ([], []),
    ],
)
def test_labels_are_written_alike_whatever_their_type(values: Any, expected: list[str | None]) -> None:
    found = as_text(pd.Series(values, index=[f"cell{i}" for i in range(len(values))]))
    assert found.tolist() == expected
    assert found.dtype == object
    assert found.index.tolist() == [f"cell{i}" for i in range(len(values))]


def test_values_that_are_no_labels_are_named() -> None:
    with pytest.raises(TypeError, match=r"obs\['guide'\] has values that are not labels.*Convert them to text"):
        as_text(pd.Series([["a"], ["b"]], name="guide"))


def test_a_column_is_one_column() -> None:
    obs = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "b"])
    assert read_column(obs, "a", "adata.obs").tolist() == [1]
    with pytest.raises(ValueError, match=r"adata.obs has 2 columns named 'b'\. Rename or drop one"):
        read_column(obs, "b", "adata.obs")
    with pytest.raises(TypeError, match=r"guide_key=\['a', 'b'\] is a list; pass the name of one column of adata.obs"):
        read_column(obs, ["a", "b"], "adata.obs", argument="guide_key")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match=r"'c' is not a column of adata.obs; it has \['a', 'b', 'b'\]"):
        read_column(obs, "c", "adata.obs")
    assert column_list("a", "replicate_key") == ["a"]
    assert column_list(("a", "b"), "replicate_key") == ["a", "b"]
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="replicate_key="):
            column_list(wrong, "replicate_key")


@pytest.mark.parametrize("word", ["nan", "None", "<NA>", ""])
@pytest.mark.parametrize("is_category", [True, False])
def test_words_for_missing_values_are_pointed_out_and_the_advice_works(word: str, is_category: bool) -> None:
    adata = type("Cells", (), {})()
    adata.obs = pd.DataFrame({"guide": ["a", word, "b", word]})
    if is_category:
        adata.obs["guide"] = adata.obs["guide"].astype("category")
    with pytest.warns(UserWarning, match="2 rows of adata.obs") as caught:
        assert read_labels(adata.obs, "guide", "adata.obs").tolist() == ["a", word, "b", word]
    exec(str(caught[0].message).rsplit("replace it: ", 1)[1], {"adata": adata})
    assert read_labels(adata.obs, "guide", "adata.obs").tolist() == ["a", None, "b", None]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("NT", ["NT"]),
        (0, ["0"]),
        (0.0, ["0"]),
        (np.int64(0), ["0"]),
        (False, ["False"]),
        (["NT", "safe", "NT"], ["NT", "safe"]),
        (np.array(["NT", "safe"]), ["NT", "safe"]),
        (pd.Index([0, 1]), ["0", "1"]),
        ({"NT"}, ["NT"]),
    ],
)
def test_one_label_or_several(labels: Any, expected: list[str]) -> None:
    assert label_list(labels, "control") == expected


@pytest.mark.parametrize("wrong", [None, [], {"image": "NT"}])
def test_no_label_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="control=.* is not accepted; pass a label, or a list of labels"):
        label_list(wrong, "control")


def test_controls_are_looked_for() -> None:
    labels = as_text(pd.Series(["NT5E", "CTRL_1", "sgNT_2", None, "nontargeting", "TP53"]))
    assert check_controls({"obs": labels}, ["CTRL_1", "nontargeting"]) == ["CTRL_1", "nontargeting"]
    with pytest.raises(
        ValueError, match=r"no row of obs has 'a', 'b'\. .*look like controls: \['CTRL_1', 'nontargeting', 'sgNT_2'\]"
    ):
        check_controls({"obs": labels}, ["b", "a", "CTRL_1"])
    with pytest.raises(ValueError, match=r"Its labels are \['NT5E', 'TP53'\]; none looks like a control"):
        check_controls({"obs": labels[labels.isin(["NT5E", "TP53"])]}, "non-targeting")


def test_a_table_without_controls_beside_one_that_has_some_is_pointed_out() -> None:
    image, rna = pd.Series(["A", "NT"]), pd.Series(["A", "nontargeting"])
    with pytest.warns(UserWarning, match=r"rna has no control: none of \['NT'\].*\['nontargeting'\]"):
        assert check_controls({"image": image, "rna": rna}, "NT") == ["NT"]
    assert check_controls({"image": image, "rna": rna}, ["NT", "nontargeting"]) == ["NT", "nontargeting"]
