"""Values that changed under a model are refused; the same values stored otherwise are not."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from petri_scvi import PETRI, baselines
from petri_scvi.modalities import difference, fingerprint


def normalise(mdata):
    sc.pp.normalize_total(mdata["rna"])
    sc.pp.log1p(mdata["rna"])


def brighten(mdata):
    mdata["image"].obsm["single_cell_images"] = mdata["image"].obsm["single_cell_images"] // 2


def reorder(mdata):
    mdata.mod["rna"] = mdata["rna"][::-1].copy()
    mdata.update()


CALLS = {
    "embedding": lambda model: model.get_latent_representation(),
    "embedding of a modality": lambda model: model.get_latent_representation(modality="rna"),
    "reconstruction": lambda model: model.get_reconstruction(modality="rna"),
    "error": lambda model: model.get_reconstruction_error(),
    "gain": lambda model: model.cross_modal_gain(),
    "measurement": lambda model: model.get_measurement(modality="image"),
    "training": lambda model: model.train(max_epochs=1, accelerator="cpu"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (normalise, r"mdata\['rna'\].X has changed .* values add up to"),
        (brighten, r"mdata\['image'\].obsm\['single_cell_images'\] has changed"),
        (reorder, r"mdata\['rna'\].X has changed .* in another order"),
    ],
)
def test_registered_values_that_changed_are_refused(screen, fit, change, words, call):
    model = fit(screen)
    change(screen)
    with pytest.raises(ValueError, match=words):
        CALLS[call](model)


def test_the_advice_to_register_a_layer_works(screen, build, quiet):
    screen["rna"].layers["counts"] = screen["rna"].X.copy()
    PETRI.setup_mudata(screen)
    model = build(screen)
    model.train(max_epochs=1, **quiet)
    before = model.get_latent_representation()
    normalise(screen)
    np.testing.assert_array_equal(model.get_latent_representation(), before)


def test_the_advice_to_pass_a_copy_embeds_the_new_order(screen, fit):
    model = fit(screen)
    before = model.get_latent_representation(modality="rna")
    reorder(screen)
    np.testing.assert_allclose(
        model.get_latent_representation(screen.copy(), modality="rna"), before[::-1], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("model_class", [baselines.PCAExpression, baselines.MAE])
def test_baselines_refuse_them_too(screen, model_class, quiet, tiny):
    model_class.setup_mudata(screen)
    if model_class is baselines.MAE:
        model = model_class(screen, **{k: v for k, v in tiny.items() if k != "set_transformer_depth"})
        model.train(max_epochs=1, **quiet)
    else:
        model = model_class(screen)
        model.train()
    normalise(screen)
    with pytest.raises(ValueError, match="has changed since it was registered"):
        model.get_latent_representation()


def test_other_data_that_changed_is_read_as_it_is_now(screen, make_screen, fit):
    model, other = fit(screen), make_screen(seed=1)
    first = model.get_latent_representation(other, modality="rna")
    reorder(other)
    np.testing.assert_allclose(
        model.get_latent_representation(other, modality="rna"), first[::-1], rtol=1e-5, atol=1e-6
    )
    assert len(model.get_contexts(other, modality="rna")) == other["rna"].n_obs


@pytest.mark.parametrize("convert", [sparse.csc_matrix, sparse.csr_matrix.toarray, lambda x: x.astype(np.float64)])
def test_the_same_values_in_another_form_are_the_same(screen, fit, convert):
    model = fit(screen)
    before = model.get_latent_representation(modality="rna")
    screen["rna"].X = convert(screen["rna"].X)
    np.testing.assert_array_equal(model.get_latent_representation(modality="rna"), before)


@pytest.mark.parametrize("method", ["held out", "error", "average"])
def test_held_out_cells_are_known_by_name(screen, build, quiet, tmp_path, method):
    model = build(screen)
    model.train(max_epochs=1, **quiet)
    model.save(tmp_path / "model")
    rows = model.get_held_out_rows(modality="rna")
    same = PETRI.load(tmp_path / "model", screen)
    np.testing.assert_array_equal(same.get_held_out_rows(modality="rna"), rows)
    reorder(screen)
    other = PETRI.load(tmp_path / "model", screen)
    calls = {
        "held out": lambda: other.get_held_out_rows(modality="rna"),
        "error": lambda: other.get_reconstruction_error(),
        "average": lambda: other.get_reconstruction_error(indices={"rna": [0, 1]}),
    }
    with pytest.raises(ValueError, match=r"cells of mdata\['rna'\] are not those that the model was trained on"):
        calls[method]()
    # What the message advises: the same cells as other data.
    other = PETRI.load(tmp_path / "model", adata=False)
    assert len(other.get_held_out_rows(screen, modality="rna")) == screen["rna"].n_obs
    assert np.isfinite(other.get_reconstruction_error(screen)["loss"]).all()


def test_changes_of_large_arrays_are_noticed_without_reading_them_whole(monkeypatch):
    monkeypatch.setattr("petri_scvi.modalities._fingerprint.N_VALUES_READ", 10)
    monkeypatch.setattr("petri_scvi.modalities._fingerprint.N_VALUES_SUMMED", 10)
    values = np.random.default_rng(0).poisson(1.0, size=(1000, 20)).astype(np.float32)
    known = fingerprint(values)
    assert "sum" not in known
    assert difference(known, fingerprint(sparse.csr_matrix(values))) == ""
    assert "in another order" in difference(known, fingerprint(values[::-1]))
    assert "values" in difference(known, fingerprint(np.log1p(values)))
    assert "shape" in difference(known, fingerprint(values[:-1]))
