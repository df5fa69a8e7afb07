"""Tools that write into their data write into a copy on demand, as those of scanpy."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import io, tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

    from petri_scvi import PETRI

RESULTS = ("AnnData", "pd.DataFrame", "SparseAutoencoder")
"""Types of what other tools return; see docs/coming_from_scvi_tools.md."""
EDGES = pd.DataFrame({"a": [f"TARGET{i:02d}" for i in range(1, 15)], "b": ["TARGET01"] * 13 + ["TARGET02"]})

OF_CELLS: dict[str, dict[str, Any]] = {
    "center_scale": {},
    "context_recall": {"k": (1,)},
    "dimension_activity": {"n_examples": 2},
    "dimension_agreement": {"n_permutations": 20},
    "dimension_genes": {"progress": False},
    "dimension_image_features": {},
    "dimension_wells": {"progress": False, "n_folds": 2},
    "foscttm": {"pair_key": "perturbation"},
    "image_features": {"max_cells": 4, "n_jobs": 1, "progress": False},
    "image_to_expression_r2": {"key": "X_petri", "n_folds": 2, "progress": False},
    "mixing": {},
    "multimodal_dimensions": {},
    "perturbation_strength": {"key": "X_petri", "n_permutations": 19, "progress": False},
    "probe": {"obs_key": "batch", "n_folds": 2},
    "replicate_consistency": {"key": "X_petri", "n_null": 100},
    "variance_shares": {},
    "whiten": {"key": "X_petri"},
}
OF_PROFILES: dict[str, dict[str, Any]] = {
    "edge_recall": {"edges": EDGES, "min_score": 0.5},
    "efaar_recall": {"edges": EDGES, "min_score": 0.5},
    "guide_consistency": {"n_null": 300},
    "mean_average_precision": {"n_null": 300},
    "profile_similarity": {},
}


@pytest.fixture(scope="module")
def cells(make_screen: Callable[..., MuData]) -> MuData:
    """A screen with two embeddings; tests must not change it."""
    mdata = make_screen(n_cells=480, n_pathways=4)
    rng = np.random.default_rng(0)
    mdata.obsm["X_petri"] = rng.normal(size=(mdata.n_obs, 4)).astype(np.float32)
    mdata.obsm["X_sae"] = np.maximum(mdata.obsm["X_petri"], 0)
    mdata["image"].obsm["image_features"] = mdata["image"].obsm["true_morphology"]
    return mdata


def content(data: AnnData | MuData) -> dict[str, Any]:
    """Names of all slots, and the results."""
    tables = {"": data} if isinstance(data, AnnData) else {"": data, **data.mod}
    found = {name: sorted([*table.obs, *table.obsm, *table.obsp, *table.varm]) for name, table in tables.items()}
    results = {name: result for table in tables.values() for name, result in table.uns.get("petri_scvi", {}).items()}
    return {**found, "results": results}


def check_copies(
    tool: Callable[..., Any], data: AnnData | MuData, assert_same: Callable[..., None], **named: Any
) -> None:
    before = content(data)
    changed = tool(data, **named, copy=True)
    assert_same(content(data), before)
    assert type(changed) is type(data)
    written = data.copy()
    assert tool(written, **named) is None
    assert_same(content(changed), content(written))
    assert content(changed).keys() == before.keys()
    assert str(content(changed)) != str(before)


def test_every_tool_writes_into_a_copy_or_returns_its_result() -> None:
    tools = {name: inspect.signature(getattr(tl, name)) for name in tl.__all__}
    can_copy = {name for name, of in tools.items() if "copy" in of.parameters}
    assert can_copy == {*OF_CELLS, *OF_PROFILES, "dimension_gene_sets", "targeted_reconstruction"}
    assert {of.return_annotation for name, of in tools.items() if name not in can_copy} == set(RESULTS)
    for name in can_copy:
        assert tools[name].parameters["copy"].default is False
        assert tools[name].return_annotation.endswith("| None")
        described = inspect.getdoc(getattr(tl, name)) or ""
        assert "\ncopy\n    Leave the data as they are, and write into a copy, which is returned.\n" in described


@pytest.mark.parametrize("name", OF_CELLS)
def test_cells_stay_as_they_are(name: str, cells: MuData, assert_same: Callable[..., None]) -> None:
    if name == "image_features":
        pytest.importorskip("skimage")
    check_copies(getattr(tl, name), cells, assert_same, **OF_CELLS[name])


@pytest.mark.parametrize("name", OF_PROFILES)
def test_profiles_stay_as_they_are(name: str, cells: MuData, assert_same: Callable[..., None]) -> None:
    profiles = tl.aggregate_profiles(cells, "X_petri")
    genes = profiles if name in ("guide_consistency", "mean_average_precision") else tl.aggregate_guides(profiles)
    check_copies(getattr(tl, name), genes, assert_same, **OF_PROFILES[name])


def test_gene_sets_of_a_copy_are_not_those_of_the_data(described: MuData, assert_same: Callable[..., None]) -> None:
    loadings = described.uns["synthetic_screen"]["gene_loadings"]
    sets = {f"PROGRAM_{i}": list(loadings.index[loadings.iloc[:, i] != 0]) for i in (0, 1)}
    check_copies(tl.dimension_gene_sets, described, assert_same, gene_sets=sets)


def test_a_copy_of_the_data_of_a_model_has_the_same_cells_reconstructed(
    trained_model: PETRI, assert_same: Callable[..., None]
) -> None:
    arguments: dict[str, Any] = {"channel": "lipid_droplets", "changed_context": "TARGET01", "n_other_contexts": 0}
    changed = tl.targeted_reconstruction(trained_model, **arguments, max_cells=4, progress=False, copy=True)
    assert changed is not None
    assert "petri_scvi" not in trained_model.adata.uns
    other = trained_model.adata.copy()
    assert tl.targeted_reconstruction(trained_model, other, **arguments, max_cells=4, progress=False) is None
    own = changed.uns["petri_scvi"]["targeted_reconstruction"]
    assert set(own["rows"]) <= set(trained_model.get_held_out_rows(modality="image"))
    assert own.keys() == other.uns["petri_scvi"]["targeted_reconstruction"].keys()


def test_cells_on_disk_are_refused_and_scored_as_the_error_says(cells: MuData, tmp_path: Path) -> None:
    cells.write(tmp_path / "screen.h5mu")
    opened = io.open_screen(tmp_path / "screen.h5mu")
    with pytest.raises(ValueError, match="copy=True is not accepted: .* lies in a file .* Leave out copy"):
        tl.mixing(opened, copy=True)
    tl.mixing(opened)
    assert "mixing_X_petri_modality" in opened.uns["petri_scvi"]
