"""Features are cp_measure's, of a sample of cells, each within its own mask."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from petri_scvi import pp, tl
from petri_scvi.baselines import ImageFeatures
from petri_scvi.baselines.classical import _image_features as module
from petri_scvi.baselines.classical._measure import cell_mask, measure_cells

featurizer = pytest.importorskip("cp_measure.featurizer")

KEY = "single_cell_images"
FAST = ("intensity", "sizeshape", "correlation_pearson")
QUICK = {"groups": FAST, "n_jobs": 1, "max_cells_per_context": 3, "n_control_cells": 1}


def fit(mdata, setup=None, **arguments):
    ImageFeatures.setup_mudata(mdata, **(setup or {}))
    model = ImageFeatures(mdata, **{**QUICK, **arguments})
    model.train(enable_progress_bar=False)
    return model


def test_features_are_those_of_cp_measure_scaled_by_the_sample(screen):
    model = fit(screen)
    embedding = model.get_latent_representation()
    rows = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    images = screen["image"].obsm[KEY].astype(np.float64)
    low, high = np.quantile(images.astype(np.float32), [0.0, 0.9999], axis=(0, 2, 3))
    config = featurizer.make_featurizer_config(
        [str(name) for name in screen["image"].uns["channel_names"]],
        **{group: group in FAST for group in module.GROUPS},
    )
    expected = []
    for row in rows:
        unit = np.clip((images[row] - low[:, None, None]) / (high - low)[:, None, None], 0, 1)
        mask = cell_mask(unit[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, names, _ = featurizer.featurize(unit[None].astype(np.float32), mask[None, None], config)
        expected.append(values[0])
    expected = np.array(expected)[:, [names.index(name) for name in model.feature_names_]]
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    assert len(model.feature_names_) > 40
    np.testing.assert_allclose(embedding[rows], expected, atol=0.02)


def test_at_most_so_many_cells_of_each_context_are_measured_and_the_rest_are_nan(screen):
    embedding = fit(screen).get_latent_representation(modality="image")
    assert embedding.shape[0] == screen["image"].n_obs
    is_measured = np.isfinite(embedding).all(axis=1)
    assert np.isnan(embedding[~is_measured]).all()
    contexts = screen["image"].obs["perturbation"].astype(str)
    available = contexts.value_counts()
    found = contexts[is_measured].value_counts().reindex(available.index, fill_value=0)
    assert (found == np.minimum(available, 3)).all()


@pytest.fixture
def mean_only(monkeypatch):
    """Measure the mean of a crop and nothing else, which takes no time."""

    def mean(images, mask_channel, channels, groups):
        return images.mean(axis=(1, 2, 3))[:, None], ["mean"]

    monkeypatch.setattr(module, "measure_cells", mean)


@pytest.mark.parametrize("context_key", ["perturbation", "guide"])
def test_replicates_of_a_default_screen_keep_tens_of_controls_and_can_be_scaled(make_screen, mean_only, context_key):
    mdata = make_screen(n_cells=8000, n_pathways=12, n_control_guides=8, n_genes=100, image_size=8)
    ImageFeatures.setup_mudata(mdata, context_key=context_key)
    model = ImageFeatures(mdata, n_jobs=1)
    model.train(enable_progress_bar=False)
    mdata["image"].obsm["X_features"] = model.get_latent_representation()
    obs = mdata["image"].obs[np.isfinite(mdata["image"].obsm["X_features"][:, 0])]
    controls = obs.loc[obs["is_control"], "replicate"].value_counts()
    assert controls.sum() == 500
    assert controls.min() >= 50
    assert obs.loc[~obs["is_control"], context_key].value_counts().max() == 20
    with pytest.warns(UserWarning, match="303 of 803 controls are NaN"):
        tl.center_scale(mdata["image"], "X_features")


@pytest.mark.parametrize("column", ["target_gene", "perturbation", None])
def test_controls_are_known_by_target_gene_perturbation_or_context(screen, mean_only, column):
    for adata in screen.mod.values():
        adata.obs["context"] = adata.obs["perturbation" if column is None else "guide"]
        other = {"target_gene", "perturbation"} - {column}
        adata.obs = adata.obs.drop(columns=sorted(other))
    is_control = screen["image"].obs["is_control"].to_numpy()
    every = fit(screen, {"context_key": "context"}, n_control_cells=None)
    assert np.isfinite(every.get_latent_representation()[is_control]).all()
    some = fit(screen, {"context_key": "context"}, n_control_cells=12).get_latent_representation()
    assert np.isfinite(some[is_control]).sum() == 12


def test_controls_can_have_other_labels_and_are_looked_for(screen, mean_only):
    for adata in screen.mod.values():
        labels = adata.obs[["perturbation", "target_gene"]].astype(str)
        adata.obs[["perturbation", "target_gene"]] = labels.replace("non-targeting", "NT")
    with pytest.raises(ValueError, match=r"has 'non-targeting'\. These labels look like controls: \['NT'\].*=None"):
        fit(screen)
    is_control = (screen["image"].obs["perturbation"] == "NT").to_numpy()
    for control, n_controls in (("NT", 12), (["NT", "TARGET01"], 12), (None, 3)):
        model = fit(screen, n_control_cells=12, control=control)
        is_measured = np.isfinite(model.get_latent_representation()[:, 0])
        is_wanted = is_control | (screen["image"].obs["perturbation"] == "TARGET01").to_numpy() & (control != "NT")
        assert is_measured[is_control if control is None else is_wanted].sum() == n_controls


def test_cells_whose_pixels_changed_are_measured_again(screen, mean_only):
    model = fit(screen)
    before = model.get_latent_representation()
    first, second = np.flatnonzero(np.isfinite(before[:, 0]))[:2]
    images = screen["image"].obsm[KEY]
    images[[first, second]] = images[[second, first]]
    expected = before.copy()
    expected[[first, second]] = before[[second, first]]
    assert abs(before[first, 0] - before[second, 0]) > 1e-3
    for data in (None, screen):
        np.testing.assert_allclose(model.get_latent_representation(data), expected, atol=1e-5)


def test_rows_asked_for_are_all_measured_in_their_order(screen):
    model = fit(screen)
    sampled = model.get_latent_representation()
    is_measured = np.isfinite(sampled).all(axis=1)
    known, unknown = np.flatnonzero(is_measured)[:2], np.flatnonzero(~is_measured)[:2]
    found = model.get_latent_representation(indices=[unknown[1], known[0], unknown[0], known[1]])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[[1, 3]], sampled[known])
    np.testing.assert_allclose(
        model.get_latent_representation(indices=[unknown[0], unknown[1]], batch_size=1), found[[2, 0]], atol=1e-5
    )


def test_new_data_is_measured_by_the_same_rule_and_scale(make_screen):
    model = fit(make_screen())
    expected = model.get_latent_representation(indices=range(30))
    new = pp.build_mudata(image=make_screen()["image"][:30].copy())
    np.testing.assert_allclose(model.get_latent_representation(new, indices=range(30)), expected, atol=1e-5)
    sampled = model.get_latent_representation(new)
    is_measured = np.isfinite(sampled).all(axis=1)
    assert 0 < is_measured.sum() < 30
    np.testing.assert_allclose(sampled[is_measured], expected[is_measured], atol=1e-5)


def test_cells_that_were_not_measured_stay_out_of_profiles(screen):
    screen["image"].obsm["X_features"] = fit(screen, {"context_key": "guide"}).get_latent_representation()
    with pytest.warns(UserWarning, match="are NaN or infinite in the embedding; they are left out of the profiles"):
        profiles = tl.aggregate_profiles(screen, key="X_features")
    assert np.isfinite(profiles.X).all()
    assert profiles.n_obs > 4


def test_the_seed_decides_which_cells(screen):
    first = np.isfinite(fit(screen, seed=0).get_latent_representation()[:, 0])
    assert (np.isfinite(fit(screen, seed=1).get_latent_representation()[:, 0]) != first).any()


def test_undefined_features_are_dropped_and_rare_gaps_get_the_median(screen, monkeypatch):
    def measured(images, mask_channel, channels, groups):
        rows = images.mean(axis=(1, 2, 3))
        values = np.stack([rows, np.full(len(rows), 2.0), rows * np.nan, rows**2], axis=1)
        if not measured.is_called:
            values[0, 3] = np.nan
        measured.is_called = True
        return values, ["mean", "constant", "undefined", "square"]

    measured.is_called = False
    monkeypatch.setattr(module, "measure_cells", measured)
    model = fit(screen)
    assert model.feature_names_ == ["mean", "square"]
    sampled = model.get_latent_representation()
    sampled = sampled[np.isfinite(sampled).all(axis=1)]
    np.testing.assert_allclose(sampled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(sampled.std(axis=0), 1, atol=1e-5)
    assert abs(np.median(sampled[:, 1]) - sampled[0, 1]) < 1e-6


def test_images_that_do_not_differ_are_refused(screen):
    screen["image"].obsm[KEY] = np.repeat(screen["image"].obsm[KEY][:1], screen["image"].n_obs, axis=0)
    with pytest.raises(ValueError, match=r"none of \d+ features varies"):
        fit(screen)


@pytest.mark.filterwarnings("ignore:.* is stored in chunks:UserWarning")
def test_the_users_data_is_not_changed_and_images_may_lie_on_disk(make_screen, on_disk, unchanged):
    expected = fit(make_screen()).get_latent_representation()
    ImageFeatures.setup_mudata(on_disk)
    with unchanged(on_disk):
        model = ImageFeatures(on_disk, **QUICK)
        model.train(enable_progress_bar=False)
        found = model.get_latent_representation()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_processes_measure_what_one_process_measures(screen):
    expected = fit(screen).get_latent_representation()
    np.testing.assert_allclose(fit(screen, n_jobs=2).get_latent_representation(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["colour"]}, r"groups=\['colour'\]; choose from \['intensity', 'texture'"),
        ({"groups": []}, r"groups=\[\]; choose from"),
        ({"mask_channel": "nowhere"}, "channel 'nowhere' is not in the registered channels"),
        ({"max_cells_per_context": 0}, "max_cells_per_context=0"),
        ({"n_control_cells": 0}, "n_control_cells=0"),
        ({"seed": -1}, "seed=-1; it must be a whole number of at least 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(screen, arguments, message):
    ImageFeatures.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        ImageFeatures(screen, **arguments)


def test_an_untrained_model_says_what_to_call(screen):
    ImageFeatures.setup_mudata(screen)
    with pytest.raises(ValueError, match="this ImageFeatures is not trained"):
        ImageFeatures(screen).get_latent_representation()


def test_without_cp_measure_the_extra_is_named(screen, monkeypatch):
    ImageFeatures.setup_mudata(screen)
    monkeypatch.setitem(sys.modules, "cp_measure.featurizer", None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[features\]"'):
        ImageFeatures(screen)


# One cell


def test_the_mask_is_the_largest_object_with_its_holes():
    channel = np.zeros((20, 20))
    channel[2:12, 2:12] = 1.0
    channel[5:7, 5:7] = 0.0  # a hole
    channel[15:18, 15:18] = 2.0  # brighter, but smaller
    mask = cell_mask(channel)
    expected = np.zeros((20, 20), dtype=np.int32)
    expected[2:12, 2:12] = 1
    np.testing.assert_array_equal(mask, expected)


def test_a_constant_channel_masks_the_whole_crop():
    assert (cell_mask(np.full((6, 6), 3.0)) == 1).all()


def test_area_and_mean_intensity_are_those_of_a_drawn_square():
    images = np.zeros((1, 2, 32, 32), dtype=np.float32)
    images[0, 0, 8:20, 8:24] = 0.9
    images[0, 1] = 0.25
    values, names = measure_cells(images, 0, ["a", "b"], ["intensity", "sizeshape"])
    measured = dict(zip(names, values[0], strict=True))
    assert measured["Area"] == 12 * 16
    assert measured["Intensity_MeanIntensity__a"] == pytest.approx(0.9)
    assert measured["Intensity_MeanIntensity__b"] == pytest.approx(0.25)
    assert not any(name.startswith("Correlation") for name in names)


def test_all_groups_are_measured_by_default():
    rng = np.random.default_rng(0)
    images = rng.random((2, 2, 24, 24), dtype=np.float32) * 0.1
    images[:, :, 6:18, 6:18] += 0.8
    values, names = measure_cells(images, 0, ["a", "b"], module.GROUPS)
    assert values.shape == (2, len(names))
    assert len(names) > 300
    assert np.isfinite(values).mean() > 0.9
    for part in ("Zernike", "Granularity", "RadialDistribution", "AngularSecondMoment", "Costes", "MaxFeretDiameter"):
        assert any(part in name or part in name.replace("_", "") for name in names), part
