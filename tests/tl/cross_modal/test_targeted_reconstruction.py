from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from petri_scvi import PETRI
from petri_scvi.tl import targeted_reconstruction
from petri_scvi.tl.cross_modal._context_tests import context_tests
from petri_scvi.tl.cross_modal._targeted_reconstruction import _bright_patches, _scores

CALL = {"channel": "lipid_droplets", "context": "TARGET01", "changed_context": "TARGET02", "max_cells": 10}
CALL |= {"progress": False}


@pytest.fixture
def run(trained_model, screen, monkeypatch):
    """Call on a fresh screen, with a single draw of companions, and give the result back."""
    monkeypatch.setattr("petri_scvi.tl.cross_modal._targeted_reconstruction.N_DOCUMENTS", 1)

    def run(**changes):
        targeted_reconstruction(trained_model, screen, **{**CALL, **changes})
        return screen.uns["petri_scvi"][changes.get("key_added", "targeted_reconstruction")]

    return run


def test_scores_are_those_of_the_hidden_pixels_alone():
    images = np.zeros((1, 4, 4))
    images[0, :2, 2:] = 10.0  # the second of four patches
    prediction = np.full((1, 4, 4), 100.0, dtype=np.float32)
    prediction[0, :2, 2:] = [[6, 6], [8, 8]]
    mask, threshold = _bright_patches(images, 2, 5.0, 0.9)
    assert mask.tolist() == [[False, True, False, False]]
    assert threshold == 5.0
    assert _scores(images, prediction, mask).iloc[0].to_dict() == {"mse": 10.0, "intensity": 7.0, "measured": 10.0}


def test_quantile_is_over_all_patches_of_all_cells():
    images = np.arange(32.0).reshape(2, 4, 4)
    mask, threshold = _bright_patches(images, 2, None, 0.5)
    assert mask.tolist() == [[False] * 4, [True] * 4]
    assert threshold == np.quantile([2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5], 0.5)


def test_differences_are_paired_by_cell_and_ranked_among_those_of_other_contexts():
    rng = np.random.default_rng(0)
    base = rng.normal(size=40) * 100  # cells differ far more than conditions
    shift = rng.normal(1, 0.5, size=40)
    tables = {"a": pd.DataFrame({"mse": base}), "b": pd.DataFrame({"mse": base + shift})}
    compared = np.arange(10)
    others = pd.DataFrame({"mse": base[:10].mean() + np.arange(-19, 20) / 20})  # none is as high as b
    row = context_tests(tables, others, compared, [("b", "a")]).iloc[0]
    assert row["difference"] == pytest.approx(shift.mean())
    assert row["effect_size"] == pytest.approx(shift.mean() / shift.std(ddof=1))
    assert row["share_of_cells"] == (shift > 0).mean()
    assert row["n_other_contexts"] == 39
    assert (row["null_low"], row["null_high"]) == pytest.approx((-0.9025, 0.9025))
    assert row["p_value"] == (2 / 40 if shift[:10].mean() > 0.95 else None)
    assert context_tests(tables, others, compared, [("a", "a")]).iloc[0][["effect_size", "p_value"]].tolist() == [0, 1]
    alone = context_tests(tables, others[:0], compared, [("b", "a")]).iloc[0]
    assert alone[["null_low", "null_high", "p_value"]].isna().all()


def test_a_context_like_any_other_is_seldom_significant():
    """Whatever the number of cells, which all shift alike: a test of cells would call every one of them."""
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(300):
        shifts = rng.normal(size=41)
        base = rng.normal(size=200)
        tables = {"own": pd.DataFrame({"mse": base}), "changed": pd.DataFrame({"mse": base + shifts[0]})}
        others = pd.DataFrame({"mse": base[:50].mean() + shifts[1:]})
        p_values.append(context_tests(tables, others, np.arange(50), [("changed", "own")])["p_value"].item())
        assert wilcoxon(np.full(200, shifts[0]) + 1e-9 * base).pvalue < 0.05
    assert np.mean(np.array(p_values) <= 0.05) < 0.1


def test_every_cell_is_scored_in_every_condition_with_one_mask(run, screen):
    result = run(quantile=0.5)
    cells = result["cells"]
    assert cells["condition"].unique().tolist() == ["none", "mixed", "own", "changed"]
    assert len(cells) == 4 * 10 - 4 * result["n_cells_left_out"]
    assert set(cells["context"]) == {"TARGET01"}
    assert (screen["image"].obs["perturbation"].iloc[cells["row"]] == "TARGET01").all()
    by_cell = cells.groupby("row")
    assert (by_cell[["n_hidden", "measured"]].nunique() == 1).all(axis=None)
    assert (by_cell["intensity"].nunique() == 4).all()
    means = cells.groupby("condition")[["mse", "intensity"]].mean()
    summary = result["summary"].set_index("condition")
    pd.testing.assert_frame_equal(summary.loc[means.index, ["mse", "intensity"]], means)
    row = result["tests"].set_index(["score", "condition", "reference"]).loc[("mse", "own", "mixed")]
    assert row["difference"] == pytest.approx(means.loc["own", "mse"] - means.loc["mixed", "mse"])


def test_other_contexts_are_those_that_are_neither_reconstructed_nor_changed(run, trained_model, screen, monkeypatch):
    every, asked = set(trained_model.get_contexts(screen, modality="rna")), []
    reconstruct = type(trained_model).get_reconstruction

    def recorded(self, mdata=None, **kwargs):
        asked.append(kwargs["companions"].get("rna", ()))
        return reconstruct(self, mdata, **kwargs)

    monkeypatch.setattr(type(trained_model), "get_reconstruction", recorded)
    tests = run(quantile=0.5)["tests"]
    others = [names for names in asked if isinstance(names, str)]
    assert sorted(others) == sorted(every - {"TARGET01", "TARGET02"})
    assert (tests["n_other_contexts"] == len(others)).all()
    assert tests["p_value"].between(2 / (len(others) + 1), 1).all()
    assert (run(quantile=0.5, n_other_contexts=2)["tests"]["n_other_contexts"] == 2).all()
    assert run(quantile=0.5, n_other_contexts=0)["tests"]["p_value"].isna().all()


def test_measured_intensity_is_that_of_patches_above_the_threshold(run, screen):
    result = run(quantile=0.7)
    channel = screen["image"].obsm["single_cell_images"][:, 2].astype(float)
    patches = channel.reshape(-1, 2, 8, 2, 8).mean(axis=(2, 4)).reshape(len(channel), 4)
    cells = result["cells"].query("condition == 'own'")
    for row, n_hidden, measured in cells[["row", "n_hidden", "measured"]].itertuples(index=False):
        above = patches[row][patches[row] > result["threshold"]]
        assert n_hidden == len(above)
        assert measured == pytest.approx(above.mean())
    assert result["predictions"].shape == (4, *result["images"].shape)
    np.testing.assert_array_equal(result["images"], channel[result["rows"]])


def test_seed_decides_and_results_have_names(run, screen):
    first = run(seed=1)["cells"]
    pd.testing.assert_frame_equal(run(seed=1, key_added="again")["cells"], first)
    assert (run(seed=2)["cells"]["intensity"] != first["intensity"]).any()
    assert set(screen.uns["petri_scvi"]) == {"targeted_reconstruction", "again"}


@pytest.mark.parametrize("progress", [True, False])
def test_passes_are_counted_if_progress_is_shown(run, capsys, progress):
    run(progress=progress)
    assert ("Reconstructing cells" in capsys.readouterr().out) == progress


def test_validation_cells_of_own_data_are_reconstructed(trained_model):
    before = dict(trained_model.adata.uns.get("petri_scvi", {}))
    contexts = trained_model.get_contexts(modality="image")
    held_out = trained_model.validation_indices["image"]
    own = str(contexts[held_out[0]])
    changed = next(name for name in sorted(set(contexts)) if name != own)
    targeted_reconstruction(trained_model, channel="actin", context=own, changed_context=changed, quantile=0.3)
    rows = trained_model.adata.uns["petri_scvi"]["targeted_reconstruction"]["cells"]["row"]
    trained_model.adata.uns["petri_scvi"] = before
    assert set(rows) <= set(held_out[contexts[held_out] == own])


def test_cells_without_anything_to_hide_are_left_out(run, screen):
    image = screen["image"]
    rows = np.flatnonzero(image.obs["perturbation"] == "TARGET01")
    image.obsm["single_cell_images"][rows[0]] = 0
    image.obsm["single_cell_images"][rows[1]] = 60_000
    image.obsm["single_cell_images"][rows[2:], 2, 0, 0] = 65_000
    image.obsm["single_cell_images"][rows[2:], 2, 8:, 8:] = 0
    result = run(threshold=1.0, max_cells=500)
    assert set(result["cells"]["row"]) == set(rows[2:])
    assert result["n_cells_left_out"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel": "BODIPY"}, ("channel 'BODIPY' is not in the model", "'lipid_droplets'")),
        ({"context": "TARGET99"}, ("['TARGET99'] have no cell to reconstruct in mdata['image']", "'TARGET01'")),
        ({"context": []}, ("context=[] is not accepted",)),
        ({"changed_context": "TARGET99"}, ("['TARGET99'] without cells in mdata['rna']", "'TARGET01'")),
        ({"changed_context": "TARGET01"}, ("is the context of cells to reconstruct",)),
        ({"threshold": 1e9}, ("patches both above and below the threshold of 1e+09", "Pass another threshold")),
        ({"quantile": 1.0}, ("quantile=1.0", "0 to below 1")),
        ({"indices": [400]}, ("indices go from 400 to 400", "240 cells")),
        ({"max_cells": 0}, ("max_cells=0",)),
        ({"n_other_contexts": -1}, ("n_other_contexts=-1",)),
        ({"modality": "painting"}, ("modality='painting'", "['image', 'rna']")),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(trained_model, screen, changes, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        targeted_reconstruction(trained_model, screen, **{**CALL, **changes})
    for word in words[1:]:
        assert word in str(caught.value)
    assert "petri_scvi" not in screen.uns


def test_models_that_cannot_be_asked_are_refused(screen, tiny):
    with pytest.raises(TypeError, match="SimpleNamespace does not reconstruct cells"):
        targeted_reconstruction(SimpleNamespace(), screen, **CALL)
    PETRI.setup_mudata(screen, modalities={"rna_layer": None})
    with pytest.raises(ValueError, match=r"knows \['image'\] only.*PETRI.setup_mudata"):
        targeted_reconstruction(PETRI(screen, **tiny), **CALL)
    PETRI.setup_mudata(screen)
    model = PETRI(screen, **{**tiny, "set_transformer_depth": 0})
    model.is_trained_ = True
    with pytest.raises(ValueError, match="no set transformer"):
        targeted_reconstruction(model, **CALL)
