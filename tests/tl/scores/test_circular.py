"""Known pairs that share a group with which the embedding was trained."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from petri_scvi._groups import record_groups, recorded_groups
from petri_scvi.tl import aggregate_guides, aggregate_profiles, edge_recall, efaar_recall, late_fusion, score_screen
from petri_scvi.tl.scores._circular import pairs_in_groups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

NAMES = [f"GENE{i}" for i in range(8)]
GROUPS = {"first": ["GENE0", "GENE1", "gene2", "ELSEWHERE"], "second": ["GENE2", "GENE3"], "alone": ["GENE5"]}
IN_GROUPS = [(0, 1), (0, 2), (1, 2), (2, 3)]
EDGES = pd.DataFrame({"a": ["GENE0", "GENE2", "GENE4", "GENE1"], "b": ["GENE1", "GENE3", "GENE5", "GENE6"]})
"""The first two share a group."""


@pytest.fixture
def profiles() -> AnnData:
    vectors = np.random.default_rng(0).normal(size=(8, 5))
    return AnnData(X=vectors, obs=pd.DataFrame({"target_gene": NAMES}, index=NAMES))


def recall(profiles: AnnData, **changes: Any) -> dict[str, Any]:
    edge_recall(profiles, EDGES, control=None, **changes)
    return profiles.uns["petri_scvi"]["edge_recall"]


def test_pairs_of_overlapping_groups_are_found_once_whatever_their_case() -> None:
    assert pairs_in_groups(GROUPS, NAMES).tolist() == [list(pair) for pair in IN_GROUPS]
    assert pairs_in_groups({}, NAMES).shape == pairs_in_groups({"a": ["X"]}, NAMES).shape == (0, 2)


def test_neither_known_nor_unlisted_pairs_of_a_group_are_scored(profiles: AnnData) -> None:
    found = recall(profiles, leave_out_groups=GROUPS)
    assert (found["n_positive"], found["n_in_groups"], found["n_negative"]) == (2, 4, 28 - 2 - 4)
    units = np.asarray(profiles.X) / np.linalg.norm(np.asarray(profiles.X), axis=1, keepdims=True)
    pairs = [(i, j) for i in range(8) for j in range(i + 1, 8) if (i, j) not in IN_GROUPS]
    is_known = [pair in [(4, 5), (1, 6)] for pair in pairs]
    assert found["auc"] == pytest.approx(roc_auc_score(is_known, [units[i] @ units[j] for i, j in pairs]))
    assert found["positives"]["entity1"].tolist() == ["GENE1", "GENE4"]
    assert recall(profiles)["n_in_groups"] == 0


def test_ranks_of_both_tails_are_among_the_pairs_that_are_left(profiles: AnnData) -> None:
    efaar_recall(profiles, EDGES, control=None, tail=0.2, leave_out_groups=GROUPS)
    found = profiles.uns["petri_scvi"]["efaar_recall"]["score"]
    # The same pairs are left if the others are removed from the similarities by hand.
    units = np.asarray(profiles.X) / np.linalg.norm(np.asarray(profiles.X), axis=1, keepdims=True)
    left = [(i, j) for i in range(8) for j in range(i + 1, 8) if (i, j) not in IN_GROUPS]
    ranks = pd.Series([units[i] @ units[j] for i, j in left], index=left).rank().to_numpy()
    known = [left.index((4, 5)), left.index((1, 6))]
    is_tail = (ranks <= int(0.2 * len(left))) | (ranks / len(left) >= 0.8)
    assert found == pytest.approx(np.mean(is_tail[known]))


def test_a_file_a_column_and_the_record_of_the_model_name_the_same_groups(profiles: AnnData, tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("".join(f"{name}\t\t" + "\t".join(members) + "\n" for name, members in GROUPS.items()))
    column = pd.Series(["first", "first", "first;second", "second"], index=NAMES[:4])
    record_groups(profiles, GROUPS)
    for groups in (GROUPS, path, column, True):
        assert recall(profiles, leave_out_groups=groups)["n_in_groups"] == 4


def test_a_warning_counts_known_pairs_in_groups_of_the_model(profiles: AnnData) -> None:
    record_groups(profiles, GROUPS)
    with pytest.warns(UserWarning, match=r"2 of 4 known pairs share a group.*Pass leave_out_groups=True"):
        recall(profiles)
    with pytest.warns(UserWarning, match="2 of 4 known pairs"):
        efaar_recall(profiles, EDGES, control=None, tail=0.2)
    record_groups(profiles, {"other": ["GENE6", "GENE7"]})
    recall(profiles)


def test_groups_that_were_not_recorded_and_edges_of_one_source_are_refused(profiles: AnnData) -> None:
    with pytest.raises(ValueError, match=r"no context_groups.*leave_out_groups=\{'proteasome'"):
        recall(profiles, leave_out_groups=True)
    with pytest.raises(ValueError, match="28 pairs share a group and are left out; pass edges of another source"):
        recall(profiles, leave_out_groups={"all": NAMES})
    with pytest.raises(TypeError, match="leave_out_groups is a list"):
        recall(profiles, leave_out_groups=[NAMES])


def test_profiles_keep_the_record(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    record_groups(mdata, GROUPS)
    parts = [aggregate_profiles(mdata, "X_emb", modality=name, level="gene") for name in ("image", "rna")]
    guides = aggregate_profiles(mdata, "X_emb", modality="rna")
    for found in (*parts, aggregate_guides(guides), late_fusion(parts, "mean_cosine")):
        assert recorded_groups(found) == GROUPS


def test_a_whole_screen_warns_once_and_leaves_out_what_the_single_steps_do(make_mudata: Callable[..., MuData]) -> None:
    mdata = make_mudata(shared=False)
    edges = EDGES.replace("GENE6", "GENE4")
    record_groups(mdata, GROUPS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score_screen(mdata, ["X_emb"], edges=edges, n_bootstrap=0, progress=False)
    assert len([w for w in caught if "2 of 4 known pairs share a group" in str(w.message)]) == 1
    table = score_screen(mdata, ["X_emb"], edges=edges, leave_out_groups=True, n_bootstrap=20, progress=False)
    assert set(table.loc[table["metric"] == "edge_auc", "n"]) == {2}
    stored = mdata.uns["petri_scvi"]["score_screen"]["parameters"]
    assert stored["n_left_out_groups"] == 3
    auc = table[(table["metric"] == "edge_auc") & (table["fusion"] == "none")]
    assert (auc["ci_low"] <= auc["value"]).all()
    assert (auc["value"] <= auc["ci_high"]).all()
