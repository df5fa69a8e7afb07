"""Screens whose cells were measured in three modalities, as in Perturb-Multi."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from anndata import AnnData

from petri_scvi import PETRI

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

KINDS: dict[str, Any] = {"image": "images", "rna": "counts", "protein": "continuous"}
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def paired(make_screen: Callable[..., MuData], combine: Callable[..., MuData]) -> MuData:
    """200 cells with images and proteins, half of them with RNA, too."""
    mdata = make_screen(n_proteins=8)
    image = mdata["image"][:200].copy()
    protein = AnnData(np.log1p(mdata["protein"].X[:200]), obs=image.obs.copy())
    protein.var_names = mdata["protein"].var_names
    rna = AnnData(mdata["rna"].X[:100].copy(), obs=image.obs.iloc[100:].copy())
    rna.var_names = mdata["rna"].var_names
    return combine(image=image, rna=rna, protein=protein)


def partners(model: PETRI, documents: Any) -> int:
    """How many targets are in a document with another measurement of the same cell."""
    n_found = 0
    for document, _ in documents:
        names = {m: model.adata[m].obs_names[rows[0]] for m, rows in document.rows.items()}
        n_found += sum(len(names["image"][:1].intersection(names[m])) for m in names if m != "image")
    return n_found


@pytest.mark.slow
@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_screen_of_three_paired_modalities_trains_and_is_reconstructed(
    paired: MuData, tiny: dict[str, Any], tmp_path: Path, is_hidden: bool
) -> None:
    PETRI.setup_mudata(paired, modalities=KINDS, is_paired=True, hide_partners=is_hidden)
    model = PETRI(paired, **tiny)
    model.train(max_epochs=1, train_size=0.7, **QUIET)
    in_training = {name: set(paired[name].obs_names[rows]) for name, rows in model.train_indices.items()}
    held_out = {name: set(paired[name].obs_names[rows]) for name, rows in model.validation_indices.items()}
    assert bool(in_training["image"] & held_out["protein"]) is not is_hidden
    for name in KINDS:
        assert np.isfinite(model.get_reconstruction(modality=name).prediction).all()
        embedding = model.get_latent_representation(modality=name, position="set_transformer")
        assert embedding.shape == (paired[name].n_obs, 16)
    gain = model.cross_modal_gain(n_documents=1)
    assert len(gain) == 3 * 4
    assert np.isfinite(gain["gain"]).all()
    manager, rows = model.adata_manager, np.arange(200)
    placed = model._documents_of(manager, "image", rows, 1, 0)
    chosen = model._chosen_documents(manager, "image", rows, {"rna": None, "protein": None}, 40, 0)
    for documents in (placed, chosen):
        assert (partners(model, documents) == 0) is is_hidden
    model.save(tmp_path / "model")
    loaded = PETRI.load(tmp_path / "model", paired)
    assert loaded.cross_modal_gain(n_documents=1).equals(gain)


def test_partners_are_hidden_in_every_minibatch(paired: MuData, tiny: dict[str, Any]) -> None:
    PETRI.setup_mudata(paired, modalities=KINDS, is_paired=True, hide_partners=True)
    model = PETRI(paired, **tiny)
    data: Any = model._make_datamodule({"n_contexts_per_minibatch": 2})
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for context, rows in loader.sampler:
            for i in range(len(context)):
                names = [set(paired[name].obs_names[found[i]]) for name, found in rows.items()]
                assert sum(map(len, names)) == len(set().union(*names))


def test_what_has_no_partner_to_hide_is_refused(paired: MuData, screen: MuData) -> None:
    with pytest.raises(
        ValueError, match="hide_partners=True, but cells of one name count as different.*is_paired=True"
    ):
        PETRI.setup_mudata(paired, modalities=KINDS, hide_partners=True)
    with pytest.raises(ValueError, match=r"no cell is in two of \['image', 'rna'\]"):
        PETRI.setup_mudata(screen, is_paired=True, hide_partners=True)
    with pytest.raises(ValueError, match="hide_partners='yes'; pass hide_partners=True"):
        PETRI.setup_mudata(screen, is_paired=True, hide_partners="yes")  # type: ignore[arg-type]
