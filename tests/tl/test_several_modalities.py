"""Analyses of the embedding of one, three or four modalities of different kinds."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, io, tl
from petri_scvi.modalities import Kind
from petri_scvi.tl.profiles._late_fusion import split_modalities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

KINDS: dict[str, Any] = {
    "image": "images",
    "rna": "counts",
    "protein": "peaks",
    "profile": Kind("features", obsm="true_morphology"),
}
SETS = [("protein",), ("rna", "protein", "profile"), tuple(KINDS)]
MORE = SETS[1:]


@pytest.fixture(scope="module")
def make_models(make_screen: Callable[..., MuData], tiny: dict[str, Any]) -> Callable[[tuple[str, ...]], PETRI]:
    """Models of these modalities after an epoch, with their embeddings; shared, so tests add results only."""
    found: dict[tuple[str, ...], PETRI] = {}

    def make(names: tuple[str, ...]) -> PETRI:
        if names not in found:
            mdata = make_screen(n_cells=400, n_pathways=3, n_control_guides=3, n_proteins=8)
            profile = make_screen(n_cells=400, n_pathways=3, n_control_guides=3)["image"]
            profile.obs_names = "profile_" + profile.obs_names
            del profile.obsm["single_cell_images"]
            mdata.mod["profile"] = profile
            for name in set(mdata.mod) - set(names):
                del mdata.mod[name]
            mdata.update()
            PETRI.setup_mudata(mdata, modalities={name: KINDS[name] for name in names})
            model = PETRI(mdata, **tiny)
            model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
            mdata.obsm["X_petri"] = model.get_latent_representation()
            tl.center_scale(mdata, "X_petri")
            tl.whiten(mdata)
            found[names] = model
        return found[names]

    return make


@pytest.mark.parametrize("names", SETS)
def test_every_modality_is_scored_and_all_of_them_joined(make_models: Any, names: tuple[str, ...]) -> None:
    mdata = make_models(names).adata
    edges = mdata.uns["synthetic_screen"]["edges"]
    scores = tl.score_screen(mdata, ["X_petri"], edges=edges, n_bootstrap=0, progress=False)
    joined = ["+".join(name for name in mdata.mod)] if len(names) > 1 else []
    assert set(scores["modality"]) == {*names, *joined}
    table = scores.pivot(index="metric", columns="modality", values="value")
    assert np.isfinite(table).all(axis=None)
    if joined:
        others = table.drop(columns=joined).T
        assert (table[joined[0]] != others).any(axis=None)  # not the scores of one modality


@pytest.mark.parametrize("names", MORE)
def test_profiles_of_all_modalities_are_fused(make_models: Any, names: tuple[str, ...]) -> None:
    profiles = tl.aggregate_profiles(make_models(names).adata)
    assert {f"n_cells_{name}" for name in names} <= set(profiles.obs)
    parts = split_modalities(profiles)
    assert len(parts) == len(names)
    np.testing.assert_allclose(
        tl.late_fusion(parts, "mean_embedding").X, np.mean([profiles.layers[name] for name in names], axis=0), rtol=1e-5
    )
    assert tl.late_fusion(parts, "concatenate").shape == (profiles.n_obs, 16 * len(names))
    similarity = tl.late_fusion(parts, "max_cosine").obsp["similarity"]
    cosines = [tl.late_fusion([part, part], "mean_cosine").X for part in parts]
    np.testing.assert_allclose(similarity, np.max([x @ x.T for x in cosines], axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", SETS)
def test_dimensions_are_described_by_what_every_modality_measures(make_models: Any, names: tuple[str, ...]) -> None:
    mdata = make_models(names).adata
    tl.fit_sae(mdata, n_dimensions=24, max_epochs=2, accelerator="cpu", progress=False)
    assert mdata.obsm["X_sae"].shape == (mdata.n_obs, 24)
    tl.dimension_activity(mdata, n_examples=2)
    active = mdata.uns["petri_scvi"]["dimension_activity_X_sae"]["active"]
    assert set(active["modality"] if "modality" in active else names) == set(names)
    tl.dimension_genes(mdata, modality="protein", min_cells=5, progress=False)
    genes = mdata.uns["petri_scvi"]["dimension_genes_X_sae"]["table"]
    assert set(genes["gene"]) <= set(mdata["protein"].var_names)
    assert len(genes)
    described = tl.describe_dimensions(mdata, min_activity=0, max_activity=1)
    assert described["genes"].str.contains("PROTEIN").any()
    if len(names) == 1:
        return
    tl.multimodal_dimensions(mdata)
    summary = mdata.uns["petri_scvi"]["multimodal_dimensions"]["table"]
    assert {f"activity_{name}" for name in names} <= set(summary)


@pytest.mark.slow
def test_guides_of_all_modalities_are_modelled(make_models: Any) -> None:
    profiles = tl.aggregate_profiles(make_models(tuple(KINDS)).adata)
    found = tl.guide_model(profiles, method="svi", n_draws=20, progress=False)
    assert set(KINDS) <= set(found.layers)
    for name in KINDS:
        assert np.isfinite(found.layers[name]).all()


@pytest.mark.parametrize("suffix", [".h5mu", pytest.param(".zarr", marks=pytest.mark.slow)])
def test_embeddings_and_screens_of_all_modalities_go_to_files_and_back(
    make_models: Any, tmp_path: Path, suffix: str
) -> None:
    model = make_models(tuple(KINDS))
    mdata = model.adata
    model.write_latent_representation(tmp_path / f"embedding{suffix}")
    cells = io.open_screen(tmp_path / f"embedding{suffix}")
    assert set(cells.mod) == set(KINDS)
    rows = mdata.obs_names.get_indexer(cells.obs_names)
    np.testing.assert_allclose(np.asarray(cells.obsm["X_petri"]), mdata.obsm["X_petri"][rows], rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="mdata.obsm has .*, which is not stored"):
        io.write_training_store(mdata, tmp_path / f"screen{suffix}")
    stored = io.open_screen(tmp_path / f"screen{suffix}")
    for name in KINDS:
        rows = mdata[name].obs_names.get_indexer(stored[name].obs_names)
        found = model.get_latent_representation(stored, modality=name)
        np.testing.assert_allclose(found, model.get_latent_representation(modality=name)[rows], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "source"), [("profile", "protein"), ("protein", "profile"), ("rna", "image")])
def test_any_table_is_imputed_from_any_modality(make_models: Any, modality: str, source: str) -> None:
    model = make_models(tuple(KINDS))
    rows = np.arange(model.adata[modality].n_obs).tolist()
    result = tl.impute_expression(model, modality=modality, source=source, indices=rows)
    assert list(result.var_names) == list(model.get_var_names()[modality])
    assert np.isfinite(result.X).all()
    other = tl.impute_expression(
        model, modality=modality, source="image" if source != "image" else "protein", indices=rows
    )
    assert (result.X != other.X).any()


def test_images_are_reconstructed_towards_a_context_of_any_modality(make_models: Any) -> None:
    model = make_models(tuple(KINDS))
    mdata = model.adata
    context = next(c for c in mdata["image"].obs["perturbation"].unique() if c != "non-targeting")
    shares = []
    for source in ("rna", "protein", "profile"):
        arguments: dict[str, Any] = {"channel": "actin", "changed_context": context, "source": source}
        tl.targeted_reconstruction(model, max_cells=20, n_other_contexts=3, progress=False, **arguments)
        found = mdata.uns["petri_scvi"]["targeted_reconstruction"]
        assert found["parameters"]["source"] == source
        shares.append(found["cells"].select_dtypes("number").to_numpy())
    assert not any(np.array_equal(one, other) for one, other in combinations(shares, 2))
