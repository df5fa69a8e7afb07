from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import f_oneway

from petri_scvi import tl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def cells_of(values: Any, group: Any) -> AnnData:
    values = np.asarray(values, dtype=np.float64)
    obs = pd.DataFrame({"group": [str(g) for g in group]}, index=[str(i) for i in range(len(values))])
    return AnnData(obs=obs, obsm={"X_emb": values})


def row_of(adata: AnnData) -> pd.Series:
    tl.variance_shares(adata, "X_emb", obs_keys="group")
    return adata.uns["petri_scvi"]["variance_shares_X_emb"]["table"].iloc[0]


def test_groups_that_are_points_explain_everything_and_equal_groups_nothing() -> None:
    assert row_of(cells_of([[0, 1], [0, 1], [5, 2], [5, 2]], "aabb"))["share"] == pytest.approx(1)
    assert row_of(cells_of([[0], [2], [0], [2]], "aabb"))["share"] == pytest.approx(0)


def test_shares_counted_by_hand() -> None:
    """0 and 2 against 4 and 6: the mean is 3, 16 of the sum of squares of 20 are between the groups."""
    row = row_of(cells_of([[0], [2], [4], [6]], "aabb"))
    assert row["share"] == pytest.approx(16 / 20)
    assert row["share_adjusted"] == pytest.approx(1 - 0.2 * 3 / 2)
    assert (row["n_cells"], row["n_groups"]) == (4, 2)


def test_in_one_dimension_the_share_is_that_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [5, 9, 16])
    values = rng.normal(size=30) + 0.7 * group
    f = f_oneway(*(values[group == g] for g in range(3))).statistic
    assert row_of(cells_of(values[:, None], group))["share"] == pytest.approx(f * 2 / (f * 2 + 27))


def test_labels_drawn_at_random_have_an_adjusted_share_of_0() -> None:
    rng = np.random.default_rng(0)
    rows = [row_of(cells_of(rng.normal(size=(100, 5)), rng.integers(20, size=100))) for _ in range(40)]
    assert np.mean([row["share_adjusted"] for row in rows]) == pytest.approx(0, abs=0.01)
    assert np.mean([row["share"] for row in rows]) == pytest.approx(19 / 99, abs=0.02)


def test_each_modality_is_compared_by_itself_and_the_modality_in_a_shared_slot(
    make_mudata: Callable[..., MuData],
) -> None:
    mdata = make_mudata()
    n_images = mdata["image"].n_obs
    tl.variance_shares(mdata, "X_emb", obs_keys=["replicate"])
    before = mdata.uns["petri_scvi"]["variance_shares_X_emb"]["table"]
    assert before["modality"].tolist() == ["image", "rna", "all"]
    mdata.obsm["X_emb"][:n_images] += 1000
    tl.variance_shares(mdata, "X_emb", obs_keys=["replicate"])
    after = mdata.uns["petri_scvi"]["variance_shares_X_emb"]["table"]
    np.testing.assert_allclose(after["share"][:2], before["share"][:2], rtol=1e-6)
    assert before["share"].iloc[2] < 0.1
    assert after["share"].iloc[2] == pytest.approx(1, abs=1e-3)
    tl.variance_shares(make_mudata(shared=False), "X_emb", obs_keys=["replicate"])


def test_one_group_one_group_per_cell_and_equal_cells_are_refused() -> None:
    for group in ("aaa", "abc"):
        with pytest.raises(ValueError, match=f"3 cells have {len(set(group))} different 'group'"):
            row_of(cells_of([[0], [1], [2]], group))
    with pytest.raises(ValueError, match="all 4 cells have the same vector"):
        row_of(cells_of(np.ones((4, 2)), "aabb"))
    with pytest.raises(ValueError, match="obs_keys is empty"):
        tl.variance_shares(cells_of([[0], [1], [2]], "aab"), "X_emb", obs_keys=[])


def test_nan_cells_are_left_out() -> None:
    values = np.array([[0.0], [2], [4], [6], [np.nan]])
    with pytest.warns(UserWarning, match="1 of 5 cells are NaN"):
        assert row_of(cells_of(values, "aabbb"))["share"] == pytest.approx(0.8)
