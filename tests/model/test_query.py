"""New data under the names of scvi-tools."""

from __future__ import annotations

import numpy as np
import pytest

from petri_scvi import PETRI


@pytest.fixture
def query(make_screen, combine):
    """Other cells, whose genes are shuffled among genes that the model does not know."""
    new = make_screen(seed=2)
    rna = make_screen(seed=2, n_genes=50)["rna"]
    rna = rna[:, np.random.default_rng(0).permutation(rna.n_vars)].copy()
    known = new["rna"].var_names
    rna.var_names = [f"{name}_new" if name not in known else name for name in rna.var_names]
    return combine(image=new["image"], rna=rna)


def test_genes_are_selected_and_ordered_by_name(trained_model, query, refused):
    order = query["rna"].var_names.tolist()
    with refused(ValueError, "the genes of mdata['rna'] are not those of the model"):
        trained_model.get_latent_representation(query)
    ready = PETRI.prepare_query_mudata(query, trained_model)
    assert ready["rna"].var_names.tolist() == trained_model.get_var_names()["rna"].tolist()
    assert ready["image"] is query["image"]
    assert query["rna"].var_names.tolist() == order
    np.testing.assert_array_equal(ready["rna"].X.sum(), query["rna"][:, ready["rna"].var_names].X.sum())
    assert trained_model.get_latent_representation(ready).shape == (query.n_obs, 16)


def test_a_saved_model_prepares_data_as_the_model_does(trained_model, query, tmp_path):
    trained_model.save(tmp_path / "model")
    ready = PETRI.prepare_query_mudata(query, tmp_path / "model")
    assert ready["rna"].var_names.tolist() == trained_model.get_var_names()["rna"].tolist()


def test_missing_genes_are_refused_with_their_names(trained_model, query, combine, refused):
    lost = trained_model.get_var_names()["rna"][3]
    query = combine(rna=query["rna"][:, query["rna"].var_names != lost].copy())
    with refused(ValueError, "lacks 1 of the 40 genes", repr(str(lost)), "var_names = ..."):
        PETRI.prepare_query_mudata(query, trained_model)


def test_other_modalities_are_refused(trained_model, query, combine, refused):
    with refused(ValueError, "mdata has the modalities ['expression']", "the model knows ['image', 'rna']"):
        PETRI.prepare_query_mudata(combine(expression=query["rna"]), trained_model)


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_copy_of_the_model_is_trained_further_on_new_data(trained_model, make_screen, quiet, tmp_path, is_saved):
    before = trained_model.module.state_dict()["set_transformer.norm.weight"].clone()
    new = make_screen(seed=2)
    if is_saved:
        trained_model.save(tmp_path / "model")
    copy = PETRI.load_query_data(new, tmp_path / "model" if is_saved else trained_model, accelerator="cpu")
    np.testing.assert_array_equal(copy.get_latent_representation(), trained_model.get_latent_representation(new))
    assert copy.train_indices is None
    assert len(copy.get_held_out_rows(modality="image")) == new["image"].n_obs
    copy.train(max_steps=2, max_epochs=1, plan_kwargs={"lr": 1e-2}, **quiet)
    assert not np.array_equal(copy.get_latent_representation(), trained_model.get_latent_representation(new))
    assert (trained_model.module.state_dict()["set_transformer.norm.weight"] == before).all()
    assert len(copy.get_held_out_rows(modality="image")) < new["image"].n_obs
