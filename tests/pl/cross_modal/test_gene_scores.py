"""Plots of predictions across modalities draw the numbers they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import pl

CONDITIONS = ("none", "mixed", "own", "changed")


@pytest.fixture
def reconstructed():
    """Two cells of 4 x 4 pixels whose first quarter was hidden."""
    cells = pd.DataFrame(
        {
            "row": [3, 5] * 4,
            "condition": np.repeat(CONDITIONS, 2),
            "intensity": [5.0, 10, 10, 10, 12, 14, 20, 24],
            "mse": [8.0, 8, 4, 4, 3, 3, 6, 6],
        }
    )
    images = np.zeros((2, 4, 4), dtype=np.float32)
    images[:, 3, 3] = 1.0
    adata = AnnData(np.zeros((2, 1)))
    adata.uns["petri_scvi"] = {
        "targeted_reconstruction": {
            "cells": cells,
            "images": images,
            "mask": np.array([[True, False, False, False]] * 2),
            "predictions": np.linspace(0, 1, 4)[:, None, None, None] * np.ones((4, 2, 4, 4)),
            "parameters": {"channel": "lipid_droplets", "changed_context": "TARGET02"},
        }
    }
    return adata


def test_crops_show_each_prediction_where_patches_were_hidden_and_the_measurement_elsewhere(reconstructed):
    crops, *_ = pl.targeted_reconstruction(reconstructed)
    picture = np.asarray(crops.images[0].get_array())
    rows = [picture[5 * i : 5 * i + 4, :4, 0] for i in range(6)]
    assert rows[0][0, 0] == 0
    assert all(row[3, 3] == 1 for row in rows)
    assert (picture[5, 0] == (0.35, 0.45, 0.65)).all()
    np.testing.assert_allclose([row[0, 0] for row in rows[2:]], np.linspace(0, 1, 4), atol=0.01)
    assert all(row[0, 3] == 0 for row in rows)
    assert crops.get_yticklabels()[-1].get_text() == "with RNA,\nTARGET02"


def test_changes_are_in_percent_of_rna_of_any_context(reconstructed, reread):
    for data in (reconstructed, reread(reconstructed)):
        _, intensity, error = pl.targeted_reconstruction(data)
        drawn = [collection.get_offsets()[:, 1].tolist() for collection in intensity.collections[::2]]
        assert drawn == [[-50, 0], [20, 40], [100, 140]]
        assert [points.get_offsets()[0, 1] for points in error.collections[::2]] == [100, -25, 50]
        means = [lines.get_segments()[0][0][1] for lines in intensity.collections[1::2]]
        assert means == [-25, 30, 120]


def test_axes_of_the_user_are_drawn_on_and_number_of_cells_is_chosen(reconstructed):
    _, axes = plt.subplots(1, 3)
    assert pl.targeted_reconstruction(reconstructed, n_cells=1, axes=tuple(axes)) == tuple(axes)
    assert axes[0].images[0].get_array().shape[1] == 5
    with pytest.raises(ValueError, match="n_cells=0"):
        pl.targeted_reconstruction(reconstructed, n_cells=0)


def test_shares_of_genes_are_drawn_with_mean_and_paper(reconstructed):
    table = pd.DataFrame({"gene": list("abcd"), "r2": [0.1, np.nan, 0.3, -3.0], "reliability": [0.5, 0.6, 0.7, 0.8]})
    summary = pd.DataFrame({"level": ["context"], "predictor": ["ViT"]})
    reconstructed.uns["petri_scvi"]["image_to_expression_r2"] = {"table": table, "summary": summary}
    ax = pl.image_to_expression_r2(reconstructed)
    curve, mean, most, *_ = ax.lines
    assert curve.get_xdata().tolist() == [-1, 0.1, 0.3]
    np.testing.assert_allclose(curve.get_ydata(), [1 / 3, 2 / 3, 1])
    assert mean.get_xdata()[0] == pytest.approx(-2.6 / 3)
    assert most.get_xdata().tolist() == [0.5, 0.6, 0.7, 0.8]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "paper's mean, 0.117" in words
    assert "paper, 80% below 0.2" in words
    assert ax.get_xlabel() == "R² by context"
    with pytest.raises(KeyError, match=r"image_to_expression_r2_X.*image_to_expression_r2\(mdata, 'X'\)"):
        pl.image_to_expression_r2(reconstructed, key="X")


def test_imputed_expression_is_drawn_beside_measuring_again_if_that_is_known():
    var = pd.DataFrame({"r2_predicted": [0.2, -0.5], "r2_assay": [np.nan, np.nan]}, index=list("ab"))
    profiles = AnnData(np.zeros((1, 2)), var=var)
    profiles.uns["petri_scvi"] = {"impute_expression": {"summary": pd.DataFrame({"predictor": ["predicted"]})}}
    assert [line.get_label() for line in pl.impute_expression(profiles).lines] == ["images", "mean over contexts"]
    profiles.var["r2_assay"] = [0.5, 0.6]
    lines = pl.impute_expression(profiles).lines
    assert [line.get_label() for line in lines] == ["images", "measured again", "mean over contexts"]
    assert lines[0].get_xdata().tolist() == [-0.5, 0.2]


@pytest.mark.parametrize(
    ("draw", "call"),
    [
        (pl.targeted_reconstruction, r"tl\.targeted_reconstruction\(model, channel=\.\.\., changed_context=\.\.\.\)"),
        (pl.image_to_expression_r2, r"tl\.image_to_expression_r2\(mdata\)"),
        (pl.impute_expression, r"tl\.impute_expression\(model\)"),
    ],
)
def test_a_missing_result_names_the_call_that_writes_it(draw, call):
    with pytest.raises(KeyError, match=call):
        draw(AnnData(np.zeros((2, 1))))
    assert not plt.get_fignums()
