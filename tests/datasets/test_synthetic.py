from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets._synthetic_design import PHENOTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

OBS_COLUMNS = ("perturbation", "guide", "target_gene", "is_control", "replicate", "well", "batch")


def truth_of(screen: MuData) -> dict[str, Any]:
    return screen.uns["synthetic_screen"]


def log_normalised(rna: AnnData) -> np.ndarray:
    counts = rna.X.toarray()
    return np.log1p(100 * counts / counts.sum(axis=1, keepdims=True))


def image_numbers(image: AnnData) -> np.ndarray:
    """Level, spread, contrast between neighbours and size of each channel: what a simple analysis would measure."""
    images = image.obsm["single_cell_images"].astype(np.float32)
    level, spread = images.mean(axis=(2, 3)), images.std(axis=(2, 3))
    contrast = np.abs(np.diff(images, n=2, axis=3)).mean(axis=(2, 3))
    area = (images > images.mean(axis=(2, 3), keepdims=True)).mean(axis=(2, 3))
    return np.hstack([level, spread, contrast, area, np.log(level), contrast / spread])


def center_scaled(values: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """Each replicate relative to its own controls."""
    scaled = np.empty_like(values, dtype=float)
    for cells in obs.groupby("replicate", observed=True).indices.values():
        controls = cells[obs["is_control"].to_numpy()[cells]]
        # The floor keeps a gene that no control of the replicate expresses from dominating.
        spread = np.maximum(values[controls].std(axis=0), 0.3 * values.std(axis=0)) + 1e-9
        scaled[cells] = (values[cells] - values[controls].mean(axis=0)) / spread
    return scaled


def edge_auc(values: np.ndarray, obs: pd.DataFrame, truth: dict[str, Any], unseen: str) -> float:
    """AUC of the cosine between mean profiles for pathway edges; targets not seen in this modality are left out."""
    targets = truth["perturbations"].set_index("perturbation")
    targets = targets[targets["visibility"] != unseen]
    profiles = pd.DataFrame(center_scaled(values, obs)).groupby(obs["perturbation"].astype(str).to_numpy()).mean()
    unit = profiles.loc[targets.index].to_numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), k=1)
    pathway = targets["pathway"].astype(str).to_numpy()
    return float(roc_auc_score(pathway[first] == pathway[second], (unit @ unit.T)[first, second]))


def rna_auc(screen: MuData, unseen: str = "image-only") -> float:
    embedding = PCA(64, random_state=0).fit_transform(log_normalised(screen["rna"]))
    return edge_auc(embedding, screen["rna"].obs, truth_of(screen), unseen)


def image_auc(screen: MuData, unseen: str = "rna-only") -> float:
    return edge_auc(image_numbers(screen["image"]), screen["image"].obs, truth_of(screen), unseen)


def mean_z(values: np.ndarray, is_treated: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """Two-sample z of each column against the controls."""
    treated, control = values[is_treated], values[obs["is_control"].to_numpy()]
    error = np.sqrt(treated.var(axis=0) / len(treated) + control.var(axis=0) / len(control))
    return (treated.mean(axis=0) - control.mean(axis=0)) / (error + 1e-12)


def is_in_program(screen: MuData, modality: str, pathways: list[str]) -> np.ndarray:
    targets = truth_of(screen)["perturbations"]
    members = targets.loc[targets["pathway"].isin(pathways), "perturbation"]
    return screen[modality].obs["perturbation"].isin(members).to_numpy()


def pathway_with(screen: MuData, phenotype: str) -> str:
    programs = truth_of(screen)["programs"]
    return programs.loc[programs["phenotype"] == phenotype, "pathway"].item()


def test_simple_numbers_recover_the_known_edges(default_screen: MuData) -> None:
    assert rna_auc(default_screen) > 0.9
    assert image_auc(default_screen) > 0.8


def test_without_strength_no_edge_can_be_recovered() -> None:
    screen = synthetic_screen(n_cells=4000, image_strength=0, rna_strength=0)
    assert abs(rna_auc(screen) - 0.5) < 0.12
    assert abs(image_auc(screen) - 0.5) < 0.12
    assert not truth_of(screen)["perturbation_gene_effects"].to_numpy().any()
    assert not truth_of(screen)["perturbation_morphology_effects"].to_numpy().any()


def test_image_only_programs_leave_the_transcriptome_unchanged(default_screen: MuData) -> None:
    truth, rna = truth_of(default_screen), default_screen["rna"]
    values = center_scaled(log_normalised(rna), rna.obs)
    others = ~rna.var["is_target"].to_numpy()  # a knockdown always lowers its own transcript
    hidden = is_in_program(default_screen, "rna", list(truth["image_only_programs"]))
    shown = is_in_program(default_screen, "rna", list(truth["rna_only_programs"]))
    assert hidden.sum() > 300
    assert np.square(mean_z(values, hidden, rna.obs)[others]).mean() < 1.5
    assert np.square(mean_z(values, shown, rna.obs)[others]).mean() > 4


def test_rna_only_programs_leave_the_images_unchanged(default_screen: MuData) -> None:
    truth, image = truth_of(default_screen), default_screen["image"]
    values = center_scaled(image_numbers(image), image.obs)
    hidden = is_in_program(default_screen, "image", list(truth["rna_only_programs"]))
    assert hidden.sum() > 300
    assert np.abs(mean_z(values, hidden, image.obs)).max() < 4
    for pathway in truth["image_only_programs"]:
        shown = is_in_program(default_screen, "image", [pathway])
        assert np.abs(mean_z(values, shown, image.obs)).max() > 6


def test_shared_programs_raise_and_lower_lipid_droplets(default_screen: MuData) -> None:
    image, truth = default_screen["image"], truth_of(default_screen)
    channel = image.uns["channel_names"].index("lipid_droplets")
    level = image.obsm["single_cell_images"][:, channel].mean(axis=(1, 2), dtype=float)[:, None]
    for phenotype, sign in (("lipid_droplets_up", 1), ("lipid_droplets_down", -1)):
        pathway = pathway_with(default_screen, phenotype)
        assert pathway in truth["shared_programs"]
        z = mean_z(center_scaled(level, image.obs), is_in_program(default_screen, "image", [pathway]), image.obs)
        assert sign * z.item() > 5


def test_a_program_moves_its_genes_in_the_recorded_direction(default_screen: MuData) -> None:
    truth, rna = truth_of(default_screen), default_screen["rna"]
    values = center_scaled(log_normalised(rna), rna.obs)
    for pathway in truth["shared_programs"]:
        z = mean_z(values, is_in_program(default_screen, "rna", [pathway]), rna.obs)
        loadings = truth["gene_loadings"][pathway].to_numpy()
        assert np.corrcoef(z[loadings != 0], loadings[loadings != 0])[0, 1] > 0.5


def test_one_cell_tells_little_and_sixteen_tell_a_lot(default_screen: MuData) -> None:
    """Cells held out from the direction on which they are scored."""
    rna = default_screen["rna"]
    values = center_scaled(log_normalised(rna), rna.obs)
    rng = np.random.default_rng(0)
    pathway = pathway_with(default_screen, "lipid_droplets_up")
    treated = rng.permutation(values[is_in_program(default_screen, "rna", [pathway])])
    control = rng.permutation(values[rna.obs["is_control"].to_numpy()])
    half, half_control = len(treated) // 2, len(control) // 2
    direction = treated[:half].mean(axis=0) - control[:half_control].mean(axis=0)
    scores = treated[half:] @ direction, control[half_control:] @ direction

    def auc(n_cells: int) -> float:
        groups = [rng.choice(s, size=(500, n_cells)).mean(axis=1) for s in scores]
        return float(roc_auc_score(np.repeat([1, 0], 500), np.concatenate(groups)))

    assert 0.6 < auc(1) < 0.9
    assert auc(16) > 0.95


def test_members_of_a_pathway_resemble_each_other_but_are_not_equal(default_screen: MuData) -> None:
    truth = truth_of(default_screen)
    targets = truth["perturbations"][truth["perturbations"]["visibility"] == "shared"]
    effects = truth["perturbation_gene_effects"][targets["perturbation"]].T
    similarity = np.corrcoef(effects)[np.triu_indices(len(targets), k=1)]
    pathway = targets["pathway"].astype(str).to_numpy()
    first, second = np.triu_indices(len(targets), k=1)
    is_edge = pathway[first] == pathway[second]
    assert similarity[is_edge].mean() > 0.3
    assert abs(similarity[~is_edge].mean()) < 0.1
    assert similarity.max() < 0.95


def test_dead_guides_and_missed_cells_show_no_effect(default_screen: MuData) -> None:
    guides = truth_of(default_screen)["guides"].set_index("guide")
    assert 0 < guides["is_dead"].sum() < 0.2 * len(guides)
    assert guides.loc[~guides["is_dead"] & (guides["target_gene"] != "non-targeting"), "efficacy"].gt(0).all()
    for modality in ("image", "rna"):
        obs = default_screen[modality].obs
        works = (guides["efficacy"] > 0).loc[obs["guide"].astype(str)].to_numpy()
        assert not obs.loc[~works, "true_is_responder"].any()
        assert abs(obs.loc[works, "true_is_responder"].mean() - 0.8) < 0.02
        assert ((obs["true_effect"] > 0) == obs["true_is_responder"]).all()


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


def test_cell_cycle_moves_both_modalities(default_screen: MuData) -> None:
    image, rna = default_screen["image"], default_screen["rna"]
    late = image.obs["true_cell_cycle"] > 0.7
    nuclei = image.obsm["single_cell_images"][:, 0].mean(axis=(1, 2), dtype=float)
    assert nuclei[late].mean() > 1.2 * nuclei[image.obs["true_cell_cycle"] < 0.3].mean()
    cycling = truth_of(default_screen)["genes"]["cell_cycle_loading"].to_numpy() > 0
    level = log_normalised(rna)[:, cycling].sum(axis=1)
    assert np.corrcoef(level, rna.obs["true_cell_cycle"])[0, 1] > 0.3


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
    with mudata.set_options(pull_on_update=False):
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


def test_a_stronger_screen_has_more_explained_variance() -> None:
    explained = []
    for strength in (0.0, 1.0, 2.0):
        rna = synthetic_screen(n_cells=800, n_pathways=3, image_size=8, rna_strength=strength)["rna"]
        values = pd.DataFrame(center_scaled(log_normalised(rna), rna.obs))
        means = values.groupby(rna.obs["perturbation"].to_numpy(), observed=True).transform("mean")
        explained.append((means.var() / values.var()).mean())
    assert all(low < high for low, high in pairwise(explained))
