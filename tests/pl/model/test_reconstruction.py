"""Plots of a model draw the numbers they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from petri_scvi import pl


def test_history_draws_both_curves_of_a_modality_from_epoch_one():
    history = {
        "train_loss_rna": pd.DataFrame({"train_loss_rna": [3.0, 2.0]}),
        "validation_loss_rna": pd.DataFrame({"validation_loss_rna": [4.0, 2.5]}),
    }
    ax = pl.training_history(history, modality="rna")
    assert [line.get_label() for line in ax.lines] == ["train", "validation"]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 3], [2, 2]], [[1, 4], [2, 2.5]]]


def test_history_without_the_modality_says_what_there_is():
    with pytest.raises(KeyError, match="train_loss_dna.*train_loss_rna"):
        pl.training_history({"train_loss_rna": pd.DataFrame()}, modality="dna")


def test_crops_show_the_prediction_where_masked_and_the_measurement_elsewhere():
    images = np.zeros((1, 1, 4, 4))
    images[0, 0, 0, 0], images[0, 0, 3, 3] = 1.0, 0.5
    prediction = np.ones((1, 1, 4, 4))
    mask = np.array([[True, False, False, False]])  # upper left patch of 2 x 2
    ax = pl.reconstructed_crops(images, prediction, mask, colours=["white"])
    original, masked, reconstructed = np.split(ax.images[0].get_array()[:, :4, 0].reshape(3, 5, 4)[:, :4], 3)
    assert original[0, 0, 0] == 1
    assert original[0, 1, 1] == 0
    assert (masked[0, :2, :2] == np.float64(0.85)).all()
    assert (reconstructed[0, :2, :2] == 1).all()
    np.testing.assert_allclose(reconstructed[0, 2:], original[0, 2:], rtol=1e-6)


def test_a_channel_that_was_not_measured_is_dark_and_then_predicted():
    images = np.stack([np.eye(4), np.full((4, 4), np.nan)])[None]
    prediction = np.stack([np.zeros((4, 4)), np.eye(4)[::-1]])[None]
    mask = np.array([[True, False, False, False]])
    ax = pl.reconstructed_crops(images, prediction, mask, colours=["red", "lime"])
    rows = ax.images[0].get_array()[:, :4].reshape(3, 5, 4, 3)[:, :4]
    assert (rows[0, ..., 0] == np.eye(4)).all()
    assert (rows[0, ..., 1] == 0).all()
    assert (rows[1, :2, :2] == np.float64(0.85)).all()
    assert (rows[2, ..., 1] == np.eye(4)[::-1]).all()


def test_crops_are_drawn_on_the_axes_given_and_name_the_channels(rng):
    _, ax = plt.subplots()
    images = rng.random((3, 2, 8, 8))
    mask = np.zeros((3, 4), dtype=bool)
    assert pl.reconstructed_crops(images, images, mask, channel_names=["dna", "lipid_droplets"], ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dna", "lipid droplets"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["original", "masked", "reconstructed"]


def test_crops_of_other_cells_are_refused(rng):
    with pytest.raises(ValueError, match="do not belong together"):
        pl.reconstructed_crops(rng.random((3, 2, 8, 8)), rng.random((2, 2, 8, 8)), np.zeros((2, 4), dtype=bool))


def test_expression_draws_means_of_masked_entries_by_group():
    observed = np.array([[1, 9], [3, 9], [8, 9]])
    prediction = np.array([[2.0, 0.5], [4.0, 0.5], [7.0, 0.5]])
    mask = np.array([[True, False], [True, False], [True, True]])
    ax = pl.reconstructed_expression(sparse.csr_matrix(observed), prediction, mask, groups=["a", "a", "b"])
    points = {tuple(point) for point in ax.collections[0].get_offsets().tolist()}
    assert points == {(2.0, 3.0), (8.0, 7.0), (9.0, 0.5)}  # gene 1 of group a was never masked
    ax = pl.reconstructed_expression(observed, prediction, mask)
    assert {tuple(p) for p in ax.collections[0].get_offsets().tolist()} == {(4.0, 13 / 3), (9.0, 0.5)}


def test_expression_of_other_cells_is_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        pl.reconstructed_expression(np.ones((2, 3)), np.ones((2, 2)), np.ones((2, 2), dtype=bool))
