"""Rows of a modality in its MuData are looked up by name, so that a change of one is never overlooked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scanpy as sc

from petri_scvi import PETRI, pl, pp, tl
from petri_scvi.common import rows_from_indices, rows_in_mdata, rows_in_modality
from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


@pytest.fixture
def screen() -> MuData:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    rng = np.random.default_rng(0)
    mdata.obsm["X_petri"] = rng.normal(size=(mdata.n_obs, 4)).astype(np.float32)
    mdata.obsm["X_sae"] = np.maximum(mdata.obsm["X_petri"], 0)
    return mdata


def reverse(mdata: MuData) -> None:
    mdata.mod["rna"] = mdata["rna"][::-1].copy()


def drop_a_cell(mdata: MuData) -> None:
    mdata.mod["rna"] = mdata["rna"][1:].copy()


def rename_a_cell(mdata: MuData) -> None:
    mdata["rna"].obs_names = ["renamed", *mdata["rna"].obs_names[1:]]


READERS: dict[str, Callable[[MuData], Any]] = {
    "aggregate_profiles": lambda m: tl.aggregate_profiles(m, "X_petri"),
    "center_scale": lambda m: tl.center_scale(m, "X_petri"),
    "whiten": lambda m: tl.whiten(m, "X_petri"),
    "score_screen": lambda m: tl.score_screen(m, ["X_petri"], n_bootstrap=0, progress=False),
    "probe": lambda m: tl.probe(m, "X_petri", obs_key="well"),
    "foscttm": lambda m: tl.foscttm(m, "X_petri", pair_key="perturbation"),
    "context_recall": lambda m: tl.context_recall(m, "X_petri"),
    "variance_shares": lambda m: tl.variance_shares(m, "X_petri"),
    "mixing": lambda m: tl.mixing(m, "X_petri", obs_key="batch"),
    "perturbation_strength": lambda m: tl.perturbation_strength(m, "X_petri"),
    "replicate_consistency": lambda m: tl.replicate_consistency(m, "X_petri"),
    "replicate_profiles": lambda m: tl.replicate_profiles(m, "X_petri"),
    "fit_sae": lambda m: tl.fit_sae(m, "X_petri", progress=False),
    "multimodal_dimensions": lambda m: tl.multimodal_dimensions(m),
    "dimension_agreement": lambda m: tl.dimension_agreement(m),
    "dimension_wells": lambda m: tl.dimension_wells(m, progress=False),
    "dimension_activity": lambda m: tl.dimension_activity(m),
    "dimension_genes": lambda m: tl.dimension_genes(m, progress=False),
    "describe_dimensions": lambda m: tl.describe_dimensions(m),
    "image_to_expression_r2": lambda m: tl.image_to_expression_r2(m, key="X_petri", progress=False),
    "join_obs": lambda m: pp.join_obs(m, ["guide"]),
    "umap_crops": lambda m: pl.umap_crops(m, basis="X_petri"),
}


@pytest.mark.parametrize("change", [reverse, drop_a_cell, rename_a_cell])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_modality_that_changed_unnoticed_is_refused(
    screen: MuData, reader: Callable[[MuData], Any], change: Callable[[MuData], None]
) -> None:
    change(screen)
    with pytest.raises(ValueError, match=r"Call mdata\.update\(\) first"):
        reader(screen)


def test_rows_are_right_after_the_call_that_the_error_names(screen: MuData) -> None:
    reverse(screen)
    with pytest.raises(ValueError, match=r"mdata\.update\(\)"):
        rows_in_modality(screen, "rna")
    screen.update()
    rows = rows_in_modality(screen, "rna")
    is_here = rows >= 0
    assert (screen["rna"].obs_names[rows[is_here]] == screen.obs_names[is_here]).all()
    assert is_here.sum() == screen["rna"].n_obs
    assert (screen.obs_names[rows_in_mdata(screen, "rna")] == screen["rna"].obs_names).all()


def test_the_embedding_of_reordered_cells_is_refused_and_then_right() -> None:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, embed_dim=16, n_heads=2, image_encoder_depth=1, expression_encoder_depth=1)
    model.train(max_epochs=1, max_steps=1, enable_progress_bar=False)
    by_name = dict(zip(mdata["rna"].obs_names, model.get_latent_representation(modality="rna"), strict=True))
    reverse(mdata)
    with pytest.raises(ValueError, match=r"mdata\.update\(\)"):
        model.get_latent_representation()
    mdata.update()
    with pytest.raises(ValueError, match=r"cells in another order, are other data: pass mdata\.copy\(\)"):
        model.get_latent_representation()
    embedding = model.get_latent_representation(mdata.copy())
    expected = np.stack([by_name[name] for name in mdata["rna"].obs_names])
    np.testing.assert_allclose(embedding[rows_in_mdata(mdata, "rna")], expected, rtol=1e-4, atol=1e-5)


def test_cells_without_counts_can_be_dropped_as_the_error_says() -> None:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    counts = mdata["rna"].X.tolil()
    counts[3] = 0
    mdata["rna"].X = counts.tocsr()
    with pytest.raises(ValueError, match=r"filter_cells\(mdata\['rna'\], min_counts=1\); mdata\.update\(\)"):
        PETRI.setup_mudata(mdata)
    sc.pp.filter_cells(mdata["rna"], min_counts=1)
    mdata.update()
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, embed_dim=16, n_heads=2, image_encoder_depth=1, expression_encoder_depth=1)
    model.train(max_epochs=1, max_steps=1, enable_progress_bar=False)
    assert model.get_latent_representation().shape == (mdata.n_obs, 16)


def test_views_have_their_own_rows(screen: MuData) -> None:
    view = screen[::7]
    for name in view.mod:
        rows = rows_in_modality(view, name)
        assert (view[name].obs_names[rows[rows >= 0]] == view.obs_names[rows >= 0]).all()


@pytest.mark.parametrize("indices", [[-1, 0], np.array([4, 0]), [False, False, True, False, True]])
def test_indices_mean_what_they_mean_to_numpy(indices: Any) -> None:
    assert rows_from_indices(indices, 5).tolist() == np.arange(5)[indices].tolist()


@pytest.mark.parametrize("indices", [[5], [-6], [0.0], [True, False], [[0, 1]]])
def test_indices_that_do_not_exist_are_refused(indices: Any) -> None:
    with pytest.raises(ValueError, match="indices"):
        rows_from_indices(indices, 5)
