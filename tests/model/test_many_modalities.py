"""Screens of one to four modalities of mixed kinds, from registration to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, baselines, io, tl
from petri_scvi.modalities import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
KINDS: dict[str, Any] = {
    "image": "images",
    "rna": "counts",
    "protein": "counts",
    "profile": Kind("features", obsm="true_morphology"),
}


@pytest.fixture
def four(make_screen: Callable[..., MuData]) -> MuData:
    """The tiny screen with proteins, and a table of the shapes of other cells."""
    mdata = make_screen(n_proteins=8)
    profile = make_screen(seed=0, n_cells=260)["image"]
    profile.obs_names = "profile_" + profile.obs_names
    del profile.obsm["single_cell_images"]
    mdata.mod["profile"] = profile
    mdata.update()
    return mdata


@pytest.mark.parametrize("names", [["protein"], ["image", "profile"], ["rna", "protein", "profile"], list(KINDS)])
def test_any_modalities_train_embed_reconstruct_save_and_load(
    four: MuData, tiny: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    PETRI.setup_mudata(four, modalities={name: KINDS[name] for name in names})
    model = PETRI(four, **tiny)
    model.train(max_epochs=1, **QUIET)
    assert set(model.history) >= {f"train_loss_{name}" for name in names}
    gain = model.cross_modal_gain(n_documents=1)
    assert set(gain["modality"]) == set(names)
    assert set(gain["source"]) == {*names, *(["all"] if len(names) > 1 else [])}
    assert set(model.get_reconstruction_error()["modality"]) == set(names)
    for name in names:
        n_cells = four[name].n_obs
        four[name].obsm["X_petri"] = model.get_latent_representation(modality=name)
        assert four[name].obsm["X_petri"].shape == (n_cells, tiny["embed_dim"])
        assert len(model.get_reconstruction(modality=name).prediction) == n_cells
    model.save(str(tmp_path / "model"))
    loaded = PETRI.load(str(tmp_path / "model"), four)
    for name in names:
        np.testing.assert_array_equal(loaded.get_latent_representation(modality=name), four[name].obsm["X_petri"])


def test_what_follows_training_takes_every_modality(four: MuData, tiny: dict[str, Any]) -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name != "profile"}
    del four.mod["profile"]
    four.update()
    PETRI.setup_mudata(four, modalities=kinds)
    model = PETRI(four, **tiny)
    model.train(max_epochs=1, **QUIET)
    four.obsm["X_petri"] = model.get_latent_representation()
    assert four.obsm["X_petri"].shape == (four.n_obs, tiny["embed_dim"])
    for source in ("image", "protein"):
        rows = np.arange(four["rna"].n_obs).tolist()
        result = tl.impute_expression(model, source=source, indices=rows)
        assert result.uns["petri_scvi"]["impute_expression"]["parameters"]["source"] == source
    rows = np.arange(four["protein"].n_obs).tolist()
    proteins = tl.impute_expression(model, modality="protein", source="rna", indices=rows)
    assert list(proteins.var_names) == list(four["protein"].var_names)
    with pytest.raises(ValueError, match=r"source=None; .* next to those of one of \['image', 'protein'\]"):
        tl.impute_expression(model, min_cells=1)
    tl.center_scale(four, "X_petri", key_added="X_scaled")
    profiles = tl.aggregate_profiles(four, "X_scaled")
    assert set(profiles.layers) - {None} == {"image", "rna", "protein"}  # from anndata 0.13 on, X is the layer None


def test_a_baseline_of_one_modality_names_those_of_its_kind(four: MuData) -> None:
    baselines.PCAExpression.setup_mudata(four, modalities={"rna": "counts", "protein": "counts"})
    with pytest.raises(ValueError, match=r"\['protein', 'rna'\] are of its kind.*modalities=\{'protein': 'counts'\}"):
        baselines.PCAExpression(four)
    baselines.PCAExpression.setup_mudata(four, modalities={"protein": "counts"})
    model = baselines.PCAExpression(four, n_components=3)
    model.train()
    assert model.get_latent_representation().shape == (four["protein"].n_obs, 3)


def test_a_training_store_of_three_kinds_gives_the_same_embedding(
    four: MuData, tiny: dict[str, Any], tmp_path: Path
) -> None:
    kinds = {"image": KINDS["image"], "protein": "counts", "profile": KINDS["profile"]}
    PETRI.setup_mudata(four, modalities=kinds)
    model = PETRI(four, **tiny)
    model.train(max_epochs=1, **QUIET)
    io.write_training_store(four, tmp_path / "screen.h5mu")
    stored = io.open_screen(tmp_path / "screen.h5mu")
    for name in kinds:
        rows = four[name].obs_names.get_indexer(stored[name].obs_names)
        found = model.get_latent_representation(stored, modality=name)
        np.testing.assert_allclose(found, model.get_latent_representation(modality=name)[rows], rtol=1e-4, atol=1e-5)
