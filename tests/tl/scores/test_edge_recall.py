from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Literal

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_similarity

from petri_scvi.datasets import stringdb, synthetic_screen
from petri_scvi.datasets.public import _stringdb
from petri_scvi.tl import _similarity, edge_recall, efaar_recall, profile_similarity
from petri_scvi.tl._similarity import BLOCK, Similarities, pair_index
from petri_scvi.tl.scores._edges import match_edges, read_edges

if TYPE_CHECKING:
    from pathlib import Path


def genes(vectors: np.ndarray, names: list[str] | None = None) -> AnnData:
    names = [f"G{i}" for i in range(len(vectors))] if names is None else names
    return AnnData(X=np.asarray(vectors, dtype=float), obs=pd.DataFrame({"target_gene": names}, index=names))


def pairs(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["entity1", "entity2", "score"][: len(rows[0])])


def random_screen(
    n: int = 60, n_edges: int = 100, seed: int = 0, decimals: int | None = None
) -> tuple[AnnData, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6))
    vectors = vectors if decimals is None else np.round(vectors, decimals)
    first, second = np.triu_indices(n, k=1)
    chosen = rng.choice(len(first), size=n_edges, replace=False)
    vectors[first[chosen[:20]]] += vectors[second[chosen[:20]]]
    return genes(vectors), pairs(*[(f"G{first[i]}", f"G{second[i]}") for i in chosen])


def result_of(profiles: AnnData, edges: Any, **changes: Any) -> dict[str, Any]:
    edge_recall(profiles, edges, **({"control": None} | changes))
    return profiles.uns["petri_scvi"]["edge_recall"]


@pytest.mark.parametrize("decimals", [None, 0])  # rounded vectors have many equal cosines
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_scikit_learn(seed: int, decimals: int | None) -> None:
    profiles, edges = random_screen(seed=seed, decimals=decimals)
    profile_similarity(profiles)
    is_usable = (profiles.X != 0).any(axis=1)
    profiles = profiles[is_usable].copy()
    listed = edges[edges["entity1"].isin(profiles.obs_names) & edges["entity2"].isin(profiles.obs_names)]
    result = result_of(profiles, listed, similarity_key="similarity")
    first, second = np.triu_indices(profiles.n_obs, k=1)
    score = profiles.obsp["similarity"][first, second]
    known = {frozenset(edge) for edge in listed.to_numpy().tolist()}
    names = profiles.obs_names.to_numpy()
    label = [frozenset((a, b)) in known for a, b in zip(names[first], names[second], strict=True)]
    fpr, tpr, _ = roc_curve(label, score)
    assert result["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-9)
    assert result["average_precision"] == pytest.approx(average_precision_score(label, score), abs=1e-9)
    for rate, found in result["tpr_at_fpr"].to_numpy():
        assert found == pytest.approx(np.interp(rate, fpr, tpr), abs=1e-9)
    assert result["score"] == result["tpr_at_fpr"].set_index("fpr").loc[0.05, "tpr"]


def test_a_case_counted_by_hand() -> None:
    """Four genes on a circle: cosines 01: 0.87, 12: 0.82, 02: 0.42, 23: 0.09, 13: -0.5, 03: -0.87."""
    angles = np.deg2rad([0, 30, 65, 150])
    profiles = genes(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    result = result_of(profiles, pairs(("G0", "G2"), ("G1", "G2")), max_fpr=0.25)
    # Each of the two positives beats three of the four negatives; only 01 beats both.
    assert result["n_negative"] == 4
    assert result["auc"] == pytest.approx(6 / 8)
    assert result["score"] == pytest.approx(1.0)
    assert result["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    positives = result["positives"].set_index(["entity1", "entity2"])
    assert positives.loc[("G0", "G2"), "similarity"] == pytest.approx(np.cos(np.deg2rad(65)))


def test_order_repetition_case_and_self_pairs_of_the_table_do_not_matter() -> None:
    profiles, edges = random_screen()
    profiles.obs["target_gene"] = profiles.obs["target_gene"].str.lower()
    flipped = edges.rename(columns={"entity1": "entity2", "entity2": "entity1"})
    noisy = pd.concat([edges, flipped, pairs(("G1", "G1"), ("UNKNOWN1", "G2"))])
    result, expected = result_of(profiles, noisy), result_of(random_screen()[0], edges)
    assert {k: result[k] for k in ("auc", "score", "n_positive", "n_negative")} == {
        k: expected[k] for k in ("auc", "score", "n_positive", "n_negative")
    }
    assert result["n_edges_in_table"] == 101


def test_listed_pairs_below_the_threshold_are_neither_positive_nor_negative() -> None:
    profiles, edges = random_screen()
    scored = edges.assign(score=np.where(np.arange(100) < 60, 0.99, 0.5))
    result = result_of(profiles, scored)
    assert (result["n_positive"], result["n_between"], result["n_negative"]) == (60, 40, 60 * 59 // 2 - 100)
    matched = match_edges(scored, profiles.obs_names.to_numpy(), 0.95)
    score = Similarities(None, cosine_similarity(profiles.X)).of_all_pairs()
    negative, positive = score[matched.is_negative()], score[matched.positive_index]
    label = np.repeat([1, 0], [len(positive), len(negative)])
    assert result["auc"] == pytest.approx(roc_auc_score(label, np.concatenate([positive, negative])), abs=1e-9)


def test_a_pair_listed_with_two_scores_counts_as_positive_once() -> None:
    profiles = genes(np.random.default_rng(0).normal(size=(5, 3)))
    result = result_of(profiles, pairs(("G0", "G1", 0.99), ("G1", "G0", 0.2), ("G2", "G3", 0.2)))
    assert (result["n_positive"], result["n_between"], result["n_negative"]) == (1, 1, 8)


def test_controls_are_not_scored() -> None:
    profiles, edges = random_screen()
    with_control = genes(np.vstack([profiles.X, np.ones((1, 6))]), [*profiles.obs["target_gene"], "non-targeting"])
    assert result_of(with_control, edges, control="non-targeting")["n_genes"] == 60
    assert result_of(with_control, edges, control="non-targeting")["auc"] == result_of(profiles, edges)["auc"]


def test_recalled_pairs_are_those_above_the_threshold() -> None:
    profiles, edges = random_screen()
    result = result_of(profiles, edges, max_fpr=0.1)
    matched = match_edges(edges, profiles.obs_names.to_numpy(), 0.95)
    negative = Similarities(None, cosine_similarity(profiles.X)).of_all_pairs()[matched.is_negative()]
    recalled = result["positives"]["is_recalled"]
    assert (negative > result["positives"]["similarity"][recalled].min()).mean() <= 0.1
    assert (negative > result["positives"]["similarity"][~recalled].max()).mean() >= 0.1 - 1 / len(negative)
    assert result["score"] == pytest.approx(recalled.mean(), abs=0.02)


def test_pairs_are_numbered_as_triu_indices_and_blocks_agree() -> None:
    n = 70
    first, second = np.triu_indices(n, k=1)
    np.testing.assert_array_equal(pair_index(second, first, n), np.arange(len(first)))
    rng = np.random.default_rng(0)
    large = int(np.sqrt(BLOCK)) + 100  # more than one block
    matrix = rng.random((large, large), dtype=np.float32)
    condensed = Similarities(None, matrix).of_all_pairs()  # type: ignore[arg-type]
    np.testing.assert_allclose(condensed, matrix[np.triu_indices(large, k=1)])


def test_single_precision_for_many_pairs_changes_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles, edges = random_screen(n=300, n_edges=2000)
    double = result_of(profiles, edges)
    monkeypatch.setattr(_similarity, "MANY_PAIRS", 1000)
    single = result_of(profiles, edges)
    assert single["positives"]["similarity"].dtype == np.float32
    for name in ("auc", "average_precision", "score"):
        assert single[name] == pytest.approx(double[name], abs=1e-6)


@pytest.mark.parametrize("tail", [0.05, 0.2])
def test_pairs_that_tie_are_in_a_tail_as_often_as_over_all_orders(tail: float) -> None:
    """Of 45 pairs, those among the first five genes are alike, and known pairs are among them."""
    edges = pairs(("G0", "G1"), ("G2", "G3"), ("G5", "G6"))
    similarity = np.random.default_rng(0).uniform(-1, 0, size=(10, 10))
    similarity = similarity + similarity.T
    similarity[:5, :5] = 0.5
    profiles = genes(np.ones((10, 1)))
    profiles.obsp["tied"] = similarity

    def score() -> float:
        efaar_recall(profiles, edges, tail=tail, similarity_key="tied", control=None)
        return profiles.uns["petri_scvi"]["efaar_recall"]["score"]

    tied, scores = score(), []
    for seed in range(300):
        noise = np.random.default_rng(seed).uniform(0, 1e-6, size=(5, 5))
        profiles.obsp["tied"][:5, :5] = 0.5 + noise + noise.T
        scores.append(score())
    assert tied == pytest.approx(np.mean(scores), abs=0.05)
    assert tied > 0
    assert np.std(scores) > 0


def test_equal_profiles_are_in_the_tails_by_chance() -> None:
    profiles = genes(np.ones((41, 3)))
    efaar_recall(profiles, pairs(*[(f"G{i}", f"G{i + 1}") for i in range(0, 40, 2)]), control=None)
    result = profiles.uns["petri_scvi"]["efaar_recall"]
    assert result["score"] == pytest.approx(result["chance"])


def test_random_profiles_have_no_recall_beyond_chance() -> None:
    profiles, edges = random_screen(n=150, n_edges=800)
    profiles.X = np.random.default_rng(1).normal(size=profiles.shape)
    result = result_of(profiles, edges)
    assert result["auc"] == pytest.approx(0.5, abs=0.05)
    assert result["score"] == pytest.approx(0.05, abs=0.03)
    efaar_recall(profiles, edges, control=None)
    efaar = profiles.uns["petri_scvi"]["efaar_recall"]
    assert efaar["chance"] == 0.1
    assert efaar["score"] == pytest.approx(0.1, abs=0.04)


def test_efaar_recall_counts_both_tails() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(8, 30))
    vectors[1], vectors[3] = vectors[0], -vectors[2]
    profiles = genes(vectors)
    edges = pairs(("G0", "G1"), ("G2", "G3"))
    efaar_recall(profiles, edges, control=None)
    assert profiles.uns["petri_scvi"]["efaar_recall"]["score"] == 1
    assert result_of(profiles, edges)["score"] == pytest.approx(0.5, abs=0.05)


def test_truth_of_the_synthetic_screen_recovers_its_edges() -> None:
    truth = synthetic_screen(n_cells=1600).uns["synthetic_screen"]
    effects = pd.concat([truth["perturbation_gene_effects"], truth["perturbation_morphology_effects"]])
    profiles = genes(effects.T.to_numpy(), list(effects.columns))
    profiles.X = profiles.X / profiles.X.std(axis=0).clip(1e-9)
    result = result_of(profiles, truth["edges"][["entity1", "entity2"]])
    assert result["auc"] > 0.95
    assert result["n_genes_in_table"] == result["n_genes"]


@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_a_users_file_can_have_commas_tabs_or_spaces(separator: str, tmp_path: Path) -> None:
    profiles, edges = random_screen()
    path = tmp_path / "edges.txt"
    edges.assign(combined_score=999).to_csv(path, sep=separator, index=False)
    assert result_of(profiles, path, min_score=950)["auc"] == result_of(random_screen()[0], edges)["auc"]
    assert read_edges(str(path)).columns.tolist() == ["entity1", "entity2", "score"]


def test_a_gene_called_na_is_a_gene(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("a,b\nNA,G1\nG2,G3\n")
    assert read_edges(tmp_path / "edges.csv")["entity1"].tolist() == ["NA", "G2"]


def test_errors_about_edges_say_what_overlaps_and_what_to_do() -> None:
    profiles, edges = random_screen(n=6, n_edges=5)
    with pytest.raises(ValueError, match=r"no positive edge joins two of the 6 genes: 1 of them"):
        edge_recall(profiles, pairs(("G0", "TP53"), ("MYC", "MAX")), control=None)
    with pytest.raises(
        ValueError, match="no positive edge.*0 edges.*lower min_score|no positive edge.*score of at most 0.95"
    ):
        edge_recall(profiles, edges.assign(score=0.1), control=None)
    everything = pairs(*[(f"G{a}", f"G{b}") for a in range(6) for b in range(a)])
    with pytest.raises(ValueError, match="all 15 pairs of the 6 genes are listed"):
        edge_recall(profiles, everything, control=None)
    with pytest.raises(ValueError, match=r"up to 999, but min_score=0.95.*pass min_score=950"):
        edge_recall(profiles, edges.assign(combined_score=999), control=None)
    with pytest.raises(ValueError, match="are not numbers"):
        edge_recall(profiles, edges.assign(score="high"), control=None)
    with pytest.raises(ValueError, match=r"shape \(5, 1\)"):
        edge_recall(profiles, edges[["entity1"]], control=None)
    with pytest.raises(TypeError, match="found list.*datasets.stringdb"):
        edge_recall(profiles, [("G0", "G1")], control=None)
    with pytest.raises(FileNotFoundError):
        edge_recall(profiles, "no_such_file.csv", control=None)
    with pytest.raises(ValueError, match="max_fpr=5 is not accepted"):
        edge_recall(profiles, edges, max_fpr=5, control=None)
    with pytest.raises(ValueError, match="tail=0.5 is not accepted"):
        efaar_recall(profiles, edges, tail=0.5, control=None)
    with pytest.raises(ValueError, match="1 genes have more than one profile, for example 'G0'.*level='gene'"):
        edge_recall(genes(profiles.X, ["G0", "g0", "G2", "G3", "G4", "G5"]), edges, control=None)


def test_rows_that_lack_a_gene_are_counted_and_left_out() -> None:
    """A missing gene must not become one that is called NAN."""
    profiles, edges = random_screen()
    profiles.obs["target_gene"] = ["NAN", "NONE", *profiles.obs["target_gene"][2:]]
    holes = pairs((None, "G2"), ("G3", float("nan")))
    with pytest.warns(UserWarning, match="2 of 102 rows of the edge table lack a gene"):
        result = result_of(profiles, pd.concat([edges, holes]))
    assert result["n_positive"] == result_of(profiles, edges)["n_positive"]


@pytest.mark.parametrize("of_table", ["human", "mouse"])
def test_screens_of_either_species_find_the_edges_of_either_spelling(
    of_table: Literal["human", "mouse"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"entity1,entity2\nTOMM20,TOMM22\nMYC,MAX\nACTB,PFN1\n"
    entry = dataclasses.replace(_stringdb.STRINGDB, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(_stringdb, "STRINGDB", entry)
    (tmp_path / "StringDB.txt").write_bytes(content)
    table = stringdb(of_table, cache_dir=tmp_path)
    human = ["TOMM20", "TOMM22", "MYC", "MAX", "ACTB", "PFN1"]
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    for names in (human, [name.capitalize() for name in human]):
        result = result_of(genes(vectors, names), table)
        assert (result["n_genes_in_table"], result["n_edges_in_table"], result["n_positive"]) == (6, 3, 3)
        assert set(result["positives"]["entity1"]) <= set(names)  # spelled as in the screen


def test_genes_the_table_does_not_know_are_counted() -> None:
    profiles = genes(np.random.default_rng(0).normal(size=(5, 3)))
    with pytest.warns(UserWarning, match=r"3 of 5 genes are not in the edge table, for example \['G2', 'G3', 'G4'\]"):
        result = result_of(profiles, pairs(("G0", "G1")))
    assert result["n_genes_in_table"] == 2


def test_the_result_survives_a_file(tmp_path: Path) -> None:
    profiles, edges = random_screen()
    result = result_of(profiles, edges)
    efaar_recall(profiles, edges, control=None)
    profiles.write_h5ad(tmp_path / "genes.h5ad")
    read = anndata.read_h5ad(tmp_path / "genes.h5ad").uns["petri_scvi"]
    np.testing.assert_array_equal(read["edge_recall"]["curve"]["tpr"], result["curve"]["tpr"])
    assert read["edge_recall"]["parameters"]["min_score"] == 0.95
    assert read["efaar_recall"]["chance"] == 0.1
