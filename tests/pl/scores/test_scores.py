"""Plots of edges, scores, probes and mixing draw what ``tl`` wrote."""

from __future__ import annotations

import numpy as np
import pytest

from petri_scvi import pl, tl


def legend(ax):
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def result(data, name):
    return data.uns["petri_scvi"][name]


def test_roc_is_the_curve_with_its_point_and_chance(genes):
    scored = result(genes, "edge_recall")
    chance, curve, point = pl.edge_recall(genes, label="ours").lines
    np.testing.assert_array_equal(chance.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(curve.get_xydata(), scored["curve"][["fpr", "tpr"]])
    np.testing.assert_array_equal(point.get_xydata(), [[0.05, scored["score"]]])


def test_two_embeddings_share_axes_without_covering_their_rates(genes):
    ax = pl.edge_recall(genes, label="ours")
    assert pl.edge_recall(genes, key="loose", ax=ax) is ax
    auc = result(genes, "edge_recall")["auc"]
    assert legend(ax) == [f"ours, AUC {auc:.2f}", f"loose, AUC {auc:.2f}"]
    rates = [100 * result(genes, key)["score"] for key in ("edge_recall", "loose")]
    assert [text.get_text() for text in ax.texts] == [f"{rates[0]:.0f} % at 5 % FPR", f"{rates[1]:.0f} % at 20 % FPR"]
    assert len(ax.lines) == 5  # one diagonal for both
    assert ax.lines[1].get_color() != ax.lines[3].get_color()
    assert ax.lines[1].get_linestyle() != ax.lines[3].get_linestyle()
    pl.edge_recall(genes, ax=ax)  # a third at the same place as the first
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1 for a, b in [(boxes[0], boxes[2]), (boxes[1], boxes[2])])


def test_efaar_recall_adds_a_row_per_call_beside_one_chance_line(genes):
    ax = pl.efaar_recall(genes, label="ours")
    pl.efaar_recall(genes, ax=ax)
    score = result(genes, "efaar_recall")["score"]
    assert [line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata()) == 1] == [
        [[score, 0]],
        [[score, 1]],
    ]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["ours", "4 pairs"]
    assert legend(ax) == ["chance, 0.1"]


def test_forest_has_a_row_per_combination_with_its_interval(cells):
    table = result(cells, "score_screen")["table"]
    rows = table[table["metric"] == "edge_auc"]
    ax = pl.score_screen(cells, metric="edge_auc", references={"published": 0.628})
    values = np.concatenate([line.get_xdata() for line in ax.lines if line.get_linestyle() == "None"])
    np.testing.assert_array_equal(values, rows["value"])
    segments = np.concatenate([c.get_segments() for c in ax.collections])
    np.testing.assert_array_equal(segments[:, :, 0], rows[["ci_low", "ci_high"]])
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[:3] == ["X_emb, image", "X_emb, rna", "X_emb, image+rna, concatenate"]
    assert len(names) == len(rows)
    assert names[len(rows) // 2].startswith("X_other")
    assert [text.get_text().split()[0] for text in ax.texts] == [f"{value:.2f}" for value in rows["value"]]
    assert legend(ax) == ["chance", "published, 0.628"]
    assert [ax.lines[i].get_xdata()[0] for i in (-2, -1)] == [0.5, 0.628]


@pytest.mark.parametrize(
    ("metric", "chance"),
    [("guide_consistency", None), ("edge_tpr_at_5_fpr", 0.05), ("edge_average_precision", None)],
)
def test_chance_is_drawn_where_it_has_a_meaning(cells, metric, chance):
    vertical = [
        line.get_xdata()[0] for line in pl.score_screen(cells, metric=metric).lines if len(line.get_xdata()) == 2
    ]
    assert vertical == ([] if chance is None else [chance])


def test_scores_without_resamples_have_no_interval_and_other_metrics_say_what_they_need(cells):
    data = cells["image"].copy()
    tl.score_screen(data, ["X_emb"], n_bootstrap=0, progress=False)
    ax = pl.score_screen(data)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["X_emb"]
    assert "[" not in ax.texts[0].get_text()
    with pytest.raises(ValueError, match=r"metric='edge_auc'.*\['guide_consistency'\].*edges="):
        pl.score_screen(data, metric="edge_auc")


def test_probe_draws_folds_mean_and_chance_of_each_modality(cells):
    table = result(cells, "probe_X_emb_perturbation_linear")["table"]
    ax = pl.probe(cells, obs_key="perturbation")
    points, mean, chance = ax.collections[:3]
    of_image = table[table["modality"] == "image"]
    np.testing.assert_array_equal(points.get_offsets()[:, 1], of_image["balanced_accuracy"])
    assert mean.get_segments()[0][0, 1] == pytest.approx(of_image["balanced_accuracy"].mean())
    assert chance.get_segments()[0][0, 1] == pytest.approx(1 / 15)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["image", "rna"]
    assert legend(ax) == ["mean of folds", "chance"]
    auc = pl.probe(cells, obs_key="perturbation", metric="auc")
    assert auc.collections[2].get_segments()[0][0, 1] == 0.5


def test_probe_of_numbers_draws_r2_and_knows_no_accuracy(cells):
    ax = pl.probe(cells, obs_key="area", method="knn")
    assert ax.get_ylabel() == "R²"
    assert ax.collections[2].get_segments()[0][0, 1] == 0
    with pytest.raises(ValueError, match=r"metric='auc'.*\['r2'\]"):
        pl.probe(cells, obs_key="area", method="knn", metric="auc")


def test_mixing_draws_both_scores_of_each_modality(cells):
    table = result(cells, "mixing_X_emb_replicate")["table"]
    ax = pl.mixing(cells, obs_key="replicate")
    np.testing.assert_array_equal(ax.lines[-2].get_xdata(), table["entropy"])
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), table["silhouette"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["image\n2 groups", "rna\n2 groups"]


def test_foscttm_draws_the_share_of_pairs_up_to_each_fraction(cells):
    found = result(cells, "foscttm_X_emb_perturbation")
    ax = pl.foscttm(cells, pair_key="perturbation")
    x, y = ax.lines[1].get_xdata(), ax.lines[1].get_ydata()
    np.testing.assert_array_equal(x[1:], np.sort(found["pairs"]["image_to_rna"]))
    assert (y[0], y[-1]) == (0, 1)
    assert legend(ax)[0] == f"image to rna: mean {found['table']['foscttm'].iloc[0]:.2f}"


def test_recall_of_contexts_draws_a_line_per_direction_and_chance(cells):
    table = result(cells, "context_recall_X_emb_perturbation")["table"]
    ax = pl.context_recall(cells)
    assert legend(ax) == ["chance", "image to rna", "rna to image"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), table["chance"][:2])
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), table["recall"][2:])


def test_shares_of_variance_are_drawn_adjusted_and_as_they_are(cells):
    table = result(cells, "variance_shares_X_emb")["table"]
    ax = pl.variance_shares(cells)
    np.testing.assert_array_equal([bar.get_width() for bar in ax.patches], table["share_adjusted"])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), table["share"])
    assert ax.get_yticklabels()[0].get_text() == "perturbation, image"
