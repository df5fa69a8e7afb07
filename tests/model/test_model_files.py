"""Model files: what is in them, and what becomes of files that are damaged, hostile or of another kind."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from scvi.model.base import BaseModelClass

from petri_scvi import PETRI
from petri_scvi.baselines import CLIP, MAE, CellCLIP, CrossModalAutoencoder, GroupCLIP
from petri_scvi.common import write_sealed
from petri_scvi.model import _model_file, _saving
from petri_scvi.model._model_file import read_model

MODELS = [PETRI, MAE, CLIP, CellCLIP, GroupCLIP, CrossModalAutoencoder]
CONTRASTIVE = [
    "embed_dim",
    "n_heads",
    "n_latent_tokens",
    "patch_size",
    "image_encoder_depth",
    "expression_encoder_depth",
]


@pytest.fixture
def saved(trained_model, tmp_path):
    trained_model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def make_model(make_screen, tiny):
    """An untrained model of a class, and how to set up data for it."""

    def make(model_class, **changes):
        mdata, setup, arguments = make_screen(), {}, dict(tiny)
        if model_class is CrossModalAutoencoder:
            for name in ("image", "rna"):
                mdata[name].obsm["X_mae"] = np.random.default_rng(0).normal(size=(mdata[name].n_obs, 6))
            setup, arguments = {"embedding_keys": {"image": "X_mae", "rna": "X_mae"}}, {"embed_dim": 4, "hidden_dim": 8}
        elif model_class is MAE:
            del arguments["set_transformer_depth"]
        elif model_class is not PETRI:
            arguments = {name: value for name, value in arguments.items() if name in CONTRASTIVE or "encoder" in name}
        model_class.setup_mudata(mdata, **setup)
        return model_class(mdata, **{**arguments, **changes}), mdata

    return make


def _content(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def _write_pickled(model, folder, doubled=False):
    """Save as scvi-tools does."""
    if doubled:
        model.init_params_["non_kwargs"]["mdata"] = None
    BaseModelClass.save(model, str(folder))
    return folder


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("model_class", MODELS)
def test_a_model_that_was_loaded_can_be_saved_trained_and_loaded_again(model_class, make_model, quiet, tmp_path):
    model, mdata = make_model(model_class)
    model.train(max_epochs=1, **quiet)
    model.save(tmp_path / "a")
    model_class.load(tmp_path / "a", mdata).save(tmp_path / "b")
    model_class.load(tmp_path / "b", adata=False).save(tmp_path / "c")
    again = model_class.load(tmp_path / "c", mdata)
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    again.train(max_epochs=1, **quiet)
    again.save(tmp_path / "d")
    last = model_class.load(tmp_path / "d", mdata)
    np.testing.assert_array_equal(last.get_latent_representation(), again.get_latent_representation())
    assert len(last.history["train_loss"]) == 2
    assert last.init_params_ == model.init_params_


@pytest.mark.parametrize("model_class", MODELS)
def test_a_model_made_from_a_registry_can_be_saved_and_loaded(model_class, make_model, tmp_path):
    model, mdata = make_model(model_class)
    model.save(tmp_path / "a")
    arguments = read_model(tmp_path / "a" / "model.pt", trust_file=False).arguments
    other = model_class(registry=model_class.load_registry(tmp_path / "a"), **arguments)
    other.save(tmp_path / "b")
    loaded = model_class.load(tmp_path / "b", mdata)
    assert loaded.module.state_dict().keys() == model.module.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [PETRI, MAE, CLIP])
@pytest.mark.parametrize("is_pickled", [False, True])
def test_a_file_written_before_there_was_a_linear_path_loads_without_one(
    model_class, is_pickled, make_model, quiet, tmp_path
):
    model, mdata = make_model(model_class, linear_path=False)
    model.train(max_epochs=1, **quiet)
    expected = model.get_latent_representation()
    for kind in model.init_params_.values():
        for arguments in (kind, *(value for value in kind.values() if isinstance(value, dict))):
            arguments.pop("linear_path", None)
    if is_pickled:
        _write_pickled(model, tmp_path / "old")
    else:
        model.save(tmp_path / "old")
    loaded = model_class.load(tmp_path / "old", mdata, trust_file=is_pickled)
    np.testing.assert_array_equal(loaded.get_latent_representation(), expected)
    loaded.save(tmp_path / "new")
    again = model_class.load(tmp_path / "new", mdata)
    np.testing.assert_array_equal(again.get_latent_representation(), expected)
    assert again.module.modality("rna").encoder.linear_path is None


EARLIER = {"embed_dim": 32, "n_heads": 8, "patch_size": 8, "image_encoder_depth": 2, "expression_encoder_depth": 3}


@pytest.mark.parametrize("model_class", [MAE, CLIP, GroupCLIP])
def test_a_file_that_does_not_record_sizes_has_those_that_were_the_default(
    model_class, make_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(_model_file, "EARLIER_ENCODER", EARLIER)
    model, mdata = make_model(model_class, **EARLIER)
    (recorded,) = model.init_params_["kwargs"].values()
    for name in EARLIER:
        del recorded[name]
    model.save(tmp_path / "old")
    loaded = model_class.load(tmp_path / "old", mdata)
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(loaded.module.state_dict()[name], value)


def test_sizes_that_followed_from_others_are_recorded(make_model):
    model, _ = make_model(PETRI, embed_dim=32, n_heads=None, image_decoder_dim=None)
    recorded = model.init_params_["non_kwargs"]
    assert (recorded["n_heads"], recorded["image_decoder_dim"]) == (2, 32)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("doubled", [False, True])
def test_a_pickled_model_is_read_only_if_it_is_trusted(model_class, doubled, make_model, refused, tmp_path):
    model, mdata = make_model(model_class)
    expected = {name: value.numpy().copy() for name, value in model.module.state_dict().items()}
    folder = _write_pickled(model, tmp_path / "old", doubled)
    for read in (model_class.load, model_class.load_registry, model_class.view_setup_args):
        with refused(ValueError, "written with pickle", "trust_file=True", "save the model again"):
            read(folder)
    loaded = model_class.load(folder, mdata, trust_file=True)
    for name, value in loaded.module.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[name])
    assert model_class.load_registry(folder, trust_file=True)["model_name"] == model_class.__name__
    loaded.save(folder, overwrite=True)
    assert model_class.load(folder).module.state_dict().keys() == expected.keys()


@pytest.mark.parametrize("where", ["attributes", "weights", "alone", "sealed"])
def test_no_code_in_a_file_runs(trained_model, tmp_path, refused, where):
    folder, ran = tmp_path / "hostile", tmp_path / "ran"
    _write_pickled(trained_model, folder)
    content = torch.load(folder / "model.pt", weights_only=False)
    if where == "alone":
        content = Touch(ran)
    elif where == "weights":
        content["model_state_dict"]["more"] = Touch(ran)
    else:
        content["attr_dict"]["more_"] = Touch(ran)
    if where == "sealed":
        write_sealed(folder / "model.pt", content)
    else:
        torch.save(content, folder / "model.pt")
    for read in (PETRI.load, MAE.load, PETRI.load_registry, PETRI.view_setup_args, CLIP.load_registry):
        with pytest.raises(ValueError, match="names code to run") as caught:
            read(folder)
        assert "trust" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not ran.exists()


def test_a_file_is_read_by_torch_without_unpickling_and_the_rest_is_json(saved, trained_model):
    content = _content(saved)
    for name, value in trained_model.module.state_dict().items():
        assert torch.equal(content["model_state_dict"][name], value)
    attributes = json.loads(content["attributes"])
    assert attributes["is_trained_"] is True
    assert attributes["registry_"]["setup_args"]["context_key"] == "perturbation"


def test_every_flipped_byte_is_noticed(saved, refused):
    path = saved / "model.pt"
    content, rng = path.read_bytes(), random.Random(0)
    last = range(len(content) - 110, len(content))
    for place in [*range(40), *last, *(rng.randrange(len(content)) for _ in range(150))]:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="does not hold a complete model") as caught:
            PETRI.load(saved)
        assert "trust" not in str(caught.value)


def test_scvi_tools_opens_the_folder(trained_model, screen, tmp_path):
    folder = str(tmp_path / "hub")
    trained_model.save(folder, save_anndata=True)
    hub_client = pytest.importorskip("huggingface_hub")  # scvi.hub imports it
    from scvi.hub import HubMetadata, HubModel

    metadata = HubMetadata.from_dir(folder, anndata_version="0.12.0", model_parent_module="petri_scvi")
    assert metadata.model_cls_name == "PETRI"
    hub = HubModel(folder, metadata=metadata, model_card=hub_client.ModelCard("# PETRI"))
    hub.save()
    again = HubModel(folder)
    np.testing.assert_array_equal(again.model.get_latent_representation(), trained_model.get_latent_representation())
    assert BaseModelClass.load_registry(folder)["model_name"] == "PETRI"


def test_arguments_of_scvi_tools_are_passed_on(trained_model, tmp_path, refused):
    trained_model.save(tmp_path / "a", "one_", False, True, compression="gzip", legacy_mudata_format=True)
    assert len(_content_of(tmp_path / "a" / "one_model.pt")["var_names"]) == 45
    assert PETRI.load(tmp_path / "a", None, "cpu", "auto", "one_").adata.n_obs == 468
    trained_model.save(tmp_path / "b", save_kwargs={"pickle_protocol": 2})
    assert PETRI.load(tmp_path / "b", accelerator="cpu", device="auto").is_trained
    with refused(TypeError, "['compresion']", "save_anndata=True"):
        trained_model.save(tmp_path / "c", compresion="gzip")
    with refused(ValueError, "not a zip archive"):
        trained_model.save(tmp_path / "d", save_kwargs={"_use_new_zipfile_serialization": False})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def _content_of(path):
    return torch.load(path, weights_only=True)


def test_a_missing_file_is_downloaded_and_checked(saved, tmp_path, refused, monkeypatch):
    content = (saved / "model.pt").read_bytes()

    def download(url, folder, name):
        os.mkdir(folder)
        (tmp_path / folder / name).write_bytes(content if url == "whole" else content[:-1])

    monkeypatch.setattr(_saving, "download_if_missing", download)
    assert PETRI.load(tmp_path / "copy", backup_url="whole").is_trained
    with refused(ValueError, "no checksum", "fetch another copy"):
        PETRI.load(tmp_path / "cut", backup_url="cut")


@pytest.mark.parametrize("prefix", ["../x_", "a/b", "a\\b", "/tmp/x_", "a\0b"])
def test_a_prefix_does_not_leave_the_folder(trained_model, saved, tmp_path, refused, prefix):
    for call in (trained_model.save, PETRI.load, PETRI.load_registry):
        with refused(ValueError, "prefix=", "another folder"):
            call(saved, prefix=prefix)
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(saved) == ["model.pt"]


def test_the_home_folder_is_expanded(trained_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trained_model.save("~/model")
    assert os.listdir(tmp_path) == ["model"]
    assert PETRI.load("~/model").is_trained
    assert PETRI.load_registry("~/model")["model_name"] == "PETRI"


def test_a_file_in_place_of_a_folder_is_refused(trained_model, tmp_path, refused):
    (tmp_path / "model").write_text("notes")
    with refused(ValueError, "is a file", "Pass a folder"):
        trained_model.save(tmp_path / "model", overwrite=True)
    assert (tmp_path / "model").read_text() == "notes"


@pytest.mark.slow
def test_what_a_killed_save_left_is_removed_by_the_next(trained_model, tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from petri_scvi.common import hidden_folder\n"
        "with hidden_folder(Path(sys.argv[1])) as folder: (folder / 'model.pt').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "model")], check=False)
    assert len(os.listdir(tmp_path)) == 1
    trained_model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(build, screen, saved, refused):
    before = (saved / "model.pt").read_bytes()
    model = build(screen)
    next(model.module.parameters()).data[0] = math.nan
    with refused(ValueError, "1 of ", "NaN or infinite", "smaller learning rate"):
        model.save(saved, overwrite=True)
    assert (saved / "model.pt").read_bytes() == before
    content = _content(saved)
    next(iter(content["model_state_dict"].values()))[0] = math.inf
    write_sealed(saved / "model.pt", content)
    with refused(ValueError, "NaN or infinite", "complete model"):
        PETRI.load(saved)


def test_an_attribute_that_is_no_plain_value_is_refused_by_name(build, screen, tmp_path, refused):
    model = build(screen)
    model.notes_ = {"file": open}
    with refused(ValueError, "model['notes_']['file']", "builtin_function_or_method", "numbers, text"):
        model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def _change(attributes, *path, value=None):
    *parents, last = path
    for key in parents:
        attributes = attributes[key]
    if value is None:
        del attributes[last]
    else:
        attributes[last] = value


FIELD = ("registry_", "field_registries", "X", "state_registry")
MALFORMED = {
    "nothing": lambda content, attributes: content.clear(),
    "another format": lambda content, attributes: content.update(format="petri-scvi model 99"),
    "no weights": lambda content, attributes: content.pop("model_state_dict"),
    "no attributes": lambda content, attributes: content.pop("attributes"),
    "no arrays": lambda content, attributes: content.pop("arrays"),
    "weights in a list": lambda content, attributes: content.update(model_state_dict=[1]),
    "a weight that is text": lambda content, attributes: content["model_state_dict"].update(a="text"),
    "a weight more": lambda content, attributes: content["model_state_dict"].update(more=torch.zeros(1)),
    "a weight less": lambda content, attributes: content["model_state_dict"].popitem(),
    "a weight of no memory": lambda content, attributes: content["model_state_dict"].update(
        a=torch.zeros(1).expand(10**15)
    ),
    "a weight of another shape": lambda content, attributes: content["model_state_dict"].update(
        {next(iter(content["model_state_dict"])): torch.zeros(3)}
    ),
    "sparse weights": lambda content, attributes: content["model_state_dict"].update(a=torch.eye(3).to_sparse()),
    "attributes in a list": lambda content, attributes: content.update(attributes="[]"),
    "attributes that are no JSON": lambda content, attributes: content.update(attributes="{"),
    "attributes without end": lambda content, attributes: content.update(attributes="[" * 10**5),
    "an unknown kind of value": lambda content, attributes: attributes.update(a_={"!": "code"}),
    "an array that is not there": lambda content, attributes: attributes.update(a_={"!": "array", "tensor": 99}),
    "no arguments": lambda content, attributes: _change(attributes, "init_params_"),
    "no registry": lambda content, attributes: _change(attributes, "registry_"),
    "no class": lambda content, attributes: _change(attributes, "registry_", "model_name"),
    "a class that is a number": lambda content, attributes: _change(attributes, "registry_", "model_name", value=3),
    "no fields": lambda content, attributes: _change(attributes, "registry_", "field_registries"),
    "fields in a list": lambda content, attributes: _change(attributes, "registry_", "field_registries", value=[1]),
    "no genes": lambda content, attributes: _change(attributes, *FIELD, "n_vars"),
    "genes without end": lambda content, attributes: _change(attributes, *FIELD, "n_vars", value=10**12),
    "a width without end": lambda content, attributes: _change(
        attributes, "init_params_", "non_kwargs", "embed_dim", value=2**40
    ),
    "layers without end": lambda content, attributes: _change(
        attributes, "init_params_", "non_kwargs", "set_transformer_depth", value=10**12
    ),
    "an unknown argument": lambda content, attributes: _change(
        attributes, "init_params_", "non_kwargs", "more", value=1
    ),
    "an attribute that is a method": lambda content, attributes: attributes.update(save=1),
    "an attribute with a name of Python": lambda content, attributes: attributes.update(__class__=1),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_gives_one_clear_error(saved, kind):
    content = _content(saved)
    attributes = json.loads(content["attributes"])
    before = dict(content)
    MALFORMED[kind](content, attributes)
    if content.get("attributes") == before["attributes"]:
        content["attributes"] = json.dumps(attributes)
    write_sealed(saved / "model.pt", content)
    with pytest.raises(ValueError, match="does not hold a complete model. Pass the folder that model.save") as caught:
        PETRI.load(saved)
    assert str(saved / "model.pt") in str(caught.value)
    assert not {"trust", "weights_only", "safe_globals"} & set(str(caught.value).split())


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"PK\x03\x04", b"hello world, not a model", b"\x80\x04cposix\nsystem\n", b"\x89HDF\r\n\x1a\n" * 100],
)
def test_a_file_that_is_no_model_gives_one_clear_error(saved, content):
    (saved / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match="does not hold a complete model") as caught:
        PETRI.load(saved)
    assert "trust" not in str(caught.value)


def test_a_damaged_mudata_beside_the_model_is_named(trained_model, tmp_path, refused):
    trained_model.save(tmp_path / "model", save_anndata=True)
    path = tmp_path / "model" / "mdata.h5mu"
    path.write_bytes(path.read_bytes()[:5000])
    with refused(ValueError, str(path), "does not hold a complete MuData", "adata=False"):
        PETRI.load(tmp_path / "model")
    assert PETRI.load(tmp_path / "model", adata=False).is_trained
