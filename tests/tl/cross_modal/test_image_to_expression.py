from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.tl import image_to_expression_r2
from petri_scvi.tl.cross_modal._image_regression import Fold, ViTRegression
from petri_scvi.tl.cross_modal._regression_rows import paired_places

N_GENES = 12
SMALL = {"embed_dim": 16, "image_encoder_depth": 1, "n_heads": 2}


def make(*, is_paired: bool, signal: float = 1.0, n: int = 240, n_contexts: int = 24, seed: int = 0) -> MuData:
    """Brightness of the only channel moves the first half of the genes, in a cell or in a context."""
    rng = np.random.default_rng(seed)
    context = np.arange(n) % n_contexts
    level = rng.normal(size=n if is_paired else n_contexts)
    of_image = level if is_paired else level[context]
    images = (of_image[:, None, None, None] + rng.normal(scale=0.5, size=(n, 1, 8, 8))).astype(np.float32)
    loading = np.where(np.arange(N_GENES) < N_GENES // 2, signal, 0.0)
    expression = 5 + of_image[:, None] * loading + 0.7 * rng.normal(size=(n, N_GENES))
    obs = pd.DataFrame({"perturbation": [f"P{c}" for c in context]}, index=[f"cell{i}" for i in range(n)])
    image = AnnData(obs=obs, obsm={"single_cell_images": images, "X_mean": images.mean(axis=(2, 3))})
    rna = AnnData(X=np.clip(expression, 0, None), obs=obs.copy())
    if is_paired:
        rna = rna[rng.permutation(n)].copy()
    else:
        rna.obs_names = [f"rna{i}" for i in range(n)]
    with columns_stay_in_modalities():
        return MuData({"image": image, "rna": rna})


def run(mdata: MuData, key: str | None = None, **changes: Any) -> tuple[pd.DataFrame, pd.Series]:
    image_to_expression_r2(mdata, key, **{"progress": False, **changes})
    result = mdata.uns["petri_scvi"]["image_to_expression_r2" + ("" if key is None else f"_{key}")]
    return result["table"], result["summary"].iloc[0]


@pytest.mark.parametrize("is_paired", [True, False])
def test_ridge_finds_the_genes_that_images_predict_and_no_others(is_paired: bool) -> None:
    table, summary = run(make(is_paired=is_paired), "X_mean")
    half = N_GENES // 2
    assert summary["level"] == ("cell" if is_paired else "context")
    assert table["r2"][:half].min() > 0.4
    assert table["r2"][half:].mean() < 0.05
    assert summary["mean_r2"] == pytest.approx(table["r2"].mean())
    assert summary["share_below_0.2"] == 0.5


def test_ridge_explains_as_much_of_a_paired_cell_as_there_is_to_explain() -> None:
    table, _ = run(make(is_paired=True, n=1200), "X_mean")
    expected = 1 / (1 + 0.7**2)
    assert table["r2"][: N_GENES // 2].mean() == pytest.approx(expected, abs=0.04)


def test_the_vit_learns_from_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petri_scvi.tl.cross_modal._image_regression.LEARNING_RATE", 3e-3)
    table, summary = run(make(is_paired=True, n=300), n_folds=2, max_epochs=10, vit_kwargs=SMALL)
    assert summary["predictor"] == "ViT"
    assert table["r2"][: N_GENES // 2].min() > 0.2
    assert table["r2"][N_GENES // 2 :].abs().max() < 0.1


def test_without_anything_shared_nothing_is_predicted() -> None:
    for is_paired in (True, False):
        _, summary = run(make(is_paired=is_paired, signal=0.0), "X_mean")
        assert summary["mean_r2"] < 0.02
    _, summary = run(make(is_paired=False, signal=0.0), n_folds=2, max_epochs=1, vit_kwargs=SMALL)
    assert summary["mean_r2"] < 0.05


def test_pairs_are_found_by_name_whatever_their_order() -> None:
    mdata = make(is_paired=True)
    places = paired_places(mdata)
    assert len(places) == 240
    image, rna = places.T
    assert (mdata["image"].obs_names[image] == mdata["rna"].obs_names[rna]).all()


def test_paired_cells_can_be_compared_by_context() -> None:
    _, summary = run(make(is_paired=True), "X_mean", level="context")
    assert summary[["level", "n_rows"]].tolist() == ["context", 24]


def test_no_held_out_row_is_looked_at() -> None:
    """What is held out may change without changing its prediction."""
    mdata = make(is_paired=False)
    images = mdata["image"].obsm["single_cell_images"]
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(24, N_GENES))
    row_of_image = np.arange(240) % 24
    fit, held_out = np.arange(18), np.arange(18, 24)
    changed = targets.copy()
    changed[held_out] = 1e3
    first, second = (
        ViTRegression(1, SMALL).predict(Fold(images, row_of_image, values, fit, held_out, seed=3))
        for values in (targets, changed)
    )
    np.testing.assert_array_equal(first, second)


def test_reliability_is_the_share_of_variance_between_contexts_that_is_not_error() -> None:
    table, _ = run(make(is_paired=False, n=2400, n_contexts=120), "X_mean")
    error = 0.7**2 / 20
    assert table["reliability"][: N_GENES // 2].mean() == pytest.approx(1 / (1 + error), abs=0.02)
    assert table["reliability"][N_GENES // 2 :].mean() < 0.2
    assert "reliability" not in run(make(is_paired=True), "X_mean")[0]


def test_counts_are_normalised_and_other_values_are_used_as_they_are() -> None:
    mdata = make(is_paired=True)
    counts = np.random.default_rng(0).poisson(5, size=mdata["rna"].shape).astype(np.float32)
    mdata["rna"].layers["counts"] = counts
    table, _ = run(mdata, "X_mean", layer="counts")
    total = counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table["mean"], np.log1p(counts / total * np.median(total)).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(run(mdata, "X_mean")[0]["mean"], mdata["rna"].X.mean(axis=0), rtol=1e-5)


def test_genes_that_do_not_vary_have_no_score() -> None:
    mdata = make(is_paired=True)
    mdata["rna"].X[:, 3] = 1.5
    table, summary = run(mdata, "X_mean")
    assert table["r2"].isna().tolist() == [i == 3 for i in range(N_GENES)]
    assert np.isfinite(summary["mean_r2"])


def test_images_on_disk_and_in_memory_give_the_same() -> None:
    mdata = make(is_paired=True, n=60)
    expected, _ = run(mdata, n_folds=2, max_epochs=1, vit_kwargs=SMALL)
    mdata["image"].obsm["single_cell_images"] = da.from_array(
        mdata["image"].obsm["single_cell_images"], chunks=(7, 1, 8, 8)
    )
    pd.testing.assert_frame_equal(run(mdata, n_folds=2, max_epochs=1, vit_kwargs=SMALL)[0], expected)


@pytest.mark.parametrize("is_paired", [True, False])
def test_an_embedding_of_all_cells_gives_what_that_of_the_modality_gives(is_paired: bool) -> None:
    mdata = make(is_paired=is_paired)
    with columns_stay_in_modalities():  # transcriptomes first: rows of images are shifted, or in another order
        joint = MuData({"rna": mdata["rna"], "image": mdata["image"]})
    of_images = pd.DataFrame(mdata["image"].obsm["X_mean"], index=mdata["image"].obs_names)
    joint.obsm["X_joint"] = of_images.reindex(joint.obs_names).fillna(1e6).to_numpy()
    pd.testing.assert_frame_equal(run(joint, "X_joint")[0], run(mdata, "X_mean")[0])


@pytest.mark.parametrize("is_paired", [True, False])
def test_cells_without_an_embedding_are_left_out(is_paired: bool) -> None:
    mdata = make(is_paired=is_paired)
    mdata["image"].obsm["X_bad"] = mdata["image"].obsm["X_mean"].copy()
    mdata["image"].obsm["X_bad"][[3, 40]] = np.nan
    with pytest.warns(UserWarning, match="2 of 240 cells of 'image' are NaN or infinite; they are left out"):
        table, summary = run(mdata, "X_bad")
    assert summary["n_image_cells"] == 238
    assert table["r2"][: N_GENES // 2].min() > 0.4


@pytest.mark.parametrize("is_lazy", [True, False])
def test_crops_with_nan_are_refused_with_their_number(is_lazy: bool) -> None:
    mdata = make(is_paired=True, n=60)
    images = mdata["image"].obsm["single_cell_images"]
    images[7, 0, 2, 3] = np.nan
    if is_lazy:
        mdata["image"].obsm["single_cell_images"] = da.from_array(images, chunks=(7, 1, 8, 8))
    with pytest.raises(ValueError, match="has NaN or infinite pixels in 1 of 60 cells. Drop these cells"):
        run(mdata, n_folds=2, max_epochs=1, vit_kwargs=SMALL)


def test_rare_contexts_are_left_out() -> None:
    mdata = make(is_paired=False)
    mdata["rna"].obs.loc[mdata["rna"].obs_names[:2], "perturbation"] = "rare"
    with pytest.warns(UserWarning, match="1 of 25 contexts have fewer than 5 cells"):
        _, summary = run(mdata, "X_mean")
    assert summary["n_rows"] == 24


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"level": "cell"}, ValueError, "no cell was measured in both modalities.*level='context'"),
        ({"level": "guide"}, ValueError, "level='guide' is not accepted"),
        ({"n_folds": 13}, ValueError, "24 contexts are too few for n_folds=13, which needs 26. Pass fewer folds"),
        ({"n_folds": 1}, ValueError, "n_folds=1 is not accepted"),
        ({"key": "X_vit"}, KeyError, "key='X_vit' is not in mdata.obsm.*Store the embedding first"),
        ({"layer": "counts"}, KeyError, "layer='counts' is not in"),
        ({"context_key": "guide"}, KeyError, "context_key='guide' is not a column"),
        ({"vit_kwargs": {"width": 3}}, ValueError, r"vit_kwargs has \['width'\]"),
        ({"vit_kwargs": {"patch_size": 3}}, ValueError, "patch_size=3 does not divide crops of 8 x 8"),
        ({"max_epochs": 0}, ValueError, "max_epochs=0"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    mdata = make(is_paired=False)
    with pytest.raises(error, match=words):
        run(mdata, **changes)
    assert "petri_scvi" not in mdata.uns
