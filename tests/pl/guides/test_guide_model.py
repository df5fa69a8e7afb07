"""Plots of the guide model show its numbers and their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from petri_scvi import pl


def test_every_guide_has_its_efficacy_and_interval_and_dead_ones_are_open(modelled):
    table = modelled.uns["petri_scvi"]["guide_model"]["guides"]
    ax = pl.guide_efficacy(modelled)
    drawn = [c for c in ax.collections if hasattr(c, "get_sizes") and len(c.get_sizes())]
    found = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in drawn])
    np.testing.assert_allclose(np.sort(found), np.sort(table["efficacy"]))
    n_open = sum(len(c.get_offsets()) for c in drawn if np.allclose(c.get_facecolor(), 1))
    assert n_open == (table["p_dead"] > 0.5).sum() > 0
    legend = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert f"{n_open} more likely dead" in legend


def test_chosen_genes_are_drawn_in_order_and_unknown_ones_are_named(modelled):
    ax = pl.guide_efficacy(modelled, target_genes=["GENE3", "GENE1"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["GENE3", "GENE1"]
    assert "12 more genes not drawn" in ax.get_legend().get_title().get_text()
    with pytest.raises(ValueError, match="'NOGENE'"):
        pl.guide_efficacy(modelled, target_genes=["NOGENE"])


def test_squares_of_pairs_have_the_colour_of_their_cosine_and_shrink_with_its_interval(modelled):
    ax = pl.gene_similarity(modelled)
    names = [label.get_text() for label in ax.get_yticklabels()]
    order = modelled.obs_names.get_indexer(names)
    (squares,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    np.testing.assert_allclose(squares.get_array(), modelled.obsp["cosine"][np.ix_(order, order)].ravel())
    width = (modelled.obsp["cosine_high"] - modelled.obsp["cosine_low"])[np.ix_(order, order)].ravel()
    sides = np.array([np.ptp(path.vertices[:, 0]) for path in squares.get_paths()])
    np.testing.assert_allclose(sides, np.clip(1 - width, 0.2, 1))
    assert len(np.unique(sides.round(3))) > 5


def test_bars_are_variances_and_the_title_says_what_modalities_share(modelled):
    result = modelled.uns["petri_scvi"]["guide_model"]
    ax = pl.shared_variance(modelled)
    heights = sorted(patch.get_height() for patch in ax.patches)
    expected = result["variance"][["shared", "specific", "off_target", "sampling"]].to_numpy().ravel()
    np.testing.assert_allclose(heights, sorted(expected))
    assert f"correlation {result['pairs']['correlation'].item():.2f}" in ax.get_title()
