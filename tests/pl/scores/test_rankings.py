"""Rankings draw every gene, its null and its call, and name the strongest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.text import Text

from petri_scvi import pl
from petri_scvi.pl._labels import spread


def points(ax):
    """Offsets of circles: misses and hits, modality by modality."""
    return [np.asarray(c.get_offsets()) for c in ax.collections if c.get_label() != "null_95"]


def test_genes_are_in_order_and_filled_where_consistent(guides):
    result = guides.uns["petri_scvi"]["guide_consistency"]
    table = result["table"].sort_values("similarity")
    ax = pl.guide_consistency(guides)
    misses, hits = points(ax)
    np.testing.assert_array_equal(hits[:, 1], table.loc[table["is_consistent"], "similarity"])
    np.testing.assert_array_equal(misses[:, 1], table.loc[~table["is_consistent"], "similarity"])
    both = np.concatenate([misses, hits])
    np.testing.assert_array_equal(both[np.argsort(both[:, 0]), 1], table["similarity"])
    assert ax.get_title().startswith(f"Guide consistency {result['score']:.2f}\n95 % CI {result['score_low']:.2f}")
    circles = [c for c in ax.collections if c.get_label() != "null_95"]
    assert circles[0].get_facecolor().size == 0
    assert circles[1].get_facecolor().size > 0


def test_the_null_of_each_gene_is_drawn_below_its_point(guides):
    table = guides.uns["petri_scvi"]["guide_consistency"]["table"].sort_values("similarity")
    ax = pl.guide_consistency(guides)
    (dashes,) = [c for c in ax.collections if c.get_label() == "null_95"]
    np.testing.assert_array_equal(dashes.get_offsets()[:, 1], table["null_95"])
    np.testing.assert_array_equal(ax.patches[0].get_data().values, table["null_95"])
    np.testing.assert_array_equal(ax.patches[0].get_data().baseline, table["null_mean"])


def test_the_most_consistent_genes_are_named(guides):
    table = guides.uns["petri_scvi"]["guide_consistency"]["table"]
    hits = table[table["is_consistent"]].sort_values("similarity", ascending=False)["target_gene"].tolist()
    assert [text.get_text() for text in pl.guide_consistency(guides, n_labels=2).texts] == hits[:2]
    assert [text.get_text() for text in pl.guide_consistency(guides, n_labels=99).texts] == hits
    assert not pl.guide_consistency(guides, n_labels=0).texts


def test_replicates_of_both_modalities_have_their_own_colours_and_null(cells):
    table = cells.uns["petri_scvi"]["replicate_consistency_X_emb"]["table"]
    ax = pl.replicate_consistency(cells)
    for i, name in enumerate(("image", "rna")):
        rows = table[table["modality"] == name].sort_values("similarity")
        misses, hits = points(ax)[2 * i : 2 * i + 2]
        np.testing.assert_array_equal(hits[:, 1], rows.loc[rows["is_consistent"], "similarity"])
        np.testing.assert_array_equal(misses[:, 1], rows.loc[~rows["is_consistent"], "similarity"])
        null = [c for c in ax.collections if c.get_label() == "null_95"][i]
        np.testing.assert_array_equal(null.get_offsets()[:, 1], rows["null_95"])
    n_hits = table.groupby("modality")["is_consistent"].sum()
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[:2] == [f"image: {n_hits['image']} of 14 consistent", f"rna: {n_hits['rna']} of 14 consistent"]
    assert len({text.get_color() for text in ax.texts}) == 2


def test_one_modality_can_be_drawn(cells):
    table = cells.uns["petri_scvi"]["perturbation_strength_X_emb"]["table"]
    ax = pl.perturbation_strength(cells, modality="rna")
    drawn = np.sort(np.concatenate(points(ax))[:, 1])
    np.testing.assert_array_equal(drawn, np.sort(table.loc[table["modality"] == "rna", "energy_distance"]))
    for plot in (pl.perturbation_strength, pl.replicate_consistency):
        with pytest.raises(ValueError, match=r"modality='dna'.*\['image', 'rna'\]"):
            plot(cells, modality="dna")


def test_strength_names_the_strongest_active_ones_of_each_modality(cells):
    table = cells.uns["petri_scvi"]["perturbation_strength_X_emb"]["table"]
    ax = pl.perturbation_strength(cells, n_labels=2)
    strongest = [
        table[(table["modality"] == m) & table["is_active"]]["perturbation"].head(2).tolist() for m in ("image", "rna")
    ]
    assert [text.get_text() for text in ax.texts] == [
        strongest[0][0],
        strongest[1][0],
        strongest[0][1],
        strongest[1][1],
    ]
    assert ax.get_ylabel() == "Energy distance to non-targeting"
    assert [line.get_ydata()[0] for line in ax.lines] == [0]


def test_average_precision_is_drawn_against_chance(guides):
    result = guides.uns["petri_scvi"]["mean_average_precision"]
    ax = pl.mean_average_precision(guides)
    drawn = np.sort(np.concatenate(points(ax))[:, 1])
    np.testing.assert_array_equal(drawn, np.sort(result["table"]["mean_normalized_average_precision"]))
    assert [line.get_ydata()[0] for line in ax.lines] == [0]
    assert f"{result['score']:.2f}" in ax.get_title()


def strength_of(n: int, *, n_active: int, n_untested: int = 0) -> AnnData:
    """A result with many perturbations of nearly the same strength."""
    names = [f"a_rather_long_gene_name_{i}" for i in range(n)]
    table = pd.DataFrame({"modality": "all", "perturbation": names, "energy_distance": np.linspace(1, 0, n) ** 4})
    table["is_active"] = np.arange(n) < n_active
    table.loc[n - n_untested :, "energy_distance"] = np.nan
    parameters = {"alpha": 0.05, "control": np.array(["NT", "safe"]), "perturbation_key": "guide"}
    data = AnnData(np.zeros((1, 1)))
    data.uns["petri_scvi"] = {
        "perturbation_strength_X_emb": {"table": table, "parameters": parameters | {"key": "X_emb"}}
    }
    return data


@pytest.mark.parametrize("n_labels", [5, 40])
def test_names_of_700_perturbations_do_not_cover_each_other(n_labels):
    ax = pl.perturbation_strength(strength_of(700, n_active=300), n_labels=n_labels)
    ax.figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 5 if n_labels == 5 else 10 < len(boxes) <= 40
    assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False))
    assert all(0 <= box.y0 and box.y1 <= ax.figure.bbox.y1 and box.x1 <= ax.figure.bbox.x1 for box in boxes)


def test_untested_perturbations_are_counted_and_none_may_be_active():
    ax = pl.perturbation_strength(strength_of(20, n_active=0, n_untested=3))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "0 of 17 active",
        "others, q ≥ 0.05",
        "3 not tested",
    ]
    assert not ax.texts
    assert ax.get_xlabel() == "Guides, in order"
    assert ax.get_ylabel() == "Energy distance to NT, safe"
    assert not np.concatenate(points(pl.perturbation_strength(strength_of(3, n_active=0, n_untested=3)))).size


def test_heights_are_apart_and_stay_where_there_is_room():
    np.testing.assert_allclose(spread(np.array([0.9, 0.1, 0.5]), 0.1), [0.9, 0.1, 0.5])
    np.testing.assert_allclose(spread(np.array([0.5, 0.5]), 0.1), [0.45, 0.55])
    crowded = spread(np.array([1.0, 1.0, 1.0, 0.99]), 0.2)
    np.testing.assert_allclose(np.sort(crowded), [0.4, 0.6, 0.8, 1.0])
    assert crowded.argmin() == 3
