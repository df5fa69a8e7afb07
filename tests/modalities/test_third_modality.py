"""A kind of one's own is one class: setup, training, embedding, reconstruction and saving need nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

from petri_scvi import PETRI, pp
from petri_scvi.modalities import EncoderSettings, Kind, Modality, register_kind
from petri_scvi.nn import masked_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mudata import MuData

N_PROTEINS = 6


@register_kind
class ProteinModality(Modality):
    """Antibody counts: linear encoder and decoder, squared error of standardised log counts."""

    kind = "antibodies"

    def __init__(self, state: Mapping[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.n_tokens = n_proteins = state["n_vars"]
        self.latent_shape = (settings.n_latent_tokens, settings.embed_dim)
        self.encoder = nn.Linear(2 * n_proteins, settings.n_latent_tokens * settings.embed_dim)
        self.decoder = nn.Linear(settings.embed_dim, n_proteins)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(n_proteins))

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


KINDS = {"image": "images", "rna": "counts", "protein": "antibodies"}


@pytest.fixture
def proteins(screen: MuData, rng: np.random.Generator) -> MuData:
    """The tiny screen, and as many cells whose six proteins differ between perturbations."""
    obs = screen["rna"].obs[["perturbation"]].copy()
    level = obs["perturbation"].astype("category").cat.codes.to_numpy()[:, None] + np.arange(N_PROTEINS)
    adata = AnnData(rng.poisson(5 + 10 * (level % 3)).astype(np.float32), obs=obs)
    adata.var_names = [f"CD{i}" for i in range(N_PROTEINS)]
    return pp.build_mudata(**screen.mod, protein=adata)


@pytest.mark.slow
def test_a_third_modality_is_one_class(
    proteins: MuData, tiny: dict[str, Any], tmp_path: Path, make_screen: Any
) -> None:
    quiet: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
    PETRI.setup_mudata(proteins, modalities=KINDS)
    model = PETRI(proteins, **tiny)
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
    loaded = PETRI.load(str(tmp_path / "model"), proteins)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(modality="protein"), model.get_latent_representation(modality="protein")
    )
    without_proteins = make_screen()
    assert loaded.get_latent_representation(without_proteins).shape == (without_proteins.n_obs, tiny["embed_dim"])


def test_a_kind_of_ones_own_is_chosen_renamed_and_left_out_like_the_others(
    proteins: MuData, tiny: dict[str, Any]
) -> None:
    PETRI.setup_mudata(proteins, modalities={"image": "images", "rna": "counts"})
    assert list(PETRI(proteins, **tiny).module.modalities) == ["image", "rna"]
    proteins["protein"].layers["adt"] = 2 * proteins["protein"].X
    PETRI.setup_mudata(proteins, modalities={"protein": Kind("antibodies", layer="adt")})
    model = PETRI(proteins, **tiny)
    assert list(model.module.modalities) == ["protein"]
    np.testing.assert_array_equal(model.get_measurement(modality="protein"), proteins["protein"].layers["adt"])
    with pytest.raises(ValueError, match=r"modalities=\{'protein': 'continuous'\}"):
        PETRI.setup_mudata(proteins, modalities={"protein": "protein"})
    with pytest.raises(KeyError, match="'proteins' is not in mdata.mod"):
        PETRI.setup_mudata(proteins, modalities={"proteins": "antibodies"})
    with pytest.raises(KeyError, match=r"layer='raw' is not in mdata\['protein'\].layers; it has \['adt'\]"):
        PETRI.setup_mudata(proteins, modalities={"protein": Kind("antibodies", layer="raw")})


def test_a_kind_needs_a_name_of_its_own() -> None:
    class Nameless(ProteinModality):
        kind = ""

    class Other(ProteinModality):
        kind = "counts"

    with pytest.raises(ValueError, match="give the class a name"):
        register_kind(Nameless)
    with pytest.raises(ValueError, match=r"the kind 'counts' is that of petri_scvi\..*CountsModality"):
        register_kind(Other)
    assert register_kind(ProteinModality) is ProteinModality


def test_other_variables_of_a_third_modality_are_refused(proteins: MuData, tiny: dict[str, Any]) -> None:
    PETRI.setup_mudata(proteins, modalities=KINDS)
    model = PETRI(proteins, **tiny)
    changed = pp.build_mudata(protein=proteins["protein"][:, ::-1].copy())
    with pytest.raises(ValueError, match="the variables are in another order"):
        model.get_latent_representation(changed, modality="protein")
