from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import pp
from petri_scvi.baselines import PropensityScore

KEYS = {"image": "X_pca", "rna": "X_pca"}
N_CLASSES = 3


def screen(distance=4.0, n_cells=20, seed=0, names="abc"):
    """Each modality has its own dimensions; contexts lie ``distance`` apart in them."""
    rng = np.random.default_rng(seed)
    parts = {}
    for name, width in (("image", 5), ("rna", 4)):
        label = np.repeat(list(names), n_cells)
        centres = rng.normal(size=(len(names), width))
        centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
        values = np.repeat(centres, n_cells, axis=0) + rng.normal(size=(len(label), width))
        obs = pd.DataFrame({"perturbation": label}, index=[f"{name}{i}" for i in range(len(label))])
        parts[name] = AnnData(obs=obs, obsm={"X_pca": values.astype(np.float32)})
    return pp.build_mudata(**parts)


def fit(mdata, **arguments):
    PropensityScore.setup_mudata(mdata, embedding_keys=KEYS)
    model = PropensityScore(mdata, **arguments)
    model.train()
    return model


def own(mdata, modality, scores):
    """Probability of each cell's own context."""
    codes = mdata[modality].obs["perturbation"].astype("category").cat.codes.to_numpy()
    return scores[np.arange(len(codes)), codes]


def test_probabilities_of_separate_contexts_are_near_one_in_both_modalities():
    mdata = screen(distance=12.0)
    model = fit(mdata)
    joint = model.get_latent_representation()
    assert joint.shape == (mdata.n_obs, N_CLASSES)
    np.testing.assert_allclose(joint.sum(axis=1), 1, atol=1e-5)
    for modality in KEYS:
        scores = model.get_latent_representation(modality=modality)
        assert own(mdata, modality, scores).mean() > 0.95
        rows = np.asarray(mdata.obsmap[modality]).reshape(-1) > 0
        np.testing.assert_array_equal(joint[rows], scores)
    np.testing.assert_array_equal(model.get_latent_representation(modality="rna", indices=[5, 1]), scores[[5, 1]])


def test_no_cell_is_scored_by_a_classifier_that_saw_it():
    """Of noise in many dimensions, a classifier remembers every label; cross-fitted, it knows none."""
    rng = np.random.default_rng(0)
    mdata = screen(distance=0.0, n_cells=30)
    for modality in mdata.mod.values():
        modality.obsm["X_pca"] = rng.normal(size=(modality.n_obs, 200)).astype(np.float32)
    model = fit(mdata, regularization=1e-3)
    crossed = own(mdata, "rna", model.get_latent_representation(modality="rna"))
    assert crossed.mean() == pytest.approx(1 / N_CLASSES, abs=0.12)
    seen = own(mdata, "rna", model.get_latent_representation(mdata.copy(), modality="rna"))
    assert seen.mean() > 0.8


def test_new_cells_are_scored_by_all_classifiers():
    model = fit(screen(distance=12.0))
    other = screen(distance=12.0)
    other["image"].obsm["X_pca"] += 0.01
    scores = model.get_latent_representation(other, modality="image")
    assert own(other, "image", scores).mean() > 0.95


def test_contexts_with_few_cells_are_no_classes_and_their_cells_are_not_matched():
    mdata = screen(names="abcd")
    kept = np.arange(60)  # no cells of the last context
    mdata = pp.build_mudata(image=mdata["image"][kept].copy(), rna=mdata["rna"].copy())
    with pytest.warns(UserWarning, match="They are no classes"):
        model = fit(mdata)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.get_latent_representation().shape[1] == 3
    assert model.match()[:, 60:].nnz == 0
    cut = screen(n_cells=20)
    cut = pp.build_mudata(image=cut["image"][np.r_[0:20, 20:30, 40:50]].copy(), rna=cut["rna"].copy())
    with pytest.raises(ValueError, match=r"1 contexts have n_folds=19 cells in both.*smaller n_folds"):
        fit(cut, n_folds=19)


@pytest.mark.parametrize("method", ["transport", "neighbors"])
def test_cells_are_matched_within_their_context_and_to_those_of_like_scores(method):
    mdata = screen(distance=2.0)
    model = fit(mdata)
    scores = np.random.default_rng(0).dirichlet(np.full(N_CLASSES, 0.3), size=60)
    model._scores = {"image": scores, "rna": scores}
    weights = model.match(method=method, n_neighbors=4).toarray()
    assert weights.shape == (60, 60)
    label = np.repeat([0, 1, 2], 20)
    assert weights[label[:, None] != label].sum() == 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights.argmax(axis=1) == np.arange(60)).mean() > 0.5


def test_transport_uses_every_cell_of_both_modalities_alike():
    model = fit(screen(distance=1.0))
    weights = model.match(method="transport").toarray()[:20, :20]
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-3)
    even = model.match(method="transport", entropy=1e6).toarray()[:20, :20]
    np.testing.assert_allclose(even, 1 / 20, atol=1e-4)


def test_wrong_arguments_and_untrained_models_are_refused():
    mdata = screen()
    PropensityScore.setup_mudata(mdata, embedding_keys=KEYS)
    with pytest.raises(ValueError, match="n_folds=1"):
        PropensityScore(mdata, n_folds=1)
    with pytest.raises(ValueError, match="regularization=0"):
        PropensityScore(mdata, regularization=0)
    model = PropensityScore(mdata)
    with pytest.raises(ValueError, match=r"not trained; call model.train\(\)"):
        model.match()
    model.train()
    with pytest.raises(ValueError, match="method='nearest'"):
        model.match(method="nearest")
    with pytest.raises(ValueError, match="entropy=0"):
        model.match(entropy=0)
    with pytest.raises(ValueError, match="modality='protein'"):
        model.get_latent_representation(modality="protein")
    with pytest.raises(NotImplementedError, match="Keep its embedding"):
        model.save("folder")
