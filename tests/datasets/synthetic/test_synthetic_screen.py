from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from petri_scvi._compat import columns_stay_in_modalities
from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets.synthetic._synthetic_design import PHENOTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

OBS_COLUMNS = ("perturbation", "guide", "target_gene", "is_control", "replicate", "well", "batch")


def truth_of(screen: MuData) -> dict[str, Any]:
    return screen.uns["synthetic_screen"]


def test_without_penetrance_images_and_counts_do_not_depend_on_the_effects() -> None:
    strong, none = (
        synthetic_screen(n_cells=600, n_pathways=3, penetrance=0, image_strength=s, rna_strength=s) for s in (3.0, 0.0)
    )
    np.testing.assert_array_equal(strong["image"].obsm["single_cell_images"], none["image"].obsm["single_cell_images"])
    np.testing.assert_array_equal(strong["rna"].X.toarray(), none["rna"].X.toarray())


def test_the_strength_of_one_modality_leaves_the_other_as_it_was(small_screen: MuData) -> None:
    screen = synthetic_screen(n_cells=600, n_pathways=3, image_dtype="uint8", image_strength=0.5)
    np.testing.assert_array_equal(screen["rna"].X.toarray(), small_screen["rna"].X.toarray())
    assert (screen["image"].obsm["single_cell_images"] != small_screen["image"].obsm["single_cell_images"]).any()


def test_the_seed_decides_everything(small_screen: MuData) -> None:
    again, other = (synthetic_screen(seed, n_cells=600, n_pathways=3, image_dtype="uint8") for seed in (0, 1))
    np.testing.assert_array_equal(
        again["image"].obsm["single_cell_images"], small_screen["image"].obsm["single_cell_images"]
    )
    np.testing.assert_array_equal(again["rna"].X.toarray(), small_screen["rna"].X.toarray())
    pd.testing.assert_frame_equal(again["rna"].obs, small_screen["rna"].obs)
    assert (other["image"].obsm["single_cell_images"] != small_screen["image"].obsm["single_cell_images"]).any()


def test_weak_effects_are_a_set_of_arguments_of_which_each_can_be_overridden() -> None:
    small: dict[str, Any] = {"n_cells": 1500, "n_genes": 200, "image_size": 8}
    weak = synthetic_screen(difficulty="weak", **small)
    written_out = synthetic_screen(
        n_pathways=24, image_strength=0.35, rna_strength=0.35, penetrance=0.5, difficulty="easy", **small
    )
    np.testing.assert_array_equal(weak["rna"].X.toarray(), written_out["rna"].X.toarray())
    np.testing.assert_array_equal(
        weak["image"].obsm["single_cell_images"], written_out["image"].obsm["single_cell_images"]
    )
    assert truth_of(weak)["parameters"] == truth_of(written_out)["parameters"]
    changed = synthetic_screen(difficulty="weak", penetrance=1.0, **small)
    assert truth_of(changed)["parameters"] == truth_of(weak)["parameters"] | {"penetrance": 1.0}


def test_an_unknown_difficulty_is_refused() -> None:
    with pytest.raises(ValueError, match="pass 'easy' or 'weak'"):
        synthetic_screen(difficulty="hard")  # type: ignore[arg-type]


def test_every_modality_follows_the_schema(default_screen: MuData) -> None:
    image, rna = default_screen["image"], default_screen["rna"]
    assert image.X is None
    images = image.obsm["single_cell_images"]
    assert images.shape == (8000, 5, 32, 32)
    assert images.dtype == np.uint16
    assert image.uns["channel_names"] == ["nucleus", "cell_body", "lipid_droplets", "mitochondria", "actin"]
    assert isinstance(rna.X, sparse.csr_matrix)
    assert rna.shape == (7600, 300)
    assert (rna.X.data == np.rint(rna.X.data)).all()
    assert rna.X.data.min() > 0
    assert rna.var_names.is_unique
    assert set(truth_of(default_screen)["perturbations"]["perturbation"]) < set(rna.var_names)
    assert 0.78 < 1 - rna.X.nnz / np.prod(rna.shape) < 0.92
    assert default_screen.obs_names.is_unique
    assert default_screen.obs.shape[1] == 0
    assert set(image.obs["perturbation"].cat.categories) == set(rna.obs["perturbation"].cat.categories)
    for modality in (image, rna):
        for column in OBS_COLUMNS:
            assert isinstance(modality.obs[column].dtype, pd.CategoricalDtype) or column == "is_control"
        assert modality.obs["is_control"].dtype == bool
        assert (modality.obs["is_control"] == (modality.obs["perturbation"] == "non-targeting")).all()
        assert (modality.obs["target_gene"] == modality.obs["perturbation"]).all()
        assert set(modality.obs["guide"]) == set(truth_of(default_screen)["guides"]["guide"])
        controls = modality.obs[modality.obs["is_control"]].groupby("replicate", observed=False).size()
        assert controls.min() > 100


def test_programs_have_the_asked_visibility(default_screen: MuData) -> None:
    truth = truth_of(default_screen)
    assert [len(truth[f"{v}_programs"]) for v in ("shared", "image_only", "rna_only")] == [8, 2, 2]
    assert not truth["gene_loadings"][truth["image_only_programs"]].to_numpy().any()
    assert not truth["morphology_loadings"][truth["rna_only_programs"]].to_numpy().any()
    pathway_of = truth["perturbations"].set_index("perturbation")["pathway"]
    edges = truth["edges"]
    assert (pathway_of.loc[edges["entity1"]].to_numpy() == pathway_of.loc[edges["entity2"]].to_numpy()).all()
    sizes = pathway_of.value_counts()
    assert set(sizes) == {3, 4}
    assert len(edges) == (sizes * (sizes - 1) // 2).sum()
    assert not edges.duplicated(["entity1", "entity2"]).any()


@pytest.mark.parametrize(("shared_fraction", "expected"), [(0.0, [0, 2, 2]), (1.0, [4, 0, 0])])
def test_the_shared_fraction_may_be_nothing_or_everything(shared_fraction: float, expected: list[int]) -> None:
    truth = truth_of(synthetic_screen(n_cells=800, n_pathways=4, shared_fraction=shared_fraction, image_size=8))
    assert [len(truth[f"{v}_programs"]) for v in ("shared", "image_only", "rna_only")] == expected


def test_more_pathways_than_phenotypes_mix_two_phenotypes() -> None:
    screen = synthetic_screen(n_cells=2000, n_pathways=14, image_size=8, shared_fraction=1.0)
    mixed = truth_of(screen)["programs"]["phenotype"].iloc[12].split("+")
    assert len(mixed) == 2
    assert set(mixed) < set(PHENOTYPES)
    loadings = truth_of(screen)["morphology_loadings"].to_numpy().T  # (n_pathways, n_properties)
    assert len(np.unique(loadings.round(6), axis=0)) == 14


def test_the_image_size_changes_the_sampling_and_not_the_scene() -> None:
    coarse, fine = (
        synthetic_screen(n_cells=600, n_pathways=3, image_size=size)["image"].obsm["single_cell_images"]
        for size in (16, 48)
    )
    assert fine.shape == (600, 5, 48, 48)
    binned = fine.reshape(600, 5, 16, 3, 16, 3).mean(axis=(3, 5))
    for channel in (0, 1):
        assert np.corrcoef(binned[:, channel].ravel(), coarse[:, channel].ravel())[0, 1] > 0.95


def test_every_truth_survives_a_round_trip(small_screen: MuData, tmp_path: Path) -> None:
    with columns_stay_in_modalities():
        small_screen.write(tmp_path / "screen.h5mu")
        restored = mudata.read_h5mu(tmp_path / "screen.h5mu")
    before, after = truth_of(small_screen), truth_of(restored)
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(after[key], value, check_names=False, check_column_type=False)
        elif isinstance(value, dict):
            assert after[key] == value
        else:
            np.testing.assert_array_equal(after[key], value)
    np.testing.assert_array_equal(
        restored["image"].obsm["single_cell_images"], small_screen["image"].obsm["single_cell_images"]
    )
    assert list(restored["image"].uns["channel_names"]) == small_screen["image"].uns["channel_names"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"n_cells": 10}, "n_cells=10 is too small"),
        ({"n_cells": 10.5}, "n_cells=10.5"),
        ({"n_pathways": 0}, "n_pathways=0"),
        ({"n_pathways": 100}, "n_pathways=100"),
        ({"n_control_guides": 0}, "n_control_guides=0"),
        ({"n_genes": 50}, "n_genes=50 is too small"),
        ({"image_size": 4}, "image_size=4"),
        ({"image_dtype": "float32"}, "'uint8' or 'uint16'"),
        ({"image_strength": -1}, "image_strength=-1"),
        ({"rna_strength": float("nan")}, "rna_strength=nan"),
        ({"penetrance": 1.5}, "penetrance=1.5"),
        ({"shared_fraction": -0.1}, "shared_fraction=-0.1"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_screen(**arguments)


def test_the_needed_number_of_cells_is_enough() -> None:
    """The message names a number of cells; that number must be accepted."""
    with pytest.raises(ValueError, match="at least") as error:
        synthetic_screen(n_cells=10, n_pathways=2, image_size=8)
    needed = int(str(error.value).split("at least ")[1].split(" ")[0])
    screen = synthetic_screen(n_cells=needed, n_pathways=2, image_size=8)
    assert all(n > 1 for n in screen["rna"].obs["guide"].value_counts())


def test_no_cell_is_empty_even_with_few_genes():
    counts = synthetic_screen(n_cells=300, n_pathways=2, n_genes=40, image_size=16)["rna"].X
    assert counts.sum(axis=1).min() >= 1
