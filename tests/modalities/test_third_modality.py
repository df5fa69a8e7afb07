"""A modality is one class: setup, training, embedding, reconstruction and saving need nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

from petri_scvi import PETRI, pp
from petri_scvi.modalities import MODALITIES, EncoderSettings, MatrixField, Modality
from petri_scvi.nn import masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mudata import MuData

N_PROTEINS = 6


class ProteinModality(Modality):
    """Antibody counts: linear encoder and decoder, squared error of standardised log counts."""

    argument = "protein_layer"
    default_name = "protein"

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.n_tokens = n_proteins = state["n_vars"]
        self.latent_shape = (settings.n_latent_tokens, settings.embed_dim)
        self.encoder = nn.Linear(2 * n_proteins, settings.n_latent_tokens * settings.embed_dim)
        self.decoder = nn.Linear(settings.embed_dim, n_proteins)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(n_proteins))

    @classmethod
    def make_field(cls, modality: str, slot: str | None, arguments: Mapping[str, Any]) -> MatrixField:
        return MatrixField(cls.field_name(modality), modality, "X" if slot is None else "layers", slot)

    def fit_statistics(self, chunks: Iterable[Tensor]) -> None:
        self.mean.copy_(torch.cat([chunk.float() for chunk in chunks]).log1p().mean(dim=0))

    def prepare(self, cells: Tensor) -> Tensor:
        return cells.float().log1p() - self.mean

    def encode(self, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        is_visible = torch.ones_like(inputs)
        if visible is not None:
            is_visible = torch.zeros_like(inputs).scatter(1, visible, 1.0)
        return self.encoder(torch.cat([inputs * is_visible, is_visible], dim=1)).unflatten(1, self.latent_shape)

    def decode(self, latents: Tensor, inputs: Tensor, visible: Tensor | None = None) -> Tensor:
        return self.decoder(latents.mean(dim=1))

    def loss(self, prediction: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        return masked_mean((prediction.float() - inputs).square(), mask)

    def to_measurement(self, prediction: Tensor) -> Tensor:
        return (prediction.float() + self.mean).expm1()


class ThreeModalPETRI(PETRI):
    _modality_classes = (*MODALITIES, ProteinModality)


@pytest.fixture
def proteins(screen: MuData, rng: np.random.Generator) -> MuData:
    """The tiny screen, and as many cells whose six proteins differ between perturbations."""
    obs = screen["rna"].obs[["perturbation"]].copy()
    level = obs["perturbation"].astype("category").cat.codes.to_numpy()[:, None] + np.arange(N_PROTEINS)
    adata = AnnData(rng.poisson(5 + 10 * (level % 3)).astype(np.float32), obs=obs)
    adata.var_names = [f"CD{i}" for i in range(N_PROTEINS)]
    return pp.build_mudata(**screen.mod, protein=adata)


def test_a_third_modality_is_one_class(
    proteins: MuData, tiny: dict[str, Any], tmp_path: Path, make_screen: Any
) -> None:
    quiet: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
    ThreeModalPETRI.setup_mudata(proteins)
    model = ThreeModalPETRI(proteins, **tiny)
    model.train(max_epochs=20, plan_kwargs={"lr": 1e-2}, **quiet)
    losses = model.history["train_loss_protein"].to_numpy(dtype=float).ravel()
    assert losses[-1] < 0.9 * losses[0]
    n_cells = proteins["protein"].n_obs
    assert model.get_latent_representation().shape == (proteins.n_obs, tiny["embed_dim"])
    assert model.get_latent_representation(modality="protein").shape == (n_cells, tiny["embed_dim"])
    reconstruction = model.get_reconstruction(modality="protein")
    assert reconstruction.mask.sum(axis=1).tolist() == [4] * n_cells
    measured = model.get_measurement(modality="protein")
    hidden, seen = reconstruction.prediction[reconstruction.mask], measured[reconstruction.mask]
    assert np.corrcoef(hidden, seen)[0, 1] > 0.3
    assert model.get_var_names()["protein"].tolist() == [f"CD{i}" for i in range(N_PROTEINS)]
    assert set(model.cross_modal_gain()["modality"]) == {"image", "rna", "protein"}
    assert "protein" in set(model.get_reconstruction_error()["modality"])
    model.save(str(tmp_path / "model"))
    loaded = ThreeModalPETRI.load(str(tmp_path / "model"), proteins)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(modality="protein"), model.get_latent_representation(modality="protein")
    )
    without_proteins = make_screen()
    assert loaded.get_latent_representation(without_proteins).shape == (without_proteins.n_obs, tiny["embed_dim"])


def test_a_third_modality_is_chosen_renamed_and_left_out_like_the_others(
    proteins: MuData, tiny: dict[str, Any]
) -> None:
    ThreeModalPETRI.setup_mudata(proteins, modalities={"protein_layer": None})
    assert list(ThreeModalPETRI(proteins, **tiny).module.modalities) == ["image", "rna"]
    only: dict[str, Any] = {"images_key": None, "rna_layer": None}
    ThreeModalPETRI.setup_mudata(proteins, modalities={**only, "protein_layer": "protein"})
    assert list(ThreeModalPETRI(proteins, **tiny).module.modalities) == ["protein"]
    with pytest.raises(ValueError, match=r"'protein_layer': 'protein'"):
        ThreeModalPETRI.setup_mudata(proteins, modalities={"protein": "protein"})
    with pytest.raises(KeyError, match="'proteins' is not in mdata.mod"):
        ThreeModalPETRI.setup_mudata(proteins, modalities={"protein_layer": "proteins"})


def test_other_variables_of_a_third_modality_are_refused(proteins: MuData, tiny: dict[str, Any]) -> None:
    ThreeModalPETRI.setup_mudata(proteins)
    model = ThreeModalPETRI(proteins, **tiny)
    changed = pp.build_mudata(protein=proteins["protein"][:, ::-1].copy())
    with pytest.raises(ValueError, match="the variables are in another order"):
        model.get_latent_representation(changed, modality="protein")
