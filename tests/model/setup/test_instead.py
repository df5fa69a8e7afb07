"""What users of other models of scvi-tools try first."""

from __future__ import annotations

import re
from inspect import signature

import pytest
from scvi.model import MULTIVI, SCVI, TOTALVI

import petri_scvi
from petri_scvi import PETRI, baselines
from petri_scvi.model.setup._instead import INIT, METHODS, SETUP

EVERY = [getattr(baselines, name) for name in baselines.__all__]


@pytest.mark.parametrize("model_class", [PETRI, *EVERY])
def test_setup_arguments_of_other_models_are_refused_with_what_to_do(model_class, screen, refused):
    needed = {}
    if "embedding_keys" in signature(model_class.setup_mudata).parameters:
        needed = {"embedding_keys": {"image": "X_known", "rna": "X_known"}}
        for adata in screen.mod.values():
            adata.obsm["X_known"] = adata.obs[["true_effect", "true_cell_cycle"]].to_numpy()
    for argument, advice in (("batch_key", "center_scale"), ("labels_key", "context_key"), ("foo", "help(")):
        with refused(TypeError, f"{argument} is not an argument of", advice, untouched=(screen,)):
            model_class.setup_mudata(screen, **needed, **{argument: "guide"})


def test_every_setup_argument_of_scvi_tools_is_known_or_refused_with_advice():
    own = set(signature(PETRI.setup_mudata).parameters)
    functions = (SCVI.setup_anndata, MULTIVI.setup_mudata, TOTALVI.setup_mudata)
    theirs = {name for function in functions for name in signature(function).parameters} - {"adata", "mdata"}
    assert theirs - own == set(SETUP) & theirs
    assert not own & set(SETUP)


@pytest.mark.parametrize("model_class", [PETRI, baselines.MAE, baselines.CLIP, baselines.PCAPixels, baselines.MULTIVI])
def test_a_model_of_data_that_was_not_set_up_names_the_call(model_class, screen, refused):
    with refused(
        ValueError, f"was not set up for {model_class.__name__}", f"{model_class.__name__}.setup_mudata(mdata)"
    ):
        model_class(screen)


@pytest.mark.parametrize("name", [*INIT, "other"])
def test_arguments_of_other_models_are_refused_with_what_takes_their_place(screen, refused, name):
    PETRI.setup_mudata(screen)
    with refused(TypeError, f"{name} is not an argument of PETRI: {INIT.get(name, 'help(PETRI) lists them all.')}"):
        PETRI(screen, **{name: 10})
    own = set(signature(PETRI).parameters)
    assert name not in own
    assert {"mdata", "embed_dim", "n_latent_tokens", "expression_likelihood", "set_transformer_depth"} <= own


def test_what_scvi_takes_is_in_the_table_or_given_to_the_networks():
    theirs = {*signature(SCVI).parameters} - {"adata", "registry", "kwargs"}
    assert theirs <= set(INIT)


def test_methods_of_other_models_name_the_call_that_does_it(trained_model):
    for name, advice in METHODS.items():
        with pytest.raises((AttributeError, NotImplementedError)) as caught:
            getattr(trained_model, name)()
        assert str(caught.value) == f"PETRI has no {name}: {advice}"
    with pytest.raises(AttributeError, match=r"^PETRI has no other\.$"):
        trained_model.other  # noqa: B018


def test_every_method_of_scvi_is_there_or_named_with_its_replacement(trained_model):
    theirs = {name for model in (SCVI, MULTIVI, TOTALVI) for name in dir(model) if not name.startswith("_")}
    own = {name for name in dir(trained_model) if not name.startswith("_")}
    of_instances = {"get_normalized_function_name", "minified_data_type"}
    assert theirs - own - set(METHODS) - of_instances == set()


def test_the_advice_names_what_exists(trained_model):
    texts = [*METHODS.values(), *SETUP.values()]
    for text in texts:
        for room, name in re.findall(r"petri_scvi\.(tl|io|pp)\.(\w+)", text):
            assert hasattr(getattr(petri_scvi, room), name)
        for name in re.findall(r"model\.(\w+)\(", text):
            assert hasattr(trained_model, name)
