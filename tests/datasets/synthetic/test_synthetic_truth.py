from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


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
    unit = profiles.loc[targets.index].to_numpy(copy=True)
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


@pytest.mark.slow
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


def test_cell_cycle_moves_both_modalities(default_screen: MuData) -> None:
    image, rna = default_screen["image"], default_screen["rna"]
    late = image.obs["true_cell_cycle"] > 0.7
    nuclei = image.obsm["single_cell_images"][:, 0].mean(axis=(1, 2), dtype=float)
    assert nuclei[late].mean() > 1.2 * nuclei[image.obs["true_cell_cycle"] < 0.3].mean()
    cycling = truth_of(default_screen)["genes"]["cell_cycle_loading"].to_numpy() > 0
    level = log_normalised(rna)[:, cycling].sum(axis=1)
    assert np.corrcoef(level, rna.obs["true_cell_cycle"])[0, 1] > 0.3


def test_a_stronger_screen_has_more_explained_variance() -> None:
    explained = []
    for strength in (0.0, 1.0, 2.0):
        rna = synthetic_screen(n_cells=800, n_pathways=3, image_size=8, rna_strength=strength)["rna"]
        values = pd.DataFrame(center_scaled(log_normalised(rna), rna.obs))
        means = values.groupby(rna.obs["perturbation"].to_numpy(), observed=True).transform("mean")
        explained.append((means.var() / values.var()).mean())
    assert all(low < high for low, high in pairwise(explained))
