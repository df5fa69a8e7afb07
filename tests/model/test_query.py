"""New data under the names of scvi-tools."""

from __future__ import annotations

import warnings
from copy import deepcopy

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI, baselines, io, tl
from petri_scvi.modalities import CountsModality, Kind, register_kind


@register_kind
class CannotMask(CountsModality):
    kind = "cannot mask"
    masks_missing = False


def own(found: pytest.WarningsRecorder) -> list[str]:
    """Warnings of this package; pandas and mudata add some of their own."""
    return [str(one.message) for one in found if one.category is UserWarning]


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
    with pytest.warns(UserWarning, match=r"fitted to the model: 10 genes of mdata\['rna'\] that .* are dropped\.$"):
        ready = PETRI.prepare_query_mudata(query, trained_model)
    assert ready["rna"].var_names.tolist() == trained_model.get_var_names()["rna"].tolist()
    assert ready["image"] is query["image"]
    assert query["rna"].var_names.tolist() == order
    np.testing.assert_array_equal(ready["rna"].X.sum(), query["rna"][:, ready["rna"].var_names].X.sum())
    assert trained_model.get_latent_representation(ready).shape == (query.n_obs, 16)


def test_cells_of_unknown_context_are_embedded_as_the_error_says(trained_model, make_screen, refused):
    new = make_screen(seed=2)
    expected = trained_model.get_latent_representation(new)
    for adata in new.mod.values():
        del adata.obs["perturbation"]
    unlabelled = new.copy()
    with refused(KeyError, "mdata['image'].obs lacks ['perturbation'], the context of the model", "= 'unknown'"):
        trained_model.get_latent_representation(unlabelled)
    for name in unlabelled.mod:
        unlabelled[name].obs["perturbation"] = "unknown"
    np.testing.assert_array_equal(trained_model.get_latent_representation(unlabelled), expected)


def test_a_saved_model_prepares_data_as_the_model_does(trained_model, query, tmp_path):
    trained_model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match="10 genes"):
        ready = PETRI.prepare_query_mudata(query, tmp_path / "model")
    assert ready["rna"].var_names.tolist() == trained_model.get_var_names()["rna"].tolist()


@pytest.fixture
def lacking(trained_model, make_screen, combine):
    """Other cells, without a quarter of the genes of the model and with two others; and which genes they lack."""
    rna = make_screen(seed=2)["rna"]
    rna.X = sparse.csr_matrix(rna.X.toarray() + (np.arange(rna.n_vars) == 0))  # no cell without counts
    lost = trained_model.get_var_names()["rna"][3::4]
    part = rna[:, ~rna.var_names.isin(lost)].copy()
    part = part[:, np.random.default_rng(0).permutation(part.n_vars)].copy()
    part.var_names = [*part.var_names[:-2], "other 1", "other 2"]
    lost = sorted({*rna.var_names} - {*part.var_names})
    with pytest.warns(UserWarning, match="fitted to the model") as found:
        ready = PETRI.prepare_query_mudata(combine(rna=part), trained_model)
    (words,) = own(found)
    assert "mdata has no 'image', which is not needed" in words
    assert "mdata['rna'] lacks 12 of the 40 genes of the model, which are masked" in words
    assert "2 genes of mdata['rna'] that the model does not know are dropped" in words
    return ready, lost, rna


def test_missing_genes_are_masked_as_in_training(trained_model, lacking):
    ready, lost, complete = lacking
    embedding = trained_model.get_latent_representation(ready)
    cells = torch.as_tensor(complete.X.toarray())
    is_lost = torch.as_tensor(complete.var_names.isin(lost))
    with torch.inference_mode():
        masked = trained_model.module.encode("rna", cells, is_lost.expand(len(cells), -1)).mean(dim=1)
    np.testing.assert_allclose(embedding, masked, rtol=1e-4, atol=1e-5)
    measured = trained_model.get_measurement(ready, modality="rna")
    np.testing.assert_array_equal(measured, np.where(is_lost, np.nan, complete.X.toarray()))


def test_missing_genes_are_predicted_and_not_scored(trained_model, lacking):
    ready, lost, complete = lacking
    found = trained_model.get_reconstruction(ready, modality="rna", companions={})
    assert np.isfinite(found.prediction).all()
    is_lost = complete.var_names.isin(lost)
    # The counts of the measured genes are known, and those of the others are predicted at the same depth.
    measured = complete.X.toarray()[:, ~is_lost].sum(axis=1)
    np.testing.assert_allclose(found.prediction[:, ~is_lost].sum(axis=1), measured, rtol=1e-4)
    mean = trained_model.adata["rna"].X.toarray()[:, is_lost].mean(axis=0)
    assert np.corrcoef(np.log1p(found.prediction[:, is_lost].mean(axis=0)), np.log1p(mean))[0, 1] > 0.8
    errors = trained_model.get_reconstruction_error(ready)
    assert np.isfinite(errors["loss"]).all()
    assert np.isfinite(trained_model.cross_modal_gain(ready, n_documents=1)["loss_own"]).all()


def test_expression_is_imputed_for_data_that_lacks_genes(trained_model, lacking, make_screen, combine):
    ready, lost, _ = lacking
    new = combine(image=make_screen(seed=2)["image"], rna=ready["rna"])
    rows = list(range(new["rna"].n_obs))
    result = tl.impute_expression(trained_model, new, indices=rows)
    is_lost = result.var_names.isin(lost)
    assert np.isfinite(result.X).all()
    assert np.isnan(result.layers["observed"][:, is_lost]).all()
    assert np.isfinite(result.obs[["correlation_predicted", "mse_predicted"]]).all(axis=None)
    assert (result.var["mse_predicted"].isna() == is_lost).all()


def test_a_copy_of_the_model_is_trained_further_without_the_missing_genes(trained_model, lacking, quiet, tmp_path):
    ready, lost, _ = lacking
    copy = PETRI.load_query_data(ready, trained_model, accelerator="cpu")
    before = {name: value.clone() for name, value in copy.module.state_dict().items()}
    copy.train(max_epochs=1, plan_kwargs={"lr": 1e-2, "weight_decay": 0.0}, **quiet)
    assert np.isfinite(copy.history["train_loss_rna"].to_numpy(dtype=float)).all()
    after = copy.module.state_dict()
    is_lost = np.isin(copy.get_var_names()["rna"], lost)
    changed = (after["modalities.rna.decoder.output.weight"] != before["modalities.rna.decoder.output.weight"]).any(
        dim=1
    )
    assert (changed.numpy() == ~is_lost).all()
    copy.save(tmp_path / "model")
    loaded = PETRI.load(tmp_path / "model", ready)
    np.testing.assert_array_equal(loaded.get_latent_representation(), copy.get_latent_representation())
    complete = trained_model.adata
    assert np.isfinite(loaded.get_latent_representation(complete)).all()


@pytest.mark.parametrize("is_store", [False, True])
@pytest.mark.parametrize(("modality", "fitted"), [("rna", "lacking"), ("image", "without_channels")])
def test_data_that_was_fitted_stays_so_in_a_file(trained_model, request, tmp_path, modality, fitted, is_store):
    ready, _, _ = request.getfixturevalue(fitted)
    if is_store:
        io.write_training_store(ready, tmp_path / "query.h5mu")
        again = io.open_screen(tmp_path / "query.h5mu")
    else:
        ready.write(tmp_path / "query.h5mu")
        again = mudata.read_h5mu(tmp_path / "query.h5mu")
    rows = ready[modality].obs_names.get_indexer(again[modality].obs_names)
    np.testing.assert_allclose(
        trained_model.get_latent_representation(again),
        trained_model.get_latent_representation(ready)[rows],
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_gene_that_was_not_declared_missing_is_refused_nevertheless(trained_model, lacking, combine, refused):
    ready, lost, _ = lacking
    rna = ready["rna"][:, 1:].copy()
    with refused(ValueError, "13 genes of the model are missing", "prepare_query_mudata"):
        trained_model.get_latent_representation(combine(rna=rna))


def test_data_without_any_gene_of_the_model_is_refused(trained_model, query, combine, refused):
    rna = query["rna"].copy()
    rna.var_names = "ENSG" + rna.var_names
    with refused(ValueError, "lacks 40 of the 40 genes", "var_names = ..."):
        PETRI.prepare_query_mudata(combine(rna=rna), trained_model)


@pytest.mark.parametrize("kind", ["counts", "peaks", "binary", "continuous", "features"])
@pytest.mark.parametrize("place", ["X", "obsm"])
def test_variables_of_every_kind_are_masked_wherever_they_lie(make_screen, combine, tiny, quiet, kind, place):
    rna = make_screen(n_genes=20)["rna"]
    counts = rna.X.toarray()
    counts[:, 1] += 1  # no cell without counts
    values = {"binary": counts > 1, "continuous": np.log1p(counts)}.get(kind, counts)
    table = pd.DataFrame(values.astype(np.float32), index=rna.obs_names, columns=rna.var_names)
    table = table.loc[:, table.nunique() > 1]

    def screen_of(columns):
        part = table[columns]
        if place == "X":
            return combine(cells=AnnData(part, obs=rna.obs))
        return combine(cells=AnnData(obs=rna.obs, obsm={"table": part}))

    complete = screen_of(list(table))
    PETRI.setup_mudata(complete, modalities={"cells": Kind(kind, obsm="table" if place == "obsm" else None)})
    model = PETRI(complete, **tiny)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*standard deviations")  # of counts as features
        model.train(max_epochs=1, **quiet)
    kept = [name for name in table if name not in list(table)[::3]]
    with pytest.warns(UserWarning, match="which are masked") as found:
        ready = PETRI.prepare_query_mudata(screen_of(kept[::-1]), model)
    assert len(own(found)) == 1
    cells = torch.as_tensor(model.get_measurement(modality="cells"))
    is_lost = torch.as_tensor(~table.columns.isin(kept)).expand(len(cells), -1)
    with torch.inference_mode():
        masked = model.module.encode("cells", cells, is_lost).mean(dim=1)
    np.testing.assert_allclose(model.get_latent_representation(ready), masked, rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.get_reconstruction_error(ready)["loss"]).all()
    assert np.isfinite(model.get_reconstruction(ready, modality="cells").prediction).all()


def test_a_kind_or_a_model_that_cannot_mask_says_so(screen, make_screen, combine, tiny, refused, lacking):
    ready, _, _ = lacking
    PETRI.setup_mudata(screen, modalities={"rna": "cannot mask"})
    model = PETRI(screen, **tiny)
    part = combine(rna=screen["rna"][:, 1:].copy())
    with refused(ValueError, "lacks 1 of the 40 genes", "the kind 'cannot mask' cannot mask them", "both screens have"):
        PETRI.prepare_query_mudata(part, model)
    screen = make_screen()
    baselines.PCAExpression.setup_mudata(screen)
    pca = baselines.PCAExpression(screen, n_components=3)
    pca.train()
    with refused(ValueError, "lacks variables that PCAExpression was trained on, and it cannot mask them"):
        pca.get_latent_representation(ready)


@pytest.fixture
def without_channels(trained_model, make_screen, combine):
    """Other cells without two channels of the model, in another order and beside another one; and all channels."""
    images = make_screen(seed=2)["image"]
    part = images.copy()
    kept = ["actin", "lipid_droplets", "cell_body"]
    names = list(images.uns["channel_names"])
    crops = images.obsm["single_cell_images"][:, [*map(names.index, kept), 0]]
    part.obsm["single_cell_images"], part.uns["channel_names"] = crops, [*kept, "other"]
    with pytest.warns(UserWarning, match="fitted to the model") as found:
        ready = PETRI.prepare_query_mudata(combine(image=part), trained_model)
    (words,) = own(found)
    assert "mdata['image'] lacks 2 of the 5 channels of the model, which are masked (nucleus, mitochondria)" in words
    assert "1 channels of mdata['image'] that the model does not know are not read (other)" in words
    assert ready["image"].obsm["single_cell_images"] is crops
    assert "petri_scvi" not in part.uns
    yield ready, ["nucleus", "mitochondria"], images
    trained_model.module.modality("image").lacks_values = False


def test_missing_channels_are_not_read(trained_model, without_channels, combine, make_screen):
    ready, lost, complete = without_channels
    embedding = trained_model.get_latent_representation(ready)
    assert trained_model.get_measurement(ready, modality="image")[:, [0, 3]].shape == (complete.n_obs, 2, 16, 16)
    names = trained_model.get_var_names()["image"]
    is_lost = np.isin(names, lost)
    measured = trained_model.get_measurement(ready, modality="image")
    crops = complete.obsm["single_cell_images"]
    np.testing.assert_array_equal(measured, np.where(is_lost[:, None, None], np.nan, crops))
    # Whatever they would have shown, the embedding is that of the weights of the other channels.
    network = trained_model.module.modality("image").encoder
    cells = trained_model.module.modality("image").prepare(torch.as_tensor(crops))
    cells[:, is_lost] = 7.0
    keeps = torch.as_tensor(~is_lost)
    blind = deepcopy(network)
    with torch.inference_mode():
        blind.embed.weight.unflatten(1, (5, -1))[:, ~keeps] = 0
        first, second = torch.triu_indices(5, 5, 1)
        blind.linear_path.project.weight[:, ~torch.cat([*[keeps] * 3, keeps[first] & keeps[second]])] = 0
        expected = blind(cells).mean(dim=1)
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(embedding - trained_model.get_latent_representation(combine(image=complete))).max() > 0.01


def test_missing_channels_are_predicted_and_not_scored(trained_model, without_channels, make_screen, combine, refused):
    ready, lost, complete = without_channels
    found = trained_model.get_reconstruction(ready, modality="image", companions={})
    assert np.isfinite(found.prediction).all()
    assert found.prediction.shape == complete.obsm["single_cell_images"].shape
    both = combine(image=ready["image"], rna=make_screen(seed=2)["rna"])
    assert np.isfinite(trained_model.get_reconstruction_error(both)["loss"]).all()
    assert np.isfinite(trained_model.cross_modal_gain(both, n_documents=1)["loss_own"]).all()
    changed = ready["image"].obsm["single_cell_images"]
    errors = trained_model.get_reconstruction_error(ready).set_index("predictor")["loss"]
    changed[:, 3] = 0  # the channel that the model does not know
    fresh = combine(image=ready["image"].copy())
    again = trained_model.get_reconstruction_error(fresh).set_index("predictor")["loss"]
    np.testing.assert_array_equal(errors, again)
    context = both["image"].obs["perturbation"].iloc[0]
    with refused(ValueError, "channel 'nucleus'", "was not measured", "'actin'"):
        tl.targeted_reconstruction(
            trained_model, both, channel="nucleus", context=context, changed_context="non-targeting"
        )


def test_a_copy_of_the_model_is_trained_further_without_the_missing_channels(
    trained_model, without_channels, quiet, tmp_path
):
    ready, lost, _ = without_channels
    new = PETRI.load_query_data(ready, trained_model, accelerator="cpu")
    weight = "modalities.image.decoder.head.weight"
    before = new.module.state_dict()[weight].clone()
    new.train(max_epochs=1, plan_kwargs={"lr": 1e-2, "weight_decay": 0.0}, **quiet)
    assert np.isfinite(new.history["train_loss_image"].to_numpy(dtype=float)).all()
    changed = (new.module.state_dict()[weight] != before).unflatten(0, (5, -1)).flatten(1).any(dim=1)
    assert (changed.numpy() == ~np.isin(new.get_var_names()["image"], lost)).all()
    new.save(tmp_path / "model")
    loaded = PETRI.load(tmp_path / "model", ready)
    np.testing.assert_array_equal(loaded.get_latent_representation(), new.get_latent_representation())
    assert np.isfinite(loaded.get_latent_representation(trained_model.adata)).all()


def test_channels_that_are_missing_without_a_note_or_a_name_are_refused(
    trained_model, without_channels, make_screen, combine, refused
):
    ready, _, _ = without_channels
    undeclared = combine(image=ready["image"].copy())
    del undeclared["image"].uns["petri_scvi"]
    with refused(ValueError, "mdata['image'] lacks ['nucleus', 'mitochondria']", "prepare_query_mudata"):
        trained_model.get_latent_representation(undeclared)
    new = make_screen(seed=2)["image"]
    new.obsm["single_cell_images"] = new.obsm["single_cell_images"][:, 1:]
    del new.uns["channel_names"]
    with refused(ValueError, "lacks 5 of the 5 channels", "without names", "uns['channel_names'] = [...]"):
        PETRI.prepare_query_mudata(combine(image=new), trained_model)
    new.uns["channel_names"] = list(trained_model.get_var_names()["image"][1:])
    with pytest.warns(UserWarning, match=r"lacks 1 of the 5 channels of the model, which are masked \(nucleus\)"):
        ready = PETRI.prepare_query_mudata(combine(image=new), trained_model)
    assert np.isfinite(trained_model.get_latent_representation(ready)).all()
    pca = baselines.PCAPixels
    complete = make_screen()
    pca.setup_mudata(complete)
    model = pca(complete, n_components=3)
    model.train()
    with refused(ValueError, "lacks variables that PCAPixels was trained on, and it cannot mask them"):
        model.get_latent_representation(ready)


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
