"""Scores of one embedding stay when another one is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from petri_scvi import pl, tl
from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

SCORES: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "probe": (lambda m, key: tl.probe(m, key, obs_key="batch"), pl.probe, {"obs_key": "batch"}),
    "mixing": (lambda m, key: tl.mixing(m, key, obs_key="batch"), pl.mixing, {"obs_key": "batch"}),
    "variance_shares": (lambda m, key: tl.variance_shares(m, key), pl.variance_shares, {}),
    "perturbation_strength": (
        lambda m, key: tl.perturbation_strength(m, key, n_permutations=19, progress=False),
        pl.perturbation_strength,
        {},
    ),
    "replicate_consistency": (
        lambda m, key: tl.replicate_consistency(m, key, n_null=500),
        pl.replicate_consistency,
        {},
    ),
}
OF_TWO_MODALITIES: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "foscttm": (
        lambda m, key: tl.foscttm(m, key, pair_key="perturbation"),
        pl.foscttm,
        {"pair_key": "perturbation"},
    ),
    "context_recall": (lambda m, key: tl.context_recall(m, key), pl.context_recall, {}),
}


@pytest.fixture(scope="module")
def cells() -> MuData:
    mdata = synthetic_screen(n_cells=600, n_pathways=2, n_genes=60, image_size=16)
    rng = np.random.default_rng(0)
    for key in ("X_first", "X_second"):
        mdata.obsm[key] = rng.normal(size=(mdata.n_obs, 3))
    return mdata


@pytest.mark.parametrize("name", [*SCORES, *OF_TWO_MODALITIES])
def test_both_results_are_kept_and_drawn_by_name(cells: MuData, name: str) -> None:
    score, draw, arguments = (SCORES | OF_TWO_MODALITIES)[name]
    cells.uns.pop("petri_scvi", None)
    score(cells, "X_first")
    draw(cells, **arguments)  # a single one needs no name
    first = {key: dict(result) for key, result in cells.uns["petri_scvi"].items()}
    score(cells, "X_second")
    (written,) = first
    assert cells.uns["petri_scvi"][written]["table"].equals(first[written]["table"])
    assert len(cells.uns["petri_scvi"]) == 2
    with pytest.raises(ValueError, match="several embeddings were scored.*key='X_first'"):
        draw(cells, **arguments)
    draw(cells, **arguments, key="X_second")
    plt.close("all")


@pytest.mark.parametrize("name", SCORES)
def test_a_column_of_the_user_called_modality_stays_a_column(cells: MuData, name: str) -> None:
    rna = cells["rna"].copy()
    rna.obsm["X"] = np.random.default_rng(1).normal(size=(rna.n_obs, 3))
    score = SCORES[name][0]
    rna.uns.pop("petri_scvi", None)
    score(rna, "X")
    expected = next(iter(rna.uns["petri_scvi"].values()))["table"]
    rna.obs["modality"] = np.where(np.arange(rna.n_obs) % 2, "left", "right")
    rna.uns.pop("petri_scvi")
    score(rna, "X")
    assert next(iter(rna.uns["petri_scvi"].values()))["table"].equals(expected)
    tl.probe(rna, "X", obs_key="modality")
    assert rna.uns["petri_scvi"]["probe_X_modality_linear"]["table"]["n_classes"].eq(2).all()
    tl.mixing(rna, "X", obs_key="modality")
    assert rna.uns["petri_scvi"]["mixing_X_modality"]["table"]["n_groups"].tolist() == [2]


def test_results_of_several_codes_and_embeddings_of_images_are_kept(cells: MuData) -> None:
    cells.uns.pop("petri_scvi", None)
    for key in ("X_first", "X_second"):
        cells.obsm[f"{key}_sae"] = np.maximum(cells.obsm[key], 0)
        tl.dimension_wells(cells, f"{key}_sae", progress=False)
        tl.image_to_expression_r2(cells, key, n_folds=4, progress=False)
        pl.image_to_expression_r2(cells, key=key)
    plt.close("all")
    results = cells.uns["petri_scvi"]
    assert set(results) == {
        *(f"dimension_wells_{key}_sae_well" for key in ("X_first", "X_second")),
        *(f"image_to_expression_r2_{key}" for key in ("X_first", "X_second")),
    }
    first, second = (results[f"dimension_wells_{key}_sae_well"]["table"]["auc"] for key in ("X_first", "X_second"))
    assert not first.equals(second)


def test_the_cells_that_a_modality_has_are_no_embedding(cells: MuData) -> None:
    assert "rna" in cells.obsm
    with pytest.raises(KeyError, match=r"key='rna' is not in mdata.obsm, which has \['X_first'"):
        tl.probe(cells, "rna", obs_key="batch")
