from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI
from petri_scvi.baselines import MAE


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def saved(trained_model, tmp_path):
    trained_model.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_loaded_with_data_is_the_model_that_was_saved(trained_model, saved, screen):
    loaded = PETRI.load(saved, screen)
    assert loaded.adata is screen
    assert loaded.is_trained
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained_model.get_latent_representation())
    for part in ("train_indices", "validation_indices", "test_indices"):
        before, after = getattr(trained_model, part), getattr(loaded, part)
        assert {name: rows.tolist() for name, rows in after.items()} == {n: rows.tolist() for n, rows in before.items()}
    assert loaded.history["train_loss"].equals(trained_model.history["train_loss"])
    assert loaded.cross_modal_gain().equals(trained_model.cross_modal_gain())


def test_a_loaded_model_goes_on_training(saved, screen, quiet):
    loaded = PETRI.load(saved, screen)
    before = loaded.get_latent_representation()
    loaded.train(max_epochs=1, **quiet)
    assert len(loaded.history["train_loss"]) == 3
    assert np.abs(loaded.get_latent_representation() - before).max() > 1e-4


def test_a_model_loaded_without_data_embeds_any_data_passed(trained_model, saved, make_screen, combine, refused):
    loaded = PETRI.load(saved)
    assert loaded.adata is None
    with refused(ValueError, "loaded without data", "pass a MuData"):
        loaded.get_latent_representation()
    images = combine(image=make_screen()["image"])
    np.testing.assert_array_equal(
        loaded.get_latent_representation(images), trained_model.get_latent_representation(modality="image")
    )
    other = make_screen(seed=2)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(other), trained_model.get_latent_representation(make_screen(seed=2))
    )
    assert loaded.get_reconstruction(other, modality="rna", indices=[0]).prediction.shape == (1, 40)


def test_data_passed_to_a_model_without_data_is_not_taken_for_its_training_data(saved, make_screen, refused):
    loaded, other = PETRI.load(saved), make_screen(n_cells=150, seed=3)
    expected = {name: other[name].n_obs for name in ("image", "rna")}
    errors = loaded.get_reconstruction_error(other)
    assert dict(zip(errors["modality"], errors["n_cells"], strict=True)) == expected
    gain = loaded.cross_modal_gain(other, n_documents=1)
    assert dict(zip(gain["modality"], gain["n_cells"], strict=True)) == expected
    for use in (loaded.get_latent_representation, lambda: loaded.train(max_epochs=1)):
        with refused(ValueError, "loaded without data", "PETRI.load(folder, mdata)"):
            use()


def test_data_is_saved_and_loaded_on_request(trained_model, tmp_path):
    trained_model.save(tmp_path / "model", save_anndata=True)
    assert sorted(os.listdir(tmp_path / "model")) == ["mdata.h5mu", "model.pt"]
    loaded = PETRI.load(tmp_path / "model")
    assert loaded.adata.obs_names.tolist() == trained_model.adata.obs_names.tolist()
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained_model.get_latent_representation())
    assert PETRI.load(tmp_path / "model", adata=False).adata is None


def test_data_of_a_model_saved_there_before_is_not_attached(trained_model, saved, make_screen, fit, refused):
    trained_model.save(saved, overwrite=True, save_anndata=True)
    trained_model.save(saved, overwrite=True)
    assert PETRI.load(saved).adata.n_obs == 468
    other = fit(make_screen(n_cells=260))
    other.save(saved, overwrite=True)
    with refused(ValueError, "mdata.h5mu is not the MuData of model.pt", "adata=False"):
        PETRI.load(saved)
    assert PETRI.load(saved, adata=False).adata is None
    assert PETRI.load(saved, make_screen(n_cells=260)).adata.n_obs == 507


def test_data_that_is_not_there_cannot_be_saved(saved, tmp_path, refused):
    with refused(ValueError, "loaded without data"):
        PETRI.load(saved).save(tmp_path / "other", save_anndata=True)
    assert os.listdir(tmp_path) == ["model"]


def test_models_with_prefixes_share_a_folder(trained_model, saved, screen, refused):
    trained_model.save(saved, prefix="second_", overwrite=True, save_anndata=True)
    assert sorted(os.listdir(saved)) == ["model.pt", "second_mdata.h5mu", "second_model.pt"]
    assert PETRI.load(saved).adata is None
    loaded = PETRI.load(saved, prefix="second_")
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained_model.get_latent_representation())
    with refused(ValueError, "no file third_model.pt"):
        PETRI.load(saved, screen, prefix="third_")


def test_an_existing_folder_is_overwritten_on_request_only(trained_model, saved, screen, fit, refused):
    before = _files(saved)
    other = fit(screen, model={"n_latent_tokens": 2})
    with refused(ValueError, "already exists", "overwrite=True"):
        other.save(saved)
    assert _files(saved) == before
    other.save(saved, overwrite=True)
    assert PETRI.load(saved).module.latent_shape == (2, 16)


@pytest.mark.parametrize("is_first", [True, False])
def test_an_interrupted_save_leaves_what_was_there(trained_model, saved, tmp_path, monkeypatch, is_first):
    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[:12])
        raise KeyboardInterrupt

    before = _files(saved)
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(KeyboardInterrupt):
        trained_model.save(tmp_path / "first" if is_first else saved, overwrite=True, save_anndata=True)
    assert os.listdir(tmp_path) == ["model"]
    assert _files(saved) == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, refused, share):
    content = (saved / "model.pt").read_bytes()
    (saved / "model.pt").write_bytes(content[: int(share * len(content))])
    with refused(ValueError, str(saved), "does not hold a complete model", "model.save()"):
        PETRI.load(saved)


def test_a_file_of_another_kind_is_refused(saved, refused):
    (saved / "model.pt").write_bytes(b"hello world, not a model")
    with refused(ValueError, "does not hold a complete model"):
        PETRI.load(saved)


def test_a_model_of_another_class_is_refused_by_name(saved, screen, refused):
    with refused(ValueError, "a model of class PETRI, not MAE", "PETRI.load()"):
        MAE.load(saved, screen)
    renamed = type("Renamed", (PETRI,), {})
    assert renamed.load(saved, adata=False, allowed_classes_names_list=["PETRI"]).is_trained


def test_a_model_of_scvi_tools_is_refused_with_and_without_trust(screen, tmp_path, refused):
    rna = AnnData(screen["rna"].X.copy())
    scvi.model.SCVI.setup_anndata(rna)
    scvi.model.SCVI(rna, n_hidden=4, n_latent=2).save(str(tmp_path / "scvi"))
    with refused(ValueError, "written with pickle", "trust_file=True"):
        PETRI.load(tmp_path / "scvi", screen)
    with refused(ValueError, "a model of class SCVI, not PETRI", "SCVI.load()"):
        PETRI.load(tmp_path / "scvi", screen, trust_file=True)


def test_a_missing_folder_is_refused(tmp_path, refused):
    with refused(ValueError, str(tmp_path / "nothing"), "no file model.pt", "model.save()"):
        PETRI.load(tmp_path / "nothing")


def test_data_that_does_not_fit_is_refused_when_loading(saved, make_screen, refused):
    for change, words in [
        ({"image_size": 24}, ("24 x 24 pixels", "built for 16 x 16")),
        ({"n_genes": 30}, ("genes of the model are missing",)),
        ({"image_dtype": "uint8"}, ("dtype uint8", "built for uint16")),
    ]:
        mdata = make_screen(**change)
        with refused(ValueError, *words, untouched=(mdata,)):
            PETRI.load(saved, mdata)
    mdata = make_screen()
    mdata["rna"].X = mdata["rna"].X.log1p()
    with refused(ValueError, "not whole numbers", untouched=(mdata,)):
        PETRI.load(saved, mdata)
    with refused(TypeError, "expected a MuData, found AnnData"):
        PETRI.load(saved, mdata["rna"])


def test_a_loaded_model_reads_the_layer_it_was_trained_on(saved, trained_model, screen):
    """Of new data the counts layer would be preferred, but this model was trained on X."""
    screen["rna"].layers["counts"] = screen["rna"].X * 3
    loaded = PETRI.load(saved, screen)
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained_model.get_latent_representation())


def test_a_loaded_model_of_one_modality_ignores_the_other(screen, make_screen, fit, combine, tmp_path):
    model = fit(combine(image=screen["image"]))
    model.save(tmp_path / "model")
    both = make_screen()
    del both["rna"].obs["perturbation"]
    loaded = PETRI.load(tmp_path / "model", both)
    np.testing.assert_array_equal(loaded.get_latent_representation(modality="image"), model.get_latent_representation())


def test_other_modality_names_and_contexts_survive(screen, make_screen, fit, combine, tmp_path):
    setup = {
        "modalities": {"images_key": "painting", "rna_layer": "transcriptome"},
        "context_key": ["perturbation", "is_control"],
        "image_channels": ["actin", "nucleus"],
    }
    model = fit(combine(painting=screen["image"], transcriptome=screen["rna"]), setup, n_cells_per_context=3)
    model.save(tmp_path / "model")
    fresh = make_screen()
    loaded = PETRI.load(tmp_path / "model", combine(painting=fresh["image"], transcriptome=fresh["rna"]))
    for position in ("encoder", "set_transformer"):
        np.testing.assert_array_equal(
            loaded.get_latent_representation(position=position), model.get_latent_representation(position=position)
        )


def test_an_empty_sparse_matrix_beside_the_images_does_not_matter(trained_model, saved, screen, combine):
    """scvi-tools takes a first modality whose X is all zero for minified data."""
    image = screen["image"]
    empty = AnnData(sparse.csr_matrix((240, 3)), obs=image.obs, obsm=dict(image.obsm), uns=dict(image.uns))
    loaded = PETRI.load(saved, combine(image=empty, rna=screen["rna"]))
    np.testing.assert_array_equal(loaded.get_latent_representation(), trained_model.get_latent_representation())


def test_the_registry_can_be_read_alone(saved):
    registry = PETRI.load_registry(saved)
    assert registry["model_name"] == "PETRI"
    assert registry["setup_args"]["context_key"] == "perturbation"
    assert set(registry["field_registries"]) == {"images", "X", "context_image", "context_rna"}


def test_names_of_genes_and_channels_come_with_and_without_data(trained_model, saved):
    for model in (trained_model, PETRI.load(saved)):
        names = model.get_var_names()
        assert names["image"].tolist() == ["nucleus", "cell_body", "lipid_droplets", "mitochondria", "actin"]
        assert names["rna"].tolist() == trained_model.adata["rna"].var_names.tolist()
        assert len(model.get_var_names(legacy_mudata_format=True)) == 45


def test_a_model_describes_itself(trained_model, saved, capsys):
    for model in (trained_model, PETRI.load(saved)):
        print(model)
        printed = capsys.readouterr().out
        for fact in ("PETRI", "['image', 'rna']", "n_latent_tokens: 4", "Training status: Trained"):
            assert fact in printed
        assert "set_transformer_depth: 1" in model.summary_string


def test_a_model_moves_to_a_device(saved):
    model = PETRI.load(saved)
    model.to_device("cpu")
    assert model.device == torch.device("cpu")
