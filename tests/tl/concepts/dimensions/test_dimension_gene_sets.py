"""Enrichment is Fisher's exact test against the expressed genes, and names the program of a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, fisher_exact

from petri_scvi import tl
from petri_scvi.tl.concepts.dimensions import _dimension_gene_sets

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

NOISE = 8


def programs_of(mdata: MuData) -> dict[str, list[str]]:
    """Genes of each program that can be seen in RNA, and as many sets of genes at random."""
    loadings = mdata.uns["synthetic_screen"]["gene_loadings"]
    rng = np.random.default_rng(0)
    sets = {f"PROGRAM_{i}": list(loadings.index[loadings.iloc[:, i] != 0]) for i in (0, 1, 2, 3, 5)}
    return sets | {f"RANDOM_{i}": list(rng.choice(loadings.index, 15, replace=False)) for i in range(20)}


def sets_of(data: Any, gene_sets: Any, **changes: Any) -> dict[str, Any]:
    tl.dimension_gene_sets(data, gene_sets, **changes)
    return data.uns["petri_scvi"]["dimension_gene_sets_X_sae"]


@pytest.fixture
def ranked(planted: MuData) -> MuData:
    tl.dimension_genes(planted, rankby_abs=True, progress=False)
    return planted


def test_the_first_set_of_a_dimension_is_its_program(ranked: MuData) -> None:
    table = sets_of(ranked, programs_of(ranked))["table"]
    first = table[table["rank"] == 1].set_index("dimension")
    for dimension in (0, 1, 2, 3, 5):
        assert first.loc[dimension, "gene_set"] == f"PROGRAM_{dimension}"
        assert first.loc[dimension, "q_value"] < 0.01
        assert first.loc[dimension, "fold"] > 2
    assert not (table["q_value"][table["gene_set"].astype(str).str.startswith("RANDOM")] < 0.01).any()
    assert not (table["dimension"] == NOISE).any() or (table.loc[table["dimension"] == NOISE, "q_value"] > 0.01).all()


def test_p_values_are_those_of_fishers_exact_test_and_q_values_count_all_tests(
    ranked: MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = programs_of(ranked) | {"STRANGERS": ["not measured"] * 3 + ["nor this"]}
    monkeypatch.setattr(_dimension_gene_sets, "CHUNK_DIMENSIONS", 2)
    result = sets_of(ranked, sets, n_sets=100)
    genes = ranked.uns["petri_scvi"]["dimension_genes_X_sae"]
    background = set(genes["background"])
    hits = genes["table"][genes["table"]["q_value"] <= 0.05]
    expected = {}
    for dimension, part in hits.groupby("dimension"):
        query = set(part["gene"].astype(str))
        for name, members in programs_of(ranked).items():
            inside = set(members) & background
            both = len(query & inside)
            rest = len(background) - len(query) - len(inside) + both
            square = [[both, len(query) - both], [len(inside) - both, rest]]
            expected[dimension, name] = fisher_exact(square, alternative="greater").pvalue
    q_values = dict(zip(expected, false_discovery_control(list(expected.values())), strict=True))
    assert result["n_tests"] == len(expected)
    assert len(result["table"]) == sum(p <= 0.05 for p in expected.values())
    for row in result["table"].itertuples():
        pair = (row.dimension, row.gene_set)
        assert row.p_value == pytest.approx(expected[pair], rel=1e-6)
        assert row.q_value >= q_values[pair] - 1e-12
        if q_values[pair] <= 0.05:
            assert row.q_value == pytest.approx(q_values[pair], rel=1e-6)
        shared = set(sets[row.gene_set]) & set(hits.loc[hits["dimension"] == row.dimension, "gene"].astype(str))
        assert row.genes == ", ".join(sorted(shared))
        assert row.n_overlap == len(shared)


def test_sets_from_a_gmt_file_give_what_a_dict_gives(ranked: MuData, tmp_path: Path) -> None:
    sets = programs_of(ranked)
    expected = sets_of(ranked, sets)["table"]
    path = tmp_path / "sets.gmt"
    path.write_text("".join(f"{name}\thttps://set\t" + "\t".join(genes) + "\n" for name, genes in sets.items()) + "\n")
    for given in (path, str(path)):
        pd.testing.assert_frame_equal(sets_of(ranked, given)["table"], expected)


def test_few_sets_are_listed_and_a_gene_named_twice_counts_once(ranked: MuData) -> None:
    sets = programs_of(ranked)
    expected = sets_of(ranked, sets)["table"]
    twice = sets_of(ranked, {name: genes * 2 for name, genes in sets.items()}, n_sets=1)["table"]
    assert (twice.groupby("dimension").size() == 1).all()
    first = expected[expected["rank"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(twice.drop(columns="gene_set"), first.drop(columns="gene_set"))


def test_sets_of_another_size_are_not_tested(ranked: MuData) -> None:
    sets = programs_of(ranked)
    background = set(ranked.uns["petri_scvi"]["dimension_genes_X_sae"]["background"])
    sizes = {name: len(set(genes) & background) for name, genes in sets.items()}
    result = sets_of(ranked, sets, min_size=min(sizes.values()) + 1)
    n_kept = sum(size > min(sizes.values()) for size in sizes.values())
    assert result["parameters"]["n_gene_sets"] == n_kept < len(sets)


def test_sets_without_a_measured_gene_are_refused_with_both_kinds_of_names(ranked: MuData) -> None:
    both = r"no gene of the 1 gene sets, for example \['ENSG01'\], .* in the background, for example \['TARGET01', "
    with pytest.raises(ValueError, match=both):
        sets_of(ranked, {"A": ["ENSG01"]})
    with pytest.raises(ValueError, match="They agree in upper case: convert one of them"):
        sets_of(ranked, {"A": ["target01", "target02"]})
    assert "dimension_gene_sets_X_sae" not in ranked.uns["petri_scvi"]


def test_what_cannot_be_tested_is_refused(ranked: MuData, planted: MuData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of 25 gene sets has min_size=100 to max_size=500 genes in"):
        sets_of(ranked, programs_of(ranked), min_size=100)
    with pytest.raises(ValueError, match=r"='TARGET01' is one string; pass a list, such as \['TARGET01'\]"):
        sets_of(ranked, {"A": "TARGET01"})
    with pytest.raises(FileNotFoundError):
        sets_of(ranked, tmp_path / "nowhere.gmt")
    (tmp_path / "list.gmt").write_text("TARGET01\nTARGET02\n")
    with pytest.raises(ValueError, match=r"line 1 of .*list.gmt is 'TARGET01'; expected a GMT file"):
        sets_of(ranked, tmp_path / "list.gmt")
    with pytest.raises(ValueError, match="no dimension has a gene with a q-value of at most alpha=1e-300"):
        sets_of(ranked, programs_of(ranked), alpha=1e-300)
    del ranked.uns["petri_scvi"]
    with pytest.raises(KeyError, match=r"Call petri_scvi.tl.dimension_genes\(data, 'X_sae'\) first"):
        sets_of(ranked, programs_of(ranked))
