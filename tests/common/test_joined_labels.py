from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from petri_scvi import pp, tl
from petri_scvi.common import joined_labels, split_labels
from petri_scvi.datasets import synthetic_screen

PIECES = ["a", "+", "|", "\\", " ", "a+", "+a", "a | b", "\\+", "", "a|", " | "]


@pytest.mark.parametrize("separator", ["+", " | ", "|"])
def test_different_labels_never_share_a_name_and_come_back(separator: str) -> None:
    pairs = list(product(PIECES, repeat=2)) + [(a, b, c) for a, b, c in product(PIECES[:8], repeat=3)]
    names = [joined_labels([[label] for label in pair], separator)[0] for pair in pairs]
    assert len(set(names)) == len(pairs)
    assert [tuple(split_labels(name, separator)) for name in names] == pairs


def test_labels_without_the_separator_read_plainly() -> None:
    assert joined_labels([["guide", "x"], ["1", "2"]], "+").tolist() == ["guide+1", "x+2"]
    assert joined_labels([["plate"], [3]], " | ").tolist() == ["plate | 3"]


def test_guides_and_replicates_whose_names_hold_the_separator_keep_their_own_profiles() -> None:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    rna = mdata["rna"]
    rna.obsm["X"] = np.zeros((rna.n_obs, 2), dtype=np.float32)
    first, second = np.arange(0, rna.n_obs, 2), np.arange(1, rna.n_obs, 2)
    rna.obsm["X"][second] = 1.0
    for column, values in {"guide": ("A", "A+1"), "replicate": ("1+2", "2"), "target_gene": ("g", "g")}.items():
        labels = np.empty(rna.n_obs, dtype=object)
        labels[first], labels[second] = values
        rna.obs[column] = labels
    profiles = tl.replicate_profiles(rna, "X", replicate_key="replicate")
    assert profiles.obs[["guide", "replicate"]].to_numpy().tolist() == [["A", "1+2"], ["A+1", "2"]]
    assert profiles.X.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_plates_whose_names_hold_the_separator_are_scaled_apart() -> None:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    rna = mdata["rna"]
    rng = np.random.default_rng(0)
    is_second = np.arange(rna.n_obs) % 2 == 1
    rna.obsm["X"] = rng.normal(size=(rna.n_obs, 2)) + 100 * is_second[:, None]
    rna.obs["plate"] = np.where(is_second, "a", "a | b")
    rna.obs["run"] = np.where(is_second, "b | c", "c")
    tl.center_scale(rna, "X", replicate_key=["plate", "run"])
    scaled = np.asarray(rna.obsm["X_scaled"])
    assert abs(np.median(scaled[is_second]) - np.median(scaled[~is_second])) < 1
    assert np.abs(scaled).max() < 10


def test_a_screen_with_a_plus_in_the_name_of_a_modality_is_scored() -> None:
    mdata = synthetic_screen(n_cells=600, n_pathways=3, n_genes=60, image_size=16)
    renamed = type(mdata)({"a+b": mdata["image"], "rna": mdata["rna"]})
    renamed.obsm["X"] = np.random.default_rng(0).normal(size=(renamed.n_obs, 4))
    edges = mdata.uns["synthetic_screen"]["edges"]
    table = tl.score_screen(renamed, ["X"], edges=edges, n_bootstrap=0, progress=False)
    assert set(table["modality"]) == {"a+b", "rna", "a\\+b+rna"}


def test_plates_whose_names_hold_the_separator_are_compared_apart() -> None:
    rng = np.random.default_rng(0)
    rna = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)["rna"]
    is_second = np.arange(rna.n_obs) % 2 == 1
    rna.obsm["X"] = rng.normal(size=(rna.n_obs, 2)) + 100 * is_second[:, None]
    results = []
    for first, second in [(("a", "b | c"), ("a | b", "c")), (("p", "q"), ("r", "s"))]:
        rna.obs["plate"], rna.obs["run"] = (np.where(is_second, second[i], first[i]) for i in (0, 1))
        tl.perturbation_strength(rna, "X", replicate_key=["plate", "run"], n_permutations=19, progress=False)
        results.append(rna.uns["petri_scvi"]["perturbation_strength_X"]["table"])
    assert results[0].equals(results[1])


def test_a_modality_with_a_plus_in_its_name_is_not_two_modalities() -> None:
    cells = {"a+b": ["u"], "a": ["v", "w"], "b": ["w", "x"]}
    mdata = MuData({name: AnnData(obs=pd.DataFrame(index=names)) for name, names in cells.items()})
    pp.join_obs(mdata, [])
    assert mdata.obs["modality"].astype(str).to_dict() == {"u": "a\\+b", "v": "a", "w": "a+b", "x": "b"}
