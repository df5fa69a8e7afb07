from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.stats import wilcoxon

from petri_scvi.dataloaders._readers import _InMemory
from petri_scvi.model import _documents
from petri_scvi.model.reconstruction import _reconstruction

CELL = 3
IMAGES = "single_cell_images"


@pytest.fixture
def halves(rng):
    """A mask of one cell's 40 genes or 4 patches that hides the first half."""
    return {"rna": np.arange(40)[None] < 20, "image": np.array([[True, True, False, False]])}


def _predict(model, screen, modality, mask):
    return model.get_reconstruction(screen, modality=modality, indices=[CELL], mask=mask).prediction


def test_images_come_back_in_their_shape_and_units(trained_model):
    prediction, mask = trained_model.get_reconstruction(modality="image", indices=[7, 3, 9])
    images = trained_model.adata["image"].obsm[IMAGES]
    assert prediction.shape == (3, 5, 16, 16)
    assert prediction.dtype == np.float32
    assert mask.dtype == bool
    assert mask.sum(axis=1).tolist() == [3, 3, 3]
    # Hardly trained, the model predicts about the mean of each channel.
    np.testing.assert_allclose(prediction.mean(axis=(0, 2, 3)), images.mean(axis=(0, 2, 3)), rtol=0.5)


def test_expression_comes_back_as_expected_counts_of_the_cells_own_depth(trained_model):
    prediction, mask = trained_model.get_reconstruction(modality="rna")
    counts = trained_model.adata["rna"].X.toarray()
    assert prediction.shape == mask.shape == counts.shape
    assert (prediction > 0).all()
    np.testing.assert_allclose(prediction.sum(axis=1), counts.sum(axis=1), rtol=1e-4)
    assert set(mask.sum(axis=1)) == {30}


def test_the_mask_given_is_the_mask_returned(trained_model, halves):
    for name, mask in halves.items():
        assert trained_model.get_reconstruction(modality=name, indices=[CELL], mask=mask).mask.tolist() == mask.tolist()


def test_hidden_pixels_cannot_reach_the_prediction_and_visible_ones_can(trained_model, make_screen, halves):
    screen = make_screen()
    before = _predict(trained_model, screen, "image", halves["image"])
    screen["image"].obsm[IMAGES][CELL, :, :8] = 60_000  # the first row of patches
    np.testing.assert_array_equal(_predict(trained_model, screen, "image", halves["image"]), before)
    screen["image"].obsm[IMAGES][CELL, :, 8:, :8] = 60_000
    assert np.abs(_predict(trained_model, screen, "image", halves["image"]) - before).max() > 0.1


def test_hidden_counts_cannot_reach_the_prediction_and_visible_ones_can(trained_model, make_screen, halves):
    """Values are exchanged, not changed: the decoder may know the cell's number of counts."""
    screen = make_screen()
    counts = screen["rna"].X.toarray()
    before = _predict(trained_model, screen, "rna", halves["rna"])
    counts[CELL, :20] = counts[CELL, :20][::-1].copy()
    assert (counts[CELL] != screen["rna"].X[CELL].toarray()).any()
    screen["rna"].X = sparse.csr_matrix(counts)
    np.testing.assert_array_equal(_predict(trained_model, screen, "rna", halves["rna"]), before)
    counts[CELL, 20:] = np.sort(counts[CELL, 20:])
    screen["rna"].X = sparse.csr_matrix(counts)
    assert np.abs(_predict(trained_model, screen, "rna", halves["rna"]) / before - 1).max() > 1e-4


def test_companions_reach_the_prediction(trained_model, halves):
    predictions = [
        trained_model.get_reconstruction(modality="image", indices=[CELL], mask=halves["image"], seed=seed).prediction
        for seed in (0, 1)
    ]
    assert not np.array_equal(*predictions)


def test_seed_decides_masks_and_predictions(trained_model):
    first, again, other = (trained_model.get_reconstruction(modality="rna", seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.mask, again.mask)
    np.testing.assert_array_equal(first.prediction, again.prediction)
    assert (first.mask != other.mask).any()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((1, 4), dtype=int), ("dtype int64", "expected bool and (1, 4)", "True where hidden")),
        (np.zeros((2, 4), dtype=bool), ("shape (2, 4)", "expected bool and (1, 4)")),
        (np.zeros((1, 16, 16), dtype=bool), ("shape (1, 16, 16)", "one column per patch")),
        (np.ones((1, 4), dtype=bool), ("hides every token of 1 cells", "at least one visible")),
    ],
)
def test_wrong_masks_are_refused(trained_model, refused, mask, words):
    with refused(ValueError, *words):
        trained_model.get_reconstruction(modality="image", indices=[CELL], mask=mask)


def test_nothing_hidden_is_allowed_and_rows_may_hide_different_numbers(trained_model):
    mask = np.array([[False] * 4, [True, False, False, False], [True, True, True, False]])
    prediction = trained_model.get_reconstruction(modality="image", indices=[0, 1, 2], mask=mask).prediction
    assert np.isfinite(prediction).all()


@pytest.mark.parametrize("modality", ["image", "rna"])
def test_data_of_one_modality_is_reconstructed(trained_model, screen, combine, refused, modality):
    mdata = combine(**{modality: screen[modality]})
    prediction = trained_model.get_reconstruction(mdata, modality=modality).prediction
    assert prediction.shape == trained_model.get_reconstruction(modality=modality).prediction.shape
    other = {"image": "rna", "rna": "image"}[modality]
    with refused(ValueError, f"modality={other!r}", f"of which the data has ['{modality}']"):
        trained_model.get_reconstruction(mdata, modality=other)


SUMMARY = [
    "modality",
    "source",
    "n_cells",
    "n_contexts",
    "loss_own",
    "loss_other",
    "gain",
    "gain_low",
    "gain_high",
    "relative_gain",
    "effect_size",
    "share_of_cells",
    "p_value",
]


def test_gain_has_a_row_per_target_and_source_and_uses_validation_cells(trained_model):
    gain = trained_model.cross_modal_gain()
    assert gain.columns.tolist() == SUMMARY
    assert list(zip(gain["modality"], gain["source"], strict=True)) == [
        (target, source) for target in ("image", "rna") for source in ("image", "rna", "all")
    ]
    n_validation = {name: len(rows) for name, rows in trained_model.validation_indices.items()}
    assert gain["n_cells"].tolist() == [n_validation[name] for name in gain["modality"]]
    assert gain["p_value"].between(0, 1).all()
    assert (gain["gain_low"] < gain["gain"]).all()
    assert (gain["gain"] < gain["gain_high"]).all()


def test_gain_of_every_cell_averages_to_the_summary(trained_model):
    summary = trained_model.cross_modal_gain(seed=2).set_index(["modality", "source"])
    per_cell = trained_model.cross_modal_gain(seed=2, is_summarised=False)
    assert per_cell.columns.tolist() == ["modality", "source", "row", "context", "loss_own", "loss_other"]
    for name, rows in trained_model.validation_indices.items():
        assert set(per_cell.loc[per_cell["modality"] == name, "row"]) == set(rows)
    groups = per_cell.groupby(["modality", "source"])
    for column in ("loss_own", "loss_other"):
        pd.testing.assert_series_equal(groups[column].mean(), summary[column], check_like=True)
    difference = per_cell["loss_other"] - per_cell["loss_own"]
    shares = (difference > 0).groupby([per_cell["modality"], per_cell["source"]]).mean()
    pd.testing.assert_series_equal(shares, summary["share_of_cells"], check_like=True, check_names=False)
    assert (summary["gain"] - (summary["loss_other"] - summary["loss_own"])).abs().max() < 1e-6


def test_gain_is_a_function_of_its_seed(trained_model):
    first, again, other = (trained_model.cross_modal_gain(seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert (first["loss_own"] != other["loss_own"]).all()


def test_without_a_set_transformer_companions_gain_nothing(screen, fit):
    model = fit(screen, model={"set_transformer_depth": 0})
    per_cell = model.cross_modal_gain(is_summarised=False)
    np.testing.assert_array_equal(per_cell["loss_own"], per_cell["loss_other"])
    summary = model.cross_modal_gain()
    assert (summary[["gain", "effect_size", "share_of_cells"]] == 0).all(axis=None)
    assert (summary["p_value"] == 1).all()


def test_with_a_set_transformer_companions_of_the_other_modality_matter(trained_model):
    per_cell = trained_model.cross_modal_gain(is_summarised=False)
    crossed = per_cell[per_cell["modality"] != per_cell["source"]]
    assert (crossed["loss_own"] != crossed["loss_other"]).mean() > 0.99


def test_gain_reconstructs_the_cells_asked_for(trained_model, screen, refused):
    gain = trained_model.cross_modal_gain(indices={"rna": [1, 2, 5, 7]}, is_summarised=False)
    assert set(gain["modality"]) == {"rna"}
    assert gain["row"].tolist() == [1, 2, 5, 7] * 3
    assert set(trained_model.cross_modal_gain(screen, n_documents=1)["n_cells"]) == {240, 228}
    with refused(ValueError, "no cells to reconstruct", "indices={'image': ..., 'rna': ...}", "train_size=0.9"):
        trained_model.cross_modal_gain(indices={"rna": []})


def test_gain_of_one_modality_alone(trained_model, screen, combine):
    gain = trained_model.cross_modal_gain(combine(rna=screen["rna"]), indices={"rna": range(20)})
    assert list(zip(gain["modality"], gain["source"], strict=True)) == [("rna", "rna")]


def test_gain_needs_two_contexts_to_compare(screen, trained_model, combine, refused):
    control = {name: screen[name][screen[name].obs["perturbation"] == "TARGET01"].copy() for name in ("image", "rna")}
    with refused(ValueError, "1 contexts have two or more cells", "at least two"):
        trained_model.cross_modal_gain(combine(**control))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"indices": {"imgae": [1], "rna": [1]}},
            ("['imgae', 'rna']", "some of ['image', 'rna']", "{'image': [0, 1]}"),
        ),
        ({"indices": [1, 2]}, ("indices has a list", "some of ['image', 'rna']")),
        ({"n_documents": 0}, ("n_documents=0", "at least 1")),
        ({"n_cells_per_context": 0}, ("n_cells_per_context=0", "at least 1")),
    ],
)
def test_wrong_arguments_of_the_gain_are_refused(trained_model, refused, arguments, words):
    with refused(ValueError, *words):
        trained_model.cross_modal_gain(**arguments)


def test_p_values_of_the_gain_are_between_contexts(trained_model, screen):
    per_cell = trained_model.cross_modal_gain(is_summarised=False)
    summary = trained_model.cross_modal_gain().set_index(["modality", "source"])
    for (modality, source), cells in per_cell.groupby(["modality", "source"]):
        labels = trained_model.get_contexts(modality=modality)
        assert cells["context"].tolist() == labels[cells["row"]].tolist()
        means = (cells["loss_other"] - cells["loss_own"]).groupby(cells["context"]).mean()
        found = summary.loc[(modality, source)]
        assert found["n_contexts"] == len(means) < found["n_cells"]
        assert found["p_value"] == pytest.approx(wilcoxon(means).pvalue)
    rows = np.flatnonzero(screen["rna"].obs["perturbation"] == "TARGET01")
    one = trained_model.cross_modal_gain(screen, indices={"rna": rows}, n_documents=1)
    assert one["n_contexts"].tolist() == [1, 1, 1]
    assert one[["gain_low", "gain_high", "p_value"]].isna().all(axis=None)


def test_gain_of_one_cell_has_no_interval(trained_model):
    gain = trained_model.cross_modal_gain(indices={"rna": [1]})
    assert gain["n_cells"].tolist() == [1, 1, 1]
    assert np.isfinite(gain["gain"]).all()
    assert gain[["gain_low", "gain_high", "effect_size", "p_value"]].isna().all(axis=None)


@pytest.mark.parametrize("n_cells", [0, -2])
def test_documents_of_no_cells_are_refused(trained_model, refused, n_cells):
    with refused(ValueError, f"n_cells_per_context={n_cells}", "at least 1"):
        trained_model.get_reconstruction(modality="image", indices=[0], n_cells_per_context=n_cells)


def test_a_cell_asked_for_twice_does_not_show_what_its_other_mask_hides(trained_model, screen):
    mask = np.array([[True, True, False, False], [False, False, True, True]])
    arguments = {"modality": "image", "indices": [CELL, CELL], "mask": mask}
    before = trained_model.get_reconstruction(screen, **arguments).prediction
    screen["image"].obsm[IMAGES][CELL, :, :8] = 60_000  # hidden in the first copy only
    after = trained_model.get_reconstruction(screen, **arguments).prediction
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[1] - before[1]).max() > 0.1


def test_error_has_a_row_per_predictor_with_margins_to_petri(trained_model):
    table = trained_model.get_reconstruction_error().set_index(["modality", "predictor"])
    assert table.index.tolist() == [
        ("image", "PETRI"),
        ("image", "mean patch"),
        ("image", "mean of visible patches"),
        ("rna", "PETRI"),
        ("rna", "mean expression"),
    ]
    for name, rows in trained_model.validation_indices.items():
        part = table.loc[name]
        assert (part["n_cells"] == len(rows)).all()
        np.testing.assert_allclose(part["margin"], 1 - part.loc["PETRI", "loss"] / part["loss"])


def test_error_reads_other_data_in_pieces_and_the_pieces_do_not_matter(trained_model, screen, monkeypatch):
    whole = trained_model.get_reconstruction_error(screen)
    assert set(whole["n_cells"]) == {240, 228}
    monkeypatch.setattr(_reconstruction, "CELLS_PER_CHUNK", 50)
    monkeypatch.setattr("petri_scvi.modalities._fingerprint.N_VALUES_READ", 0)
    n_read = []
    read = _InMemory.read

    def count(reader, rows):
        n_read.append(len(rows))
        return read(reader, rows)

    monkeypatch.setattr(_InMemory, "read", count)
    pd.testing.assert_frame_equal(trained_model.get_reconstruction_error(screen), whole)
    n_read.clear()
    monkeypatch.setattr(_reconstruction, "N_CELLS_FOR_AVERAGES", 60)
    monkeypatch.setattr(_documents, "DOCUMENTS_PER_CHUNK", 4)
    trained_model.get_reconstruction_error(screen)
    assert 0 < max(n_read) <= 60


def test_mean_patch_and_mean_of_visible_patches_are_scored_as_defined(trained_model):
    network = trained_model.module.modality("image")
    images = torch.from_numpy(trained_model.adata["image"].obsm[IMAGES][:6])
    mask = torch.tensor([[True, True, True, False]] * 2)
    pixels = network.prepare(images)
    scores = {name: score(pixels[:2], mask) for name, score in network.model_free_scores(pixels[2:]).items()}
    expected = (pixels[:2] - pixels[2:].mean(dim=0)).square()
    is_hidden = torch.ones(16, 16, dtype=torch.bool)
    is_hidden[8:, 8:] = False
    torch.testing.assert_close(scores["mean patch"], expected[:, :, is_hidden].mean(dim=(1, 2)))
    visible = pixels[:2, :, 8:, 8:].repeat(1, 1, 2, 2)
    expected = (pixels[:2] - visible).square()
    torch.testing.assert_close(scores["mean of visible patches"], expected[:, :, is_hidden].mean(dim=(1, 2)))


def test_a_modality_that_is_predicted_without_error_has_no_margin(make_screen, fit):
    screen = make_screen()
    screen["image"].obsm[IMAGES] = screen["image"].obsm[IMAGES] * 0
    table = fit(screen).get_reconstruction_error().set_index(["modality", "predictor"])
    assert table.loc[("image", "mean patch"), "loss"] == 0
    assert np.isnan(table.loc[("image", "mean patch"), "margin"])
    assert np.isfinite(table.loc["rna", "margin"]).all()
