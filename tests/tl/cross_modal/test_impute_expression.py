from __future__ import annotations

import numpy as np
import pytest

from petri_scvi.tl import impute_expression, targeted_reconstruction
from petri_scvi.tl.cross_modal._impute_expression import _correlation

CONTROL = "non-targeting"


FEW = {"contexts": ["TARGET01", "TARGET02", "TARGET03"], "n_cells": 12}


@pytest.fixture(scope="module")
def profiles(_trained, make_screen):
    """Shared, so tests must not change them."""
    return impute_expression(_trained, make_screen(), **FEW)


def test_observed_fold_changes_are_those_of_pseudobulk_shares(profiles, screen):
    counts = screen["rna"].X.toarray()
    labels = screen["rna"].obs["perturbation"].astype(str).to_numpy()
    shares = {}
    for name in (CONTROL, "TARGET03"):
        total = counts[labels == name].sum(axis=0) + 0.5
        shares[name] = total / total.sum()
    expected = np.log(shares["TARGET03"] / shares[CONTROL])
    np.testing.assert_allclose(profiles["TARGET03"].layers["observed"].ravel(), expected, rtol=1e-4, atol=1e-6)
    assert profiles.obs.loc["TARGET03", "n_cells"] == (labels == "TARGET03").sum()
    assert CONTROL not in profiles.obs_names


def test_prediction_reads_no_transcriptome_but_those_of_the_control(trained_model, screen, profiles):
    is_control = (screen["rna"].obs["perturbation"] == CONTROL).to_numpy()
    counts = screen["rna"].X.toarray()
    counts[~is_control] = 1
    screen["rna"].X = type(screen["rna"].X)(counts)
    again = impute_expression(trained_model, screen, **FEW)
    np.testing.assert_array_equal(again.X, profiles.X)
    assert np.abs(again.layers["observed"] - profiles.layers["observed"]).max() > 0.1


def test_prediction_changes_with_the_images_of_the_context(trained_model, screen, profiles):
    is_changed = (screen["image"].obs["perturbation"] == "TARGET01").to_numpy()
    screen["image"].obsm["single_cell_images"][is_changed] = 0
    again = impute_expression(trained_model, screen, **FEW)
    row = profiles.obs_names.get_loc("TARGET01")
    assert np.abs(again.X[row] - profiles.X[row]).max() > 0
    others = np.arange(profiles.n_obs) != row
    np.testing.assert_array_equal(again.X[others], profiles.X[others])


def test_baseline_leaves_the_context_itself_out(profiles):
    observed = profiles.layers["observed"]
    np.testing.assert_allclose(profiles.layers["baseline"][0], observed[1:].mean(axis=0))


def test_scores_are_those_of_the_layers(profiles):
    observed = profiles.layers["observed"]
    np.testing.assert_allclose(profiles.obs["mse_predicted"], np.square(observed - profiles.X).mean(axis=1))
    gene = np.corrcoef(observed[:, 5], profiles.X[:, 5])[0, 1]
    assert profiles.var["correlation_predicted"].iloc[5] == pytest.approx(gene)
    saved = 1 - profiles.var["mse_predicted"] / profiles.var["mse_baseline"]
    np.testing.assert_allclose(profiles.var["r2_predicted"], saved)
    context = np.corrcoef(observed[2], profiles.layers["baseline"][2])[0, 1]
    assert profiles.obs["correlation_baseline"].iloc[2] == pytest.approx(context)
    assert np.isnan(_correlation(np.ones((1, 3)), np.arange(3.0)[None], 1)).all()


def test_transcriptomes_that_are_not_held_out_tell_what_measuring_again_would(trained_model, screen, profiles):
    assert np.isnan(profiles.layers["assay"]).all()  # all cells of other data are held out
    half = np.arange(0, 228, 2)
    with_rest = impute_expression(trained_model, screen, indices=half, min_cells=3, **FEW)
    rest = impute_expression(trained_model, screen, indices=np.arange(1, 228, 2), min_cells=3, **FEW)
    np.testing.assert_allclose(with_rest.layers["assay"], rest.layers["observed"])
    assert with_rest.var["r2_assay"].notna().all()


def test_contexts_with_few_cells_are_left_out_or_refused_if_asked_for(trained_model, screen):
    counts = screen["rna"].obs["perturbation"].value_counts().drop(CONTROL)
    rarest = str(counts.index[-1])
    n_min = int(counts.iloc[-1]) + 1
    with pytest.warns(UserWarning, match=f"contexts have fewer than min_cells={n_min} held-out"):
        profiles = impute_expression(trained_model, screen, min_cells=n_min, n_cells=12)
    assert rarest not in profiles.obs_names
    with pytest.raises(ValueError, match=rf"contexts \['{rarest}'\] have fewer than min_cells={n_min}"):
        impute_expression(trained_model, screen, contexts=[rarest, "TARGET01", "TARGET02"], min_cells=n_min)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contexts": ["TARGET01", "TARGET02"]}, "2 contexts are left.*needs 3 or more"),
        ({"contexts": ["TARGET01", "nobody", "TARGET02"]}, r"contexts \['nobody'\]"),
        ({"control": "DMSO"}, r"\['DMSO'\] have no cell to reconstruct in the held-out rows of mdata\['rna'\]"),
        ({"n_cells": 1}, "10 of 40 genes are hidden in none of 1 cells.*larger n_cells"),
        ({"n_cells": 0}, "n_cells=0"),
    ],
)
def test_wrong_arguments_are_refused(trained_model, screen, changes, words):
    with pytest.raises(ValueError, match=words):
        impute_expression(trained_model, screen, **changes)


def test_several_labels_of_controls_count_as_one_context(trained_model, screen, profiles):
    """Named alike or not, the same cells are reconstructed next to the same images."""
    either = impute_expression(trained_model, screen, **FEW, control=[CONTROL])
    np.testing.assert_array_equal(either.X, profiles.X)
    both = impute_expression(trained_model, screen, **FEW, control=[CONTROL, "TARGET04"])
    counts, labels = screen["rna"].X.toarray(), screen["rna"].obs["perturbation"].astype(str).to_numpy()
    total = counts[np.isin(labels, [CONTROL, "TARGET04"])].sum(axis=0) + 0.5
    treated = counts[labels == "TARGET03"].sum(axis=0) + 0.5
    expected = np.log(treated / treated.sum()) - np.log(total / total.sum())
    np.testing.assert_allclose(both["TARGET03"].layers["observed"].ravel(), expected, rtol=1e-4, atol=1e-6)
    assert both.uns["petri_scvi"]["impute_expression"]["parameters"]["control"].tolist() == [CONTROL, "TARGET04"]


def test_a_modality_of_another_kind_is_refused(trained_model):
    with pytest.raises(ValueError, match=r"modality='image' has no expression. Name a modality that has: \['rna'\]"):
        impute_expression(trained_model, modality="image")
    with pytest.raises(ValueError, match=r"modality='rna' has no images. Name a modality that has: \['image'\]"):
        targeted_reconstruction(trained_model, channel="actin", changed_context="TARGET01", modality="rna")
