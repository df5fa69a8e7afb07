from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import silhouette_score

from petri_scvi.tl import mixing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData


def two_batches(distance: float, n: int = 400) -> AnnData:
    rng = np.random.default_rng(0)
    batch = np.repeat(["a", "b"], n // 2)
    values = rng.normal(size=(n, 4)) + distance * (batch == "b")[:, None]
    return AnnData(obs=pd.DataFrame({"batch": batch}, index=[str(i) for i in range(n)]), obsm={"X_emb": values})


def row_of(data: AnnData | MuData, obs_key: str = "batch", **changes: Any) -> pd.Series:
    mixing(data, "X_emb", obs_key=obs_key, **changes)
    return data.uns["petri_scvi"][f"mixing_X_emb_{obs_key}"]["table"].iloc[0]


def test_batches_that_are_apart_have_no_entropy_and_mixed_ones_nearly_all() -> None:
    apart, mixed = row_of(two_batches(100.0)), row_of(two_batches(0.0))
    assert apart["entropy"] == pytest.approx(0, abs=1e-9)
    assert apart["silhouette"] > 0.9
    assert mixed["entropy"] > 0.95
    assert abs(mixed["silhouette"]) < 0.05


def test_silhouette_is_that_of_scikit_learn() -> None:
    adata = two_batches(1.0)
    assert row_of(adata)["silhouette"] == pytest.approx(silhouette_score(adata.obsm["X_emb"], adata.obs["batch"]))


def test_entropy_counted_by_hand() -> None:
    """Neighbours on a line: the two ends see one of each batch, the inner two as well."""
    adata = AnnData(
        obs=pd.DataFrame({"batch": list("abab")}, index=list("0123")), obsm={"X_emb": np.arange(4.0)[:, None]}
    )
    # Two neighbours of 0 are 1 and 2 (b, a); of 1: 0, 2 (a, a); of 2: 1, 3 (b, b); of 3: 2, 1 (a, b).
    assert row_of(adata, n_neighbors=2)["entropy"] == pytest.approx(0.5)


def test_modalities_are_compared_in_a_shared_slot_with_as_many_cells_of_each(
    make_mudata: Callable[..., MuData], tmp_path: Path
) -> None:
    mdata = make_mudata()
    row = row_of(mdata, "modality", max_cells=200)
    assert (row["modality"], row["n_cells"], row["n_groups"]) == ("all", 200, 2)
    mdata.obsm["X_emb"][: mdata["image"].n_obs] += 100
    assert row_of(mdata, "modality")["entropy"] == pytest.approx(0, abs=1e-9)
    mdata.write(tmp_path / "screen.h5mu")
    read = mudata.read(tmp_path / "screen.h5mu").uns["petri_scvi"]["mixing_X_emb_modality"]
    assert read["parameters"]["n_neighbors"] == 30


def test_one_group_or_separate_slots_cannot_mix(make_mudata: Callable[..., MuData]) -> None:
    adata = two_batches(0.0)
    adata.obs["batch"] = "a"
    with pytest.raises(ValueError, match="400 cells have 1 different 'batch'"):
        row_of(adata)
    with pytest.raises(ValueError, match="needs a slot of the MuData that modalities share"):
        row_of(make_mudata(shared=False), "modality")


def test_numbers_out_of_range_are_refused() -> None:
    for name in ("n_neighbors", "max_cells"):
        with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
            row_of(two_batches(0.0), "batch", **{name: 0})


def test_nan_cells_are_left_out() -> None:
    adata = two_batches(0.0)
    adata.obsm["X_emb"][0] = np.nan
    with pytest.warns(UserWarning, match="1 of 400 cells are NaN"):
        assert row_of(adata)["n_cells"] == 399


def test_equal_cells_are_mixed_whatever_the_order_of_their_rows() -> None:
    """The search for neighbours takes the first rows of those that are equally near."""
    batch = np.repeat(["a", "b"], 100)
    adata = AnnData(obs={"batch": batch}, obsm={"X_emb": np.ones((200, 3))})
    mixing(adata, "X_emb", obs_key="batch")
    assert adata.uns["petri_scvi"]["mixing_X_emb_batch"]["table"]["entropy"].item() > 0.9
