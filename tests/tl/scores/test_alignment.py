from __future__ import annotations

from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from petri_scvi import tl


def screen(image: Any, rna: Any, labels: Any = None, labels_rna: Any = None) -> MuData:
    """One embedding per modality, in one space; cells are named alike in both by default."""
    parts = {}
    for name, values, names in (("image", image, labels), ("rna", rna, labels if labels_rna is None else labels_rna)):
        values = np.asarray(values, dtype=np.float64)
        names = np.arange(len(values)) if names is None else names
        obs = pd.DataFrame({"pair": [f"p{n}" for n in names]}, index=[f"{name}{i}" for i in range(len(values))])
        parts[name] = AnnData(obs=obs, obsm={"X_emb": values})
    return MuData(parts)


def foscttm_of(mdata: MuData, **changes: Any) -> pd.Series:
    tl.foscttm(mdata, "X_emb", pair_key="pair", **changes)
    table = mdata.uns["petri_scvi"]["foscttm_X_emb_pair"]["table"]
    return table.set_index("query")["foscttm"]


def recall_of(mdata: MuData, **changes: Any) -> pd.DataFrame:
    tl.context_recall(mdata, "X_emb", context_key="pair", **changes)
    return mdata.uns["petri_scvi"]["context_recall_X_emb_pair"]["table"].set_index(["query", "k"])


def test_foscttm_is_0_of_equal_embeddings_1_of_opposite_ones_and_half_of_constant_ones() -> None:
    line = np.arange(6.0)[:, None]
    assert foscttm_of(screen(line, line))["both"] == 0
    ends = np.array([[0.0], [1.0]])
    assert foscttm_of(screen(ends, ends[::-1]))["both"] == 1
    assert foscttm_of(screen(np.ones((5, 2)), np.ones((5, 2))))["both"] == pytest.approx(0.5)


def test_foscttm_counted_by_hand() -> None:
    """Image cells at 0, 1 and 5; their other halves at 1, 0 and 4."""
    mdata = screen([[0], [1], [5]], [[1], [0], [4]])
    found = foscttm_of(mdata)
    # From 0: its half is 1 away, and one of the two others is closer; from 1 likewise; from 5 none is.
    assert found["image"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    # From 1: the image at 1 is closer than that at 0; from 0 the image at 0 is; from 4 none is.
    assert found["rna"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found["both"] == pytest.approx(1 / 3)
    pairs = mdata.uns["petri_scvi"]["foscttm_X_emb_pair"]["pairs"]
    assert pairs["image_to_rna"].tolist() == [0.5, 0.5, 0]


def test_random_embeddings_have_a_foscttm_of_half_and_recall_of_chance() -> None:
    rng = np.random.default_rng(0)
    mdata = screen(rng.normal(size=(600, 4)), rng.normal(size=(600, 4)))
    assert foscttm_of(mdata)["both"] == pytest.approx(0.5, abs=0.03)
    found = recall_of(mdata, k=(1, 60))
    assert found["recall"].loc[("image", 60)] == pytest.approx(0.1, abs=0.04)
    assert found["chance"].loc[("image", 60)] == pytest.approx(0.1)


def test_order_of_cells_and_pairs_that_one_modality_lacks_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(20, 3))
    rna = image + 0.5 * rng.normal(size=image.shape)
    expected = foscttm_of(screen(image, rna))["both"]
    order = rng.permutation(20)
    more = np.vstack([rna[order], rng.normal(size=(3, 3))])
    found = foscttm_of(screen(image, more, np.arange(20), [*order, 97, 98, 99]))
    assert found["both"] == pytest.approx(expected)


def test_cells_of_one_value_are_averaged_first() -> None:
    mdata = screen([[0.0], [2.0], [10.0], [12.0]], [[1.0], [11.0]], [0, 0, 1, 1], [0, 1])
    assert foscttm_of(mdata)["both"] == 0
    assert mdata.uns["petri_scvi"]["foscttm_X_emb_pair"]["table"]["n_pairs"].unique().tolist() == [2]


def test_center_ignores_that_a_modality_lies_apart() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(30, 2))
    mdata = screen(image, image + [100, 0])
    assert foscttm_of(mdata)["both"] > 0.2
    assert foscttm_of(mdata, center=True)["both"] == 0
    assert recall_of(mdata, k=(1,), center=True)["recall"].tolist() == [1, 1]


def test_cosine_ignores_length() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(30, 3))
    mdata = screen(image, image * rng.uniform(0.1, 10, size=(30, 1)))
    assert foscttm_of(mdata, metric="cosine")["both"] == 0
    assert foscttm_of(mdata)["both"] > 0


def test_recall_counted_by_hand_and_of_ties() -> None:
    mdata = screen([[0], [1], [5]], [[1], [0], [4]])
    found = recall_of(mdata, k=(1, 2))
    assert found["recall"].loc["image"].tolist() == [pytest.approx(1 / 3), 1]
    assert found["chance"].loc["image"].tolist() == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    tied = recall_of(screen(np.ones((4, 1)), np.ones((4, 1))), k=(1, 3, 10))
    assert tied["recall"].loc["rna"].tolist() == [0.25, 0.75, 1]
    assert tied["chance"].loc["rna"].tolist() == [0.25, 0.75, 1]


def test_held_out_contexts_are_searched_among_all() -> None:
    image = np.arange(10.0)[:, None]
    rna = image.copy()
    rna[[2, 7]] = rna[[7, 2]]
    mdata = screen(image, rna)
    held_out = recall_of(mdata, k=(1,), contexts=["p2", "p7"])
    assert held_out["recall"].tolist() == [0, 0]
    assert (held_out["n_queries"] == 2).all()
    assert (held_out["n_contexts"] == 10).all()
    assert recall_of(mdata, k=(1,), contexts=["p1"])["recall"].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"contexts=\['p99'\] are not values of 'pair' in both modalities"):
        recall_of(mdata, contexts=["p99"])


def test_a_shared_slot_gives_what_separate_slots_give(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    mdata = screen(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)))
    expected = foscttm_of(mdata)["both"]
    mdata.obsm["X_emb"] = np.vstack([mdata["image"].obsm.pop("X_emb"), mdata["rna"].obsm.pop("X_emb")])
    assert foscttm_of(mdata)["both"] == expected
    mdata.write(tmp_path / "screen.h5mu")
    assert "foscttm_X_emb_pair" in mudata.read_h5mu(tmp_path / "screen.h5mu").uns["petri_scvi"]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a MuData"):
        tl.foscttm(screen([[0]], [[1]])["rna"], "X_emb", pair_key="pair")
    with pytest.raises(ValueError, match="2 dimensions in 'image' and 1 in 'rna'"):
        foscttm_of(screen(np.ones((3, 2)), np.ones((3, 1))))
    with pytest.raises(ValueError, match="0 values of 'pair' are in both"):
        foscttm_of(screen([[0], [1]], [[0], [1]], [0, 1], [2, 3]))
    with pytest.raises(ValueError, match="metric='l1' is not accepted"):
        foscttm_of(screen([[0], [1]], [[0], [1]]), metric="l1")
    with pytest.raises(ValueError, match="k=0; it must be at least 1"):
        recall_of(screen([[0], [1]], [[0], [1]]), k=(0,))
    one = screen([[0], [1]], [[0], [1]])
    del one["rna"].obsm["X_emb"]
    with pytest.raises(ValueError, match=r"are in the modalities \['image'\]; two are compared"):
        foscttm_of(one)


def test_nan_cells_are_left_out() -> None:
    line = np.arange(4.0)[:, None]
    broken = line.copy()
    broken[0] = np.nan
    mdata = screen(line, broken)
    with pytest.warns(UserWarning, match="1 of 4 cells are NaN"):
        assert foscttm_of(mdata)["both"] == 0
    assert mdata.uns["petri_scvi"]["foscttm_X_emb_pair"]["table"]["n_pairs"].iloc[0] == 3
