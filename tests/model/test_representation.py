from __future__ import annotations

from types import SimpleNamespace

import mudata
import numpy as np
import pytest
import scanpy as sc
import torch

from petri_scvi import PETRI
from petri_scvi.dataloaders import open_rows
from petri_scvi.model._documents import encode_cells

MODALITIES = ("image", "rna")


def test_rows_are_aligned_with_the_cells_of_the_mudata(trained_model):
    mdata = trained_model.adata
    every_cell = trained_model.get_latent_representation()
    assert every_cell.shape == (468, 16)
    assert every_cell.dtype == np.float32
    for name in MODALITIES:
        rows = mdata.obs_names.get_indexer(mdata[name].obs_names)
        np.testing.assert_array_equal(every_cell[rows], trained_model.get_latent_representation(modality=name))


def test_rows_stay_aligned_when_the_mudata_mixes_its_modalities(trained_model, screen, rng):
    shuffled = screen[rng.permutation(468)].copy()
    places = trained_model.adata.obs_names.get_indexer(shuffled.obs_names)
    assert not (np.diff(places) > 0).all()
    np.testing.assert_allclose(
        trained_model.get_latent_representation(shuffled), trained_model.get_latent_representation()[places], atol=1e-5
    )


@pytest.mark.parametrize(("device", "are_pinned"), [("cuda", True), ("cpu", False)])
def test_cells_on_their_way_to_a_gpu_are_pinned_and_not_waited_for(monkeypatch, device, are_pinned):
    copies, pinned = [], []

    def pin_memory(cells):
        pinned.append(cells.clone())
        return pinned[-1]

    def to(cells, device, non_blocking=False):
        copies.append((any(cells is one for one in pinned), non_blocking))
        return cells

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    module = SimpleNamespace(device=torch.device(device), encode=lambda modality, cells, hidden: cells)
    cells = np.arange(5.0)[:, None]
    encoded = list(encode_cells(module, "rna", open_rows(cells), np.array([4, 0, 2]), batch_size=2))
    assert torch.cat(encoded).flatten().tolist() == [4, 0, 2]
    assert copies == 2 * [(are_pinned, True)]


@pytest.mark.parametrize("modality", [None, "image", "rna"])
def test_indices_choose_rows_in_the_order_asked_for(trained_model, modality):
    every_cell = trained_model.get_latent_representation(modality=modality)
    is_chosen = np.arange(len(every_cell)) % 7 == 0
    for indices, expected in [
        ([3], every_cell[[3]]),
        ([9, 2, 2, 200], every_cell[[9, 2, 2, 200]]),
        (np.array([-1, -len(every_cell)]), every_cell[[-1, 0]]),
        (is_chosen, every_cell[is_chosen]),
        ([], every_cell[:0]),
    ]:
        chosen = trained_model.get_latent_representation(modality=modality, indices=indices)
        np.testing.assert_allclose(chosen, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([0, 240], ("from 0 to 240", "240 cells")),
        ([-241], ("from -241", "240 cells")),
        ([True, False], ("boolean mask of shape (2,)", "240 cells")),
        ([0.5], ("dtype float64", "whole numbers")),
        ([[1, 2]], ("shape (1, 2)", "whole numbers")),
    ],
)
def test_wrong_indices_are_refused(trained_model, refused, indices, words):
    with refused(ValueError, *words):
        trained_model.get_latent_representation(modality="image", indices=indices)


@pytest.mark.parametrize("position", ["encoder", "set_transformer"])
def test_ways_to_pool_agree(trained_model, position):
    mean, concat, tokens = (
        trained_model.get_latent_representation(pool=pool, position=position) for pool in ("mean", "concat", None)
    )
    assert tokens.shape == (468, 4, 16)
    np.testing.assert_allclose(mean, tokens.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(concat, tokens.reshape(468, 64))


def test_batch_size_does_not_matter(trained_model):
    every_cell = trained_model.get_latent_representation()
    for batch_size in (1, 7, 1000):
        other = trained_model.get_latent_representation(batch_size=batch_size)
        np.testing.assert_allclose(other, every_cell, rtol=1e-4, atol=1e-5)


def test_embedding_of_a_cell_does_not_depend_on_other_cells(trained_model, make_screen):
    changed = make_screen()
    changed["image"].obsm["single_cell_images"][4:] = 0
    changed["rna"].X = changed["rna"].X[np.r_[0:4, np.arange(227, 3, -1)]]
    for name in MODALITIES:
        before = trained_model.get_latent_representation(modality=name)
        after = trained_model.get_latent_representation(changed, modality=name)
        np.testing.assert_allclose(after[:4], before[:4], rtol=1e-4, atol=1e-5)
        assert np.abs(after[4:] - before[4:]).max() > 0.01


def test_embedding_after_the_set_transformer_is_one_of_documents(trained_model):
    encoder = trained_model.get_latent_representation(modality="rna")
    fused = [
        trained_model.get_latent_representation(modality="rna", position="set_transformer", seed=seed)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(fused[0], fused[1])
    assert np.abs(fused[0] - fused[2]).max() > 1e-5
    assert np.abs(fused[0] - encoder).max() > 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": "max"}, ("pool='max'", "'mean', 'concat' or None")),
        ({"position": "decoder"}, ("position='decoder'", "'encoder' or 'set_transformer'")),
        ({"batch_size": 0}, ("batch_size=0", "at least 1")),
        ({"batch_size": -5}, ("batch_size=-5", "at least 1")),
        ({"modality": "atac"}, ("modality='atac'", "the model knows ['image', 'rna']")),
    ],
)
def test_wrong_arguments_are_refused(trained_model, refused, arguments, words):
    with refused(ValueError, *words):
        trained_model.get_latent_representation(**arguments)


def test_cells_measured_in_both_modalities_need_a_modality(screen, fit, combine, refused):
    image, rna = screen["image"], screen["rna"][:200].copy()
    rna.obs_names = image.obs_names[:200]
    rna.obs["perturbation"] = image.obs["perturbation"].iloc[:200].to_numpy()
    model = fit(combine(image=image, rna=rna), {"is_paired": True})
    words = ("200 cells of mdata were measured in several of ['image', 'rna']", "Pass modality=...")
    with refused(ValueError, *words):
        model.get_latent_representation()
    assert model.get_latent_representation(modality="rna").shape == (200, 16)
    only_image = model.get_latent_representation(indices=np.arange(200, 240))
    np.testing.assert_allclose(
        only_image, model.get_latent_representation(modality="image")[200:], rtol=1e-4, atol=1e-5
    )


def test_cells_of_a_modality_that_the_model_does_not_know_need_a_modality(screen, build, refused):
    model = build(screen, {"modalities": {"rna_layer": None}})
    model.is_trained = True
    with refused(ValueError, "228 cells of mdata were measured in none of ['image']", "Pass modality=..."):
        model.get_latent_representation()
    assert model.get_latent_representation(modality="image").shape == (240, 16)


def test_an_untrained_model_warns_as_in_scvi(screen, build):
    with pytest.warns(UserWarning, match="untrained model"):
        build(screen).get_latent_representation()


def test_a_view_is_copied_and_embedded(trained_model, screen):
    rows = np.r_[0:30, 300:320]
    view = screen[rows]
    assert view.is_view
    embedding = trained_model.get_latent_representation(view)
    np.testing.assert_allclose(embedding, trained_model.get_latent_representation()[rows], rtol=1e-4, atol=1e-5)
    assert "_scvi_uuid" not in screen.uns


def test_neighbors_and_a_file_keep_setup_and_embedding(screen, fit, tmp_path):
    model = fit(screen)
    screen.obsm["X_petri"] = model.get_latent_representation()
    sc.pp.neighbors(screen, use_rep="X_petri", n_neighbors=5, method="gauss")
    assert screen.obsp["distances"].shape == (468, 468)
    screen.write_h5mu(tmp_path / "screen.h5mu")
    read = mudata.read_h5mu(tmp_path / "screen.h5mu")
    np.testing.assert_array_equal(read.obsm["X_petri"], screen.obsm["X_petri"])
    assert read["rna"].obs["_scvi_petri_context"].tolist() == screen["rna"].obs["_scvi_petri_context"].tolist()
    np.testing.assert_allclose(model.get_latent_representation(read), screen.obsm["X_petri"], rtol=1e-4, atol=1e-5)
    PETRI.setup_mudata(read)
