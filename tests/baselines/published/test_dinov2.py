"""DINOv2 is loaded from a folder, and channels are preprocessed as by transformers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from petri_scvi.baselines import DINOv2
from petri_scvi.baselines.published._dinov2 import _crop_size
from petri_scvi.dataloaders import open_rows
from petri_scvi.imaging import channel_range, to_unit_range

transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

KEY = "single_cell_images"
WIDTH = 8
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A tiny DINOv2 as transformers saves it, with the preprocessor of the published ones."""
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    network = transformers.Dinov2Model(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    settings = {"image_mean": MEAN, "image_std": STD, "crop_size": {"height": 28, "width": 28}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def fit(mdata, checkpoint, setup=None, **arguments):
    DINOv2.setup_mudata(mdata, **(setup or {}))
    model = DINOv2(mdata, checkpoint, accelerator="cpu", **arguments)
    model.train()
    return model


def called_directly(screen, checkpoint, triples, size=28):
    """Embedding by transformers, cell by cell."""
    network = transformers.AutoModel.from_pretrained(checkpoint, local_files_only=True).eval()
    images = screen["image"].obsm[KEY].astype(np.float32)
    low, high = np.quantile(images, [0.001, 0.999], axis=(0, 2, 3))
    embedding = []
    for cell in images[:12]:
        unit = np.clip((cell - low[:, None, None]) / (high - low)[:, None, None], 0, 1)
        large = interpolate(torch.tensor(unit)[None].float(), (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        parts = []
        for triple in triples:
            colours = torch.stack([(large[0, c] - MEAN[i]) / STD[i] for i, c in enumerate(triple)])
            with torch.inference_mode():
                parts.append(network(colours[None]).last_hidden_state[0, 0])
        embedding.append(torch.cat(parts))
    return torch.stack(embedding).numpy()


def test_each_channel_is_shown_in_all_colours_and_channels_are_put_side_by_side(screen, checkpoint):
    n_channels = screen["image"].obsm[KEY].shape[1]
    found = fit(screen, checkpoint).get_latent_representation(indices=range(12))
    assert found.shape == (12, n_channels * WIDTH)
    expected = called_directly(screen, checkpoint, [[c] * 3 for c in range(n_channels)])
    assert expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_triples_are_shown_as_colours_by_name_or_position(screen, checkpoint):
    names = [str(name) for name in screen["image"].uns["channel_names"]]
    model = fit(screen, checkpoint, channel_triples=[[1, 0, 1], [names[0], names[0], 1]])
    expected = called_directly(screen, checkpoint, [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(model.get_latent_representation(indices=range(12)), expected, atol=1e-4)


def test_another_size_is_resized_to(screen, checkpoint):
    found = fit(screen, checkpoint, channel_triples=[[0, 0, 0]], image_size=42)
    expected = called_directly(screen, checkpoint, [[0, 0, 0]], size=42)
    np.testing.assert_allclose(found.get_latent_representation(indices=range(12)), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.* is stored in chunks:UserWarning")
def test_order_batches_and_images_on_disk_do_not_change_the_embedding(make_screen, on_disk, checkpoint):
    every = fit(make_screen(), checkpoint).get_latent_representation()
    model = fit(on_disk, checkpoint)
    np.testing.assert_allclose(model.get_latent_representation(batch_size=50), every, atol=1e-4)
    np.testing.assert_allclose(model.get_latent_representation(indices=[6, 2, 2]), every[[6, 2, 2]], atol=1e-4)


def test_the_users_data_is_not_changed(screen, checkpoint, unchanged):
    DINOv2.setup_mudata(screen)
    with unchanged(screen):
        model = DINOv2(screen, checkpoint, accelerator="cpu")
        model.train()
        model.get_latent_representation(indices=[0, 1])


def test_an_untrained_model_says_what_to_call(screen, checkpoint):
    DINOv2.setup_mudata(screen)
    with pytest.raises(ValueError, match="this DINOv2 is not trained"):
        DINOv2(screen, checkpoint, accelerator="cpu").get_latent_representation()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named_with_where_to_get_it(screen, checkpoint, tmp_path, name):
    DINOv2.setup_mudata(screen)
    for file in checkpoint.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(
        FileNotFoundError, match=rf"{name}.* in checkpoint=.*hf download|{name}.*not found.*hf download"
    ):
        DINOv2(screen, tmp_path)


def test_another_kind_of_model_is_refused(screen, checkpoint, tmp_path):
    DINOv2.setup_mudata(screen)
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="model_type='vit'; expected 'dinov2'"):
        DINOv2(screen, tmp_path)


@pytest.mark.parametrize(
    ("removed", "is_refused"), [("encoder.layer.1.mlp.fc1.weight", True), ("embeddings.mask_token", False)]
)
def test_weights_that_are_missing_are_named_unless_only_pretraining_needs_them(
    screen, checkpoint, tmp_path, removed, is_refused
):
    DINOv2.setup_mudata(screen)
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    del weights[removed]
    safetensors.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    if is_refused:
        with pytest.raises(ValueError, match=rf"lack 1 tensors.*\['{removed}'\].*hf download"):
            DINOv2(screen, tmp_path, accelerator="cpu")
    else:
        found = fit(screen, tmp_path).get_latent_representation(indices=range(4))
        expected = fit(screen, checkpoint).get_latent_representation(indices=range(4))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"image_size": 30},
            "image_size=30 is not a multiple of the model's patch of 14 pixels; pass, for example, 28",
        ),
        ({"image_size": 0}, "image_size=0; it must be at least 1"),
        ({"seed": -1}, "seed=-1; it must be a whole number of at least 0"),
        ({"channel_triples": [[0, 1]]}, r"channel_triples has \[0, 1\]; every entry names three"),
        ({"channel_triples": []}, "channel_triples is empty"),
        ({"channel_triples": [[0, 1, 9]]}, "channel 9 is not in the registered channels"),
        ({"channel_triples": [["nowhere", 0, 0]]}, "channel 'nowhere' is not in the registered channels"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(screen, checkpoint, arguments, message):
    DINOv2.setup_mudata(screen)
    with pytest.raises(ValueError, match=message):
        DINOv2(screen, checkpoint, **arguments)


def test_without_transformers_the_extra_is_named(screen, checkpoint, monkeypatch):
    DINOv2.setup_mudata(screen)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "petri-scvi\[dinov2\]"'):
        DINOv2(screen, checkpoint)


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}, 224),
        ({"size": {"shortest_edge": 518}}, 518),
        ({"size": 98}, 98),
        ({}, 224),
    ],
)
def test_the_size_is_that_of_the_preprocessor_in_each_of_its_spellings(settings, side):
    assert _crop_size(settings) == side


def test_intensities_of_a_channel_become_0_to_1_and_a_constant_one_0():
    images = np.zeros((4, 2, 5, 5), dtype=np.uint16)
    images[:, 0] = np.arange(100).reshape(4, 5, 5) * 300
    images[:, 1] = 7
    low, high = channel_range(open_rows(images), (0.0, 1.0), seed=0)
    assert low.tolist() == [0, 7]
    assert high.tolist() == [29700, 7]
    unit = to_unit_range(images, low, high)
    np.testing.assert_allclose(unit[:, 0], np.arange(100).reshape(4, 5, 5) / 99, rtol=1e-5)
    assert (unit[:, 1] == 0).all()


@pytest.fixture
def copied(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", ["dinov2_evil", "dinov2x", None, 3])
def test_only_exact_kinds_of_model_are_accepted(screen, copied, kind):
    DINOv2.setup_mudata(screen)
    change(copied / "config.json", model_type=kind)
    with pytest.raises(ValueError, match="expected 'dinov2' or 'dinov2_with_registers'"):
        DINOv2(screen, copied)


def test_code_in_the_folder_does_not_run(screen, copied):
    DINOv2.setup_mudata(screen)
    ran = copied / "ran"
    (copied / "modeling_evil.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Evil: pass\n")
    change(copied / "config.json", auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"})
    DINOv2(screen, copied, accelerator="cpu")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "is not a JSON file, or was cut short"),
        ("config.json", b"[]", "holds a list instead of an object"),
        ("preprocessor_config.json", b"\xff", "is not a JSON file, or was cut short"),
        ("model.safetensors", b"", "cannot load the model"),
        ("model.safetensors", b"hello world", "cannot load the model"),
    ],
)
def test_a_damaged_file_gives_one_clear_error(screen, copied, name, content, message):
    DINOv2.setup_mudata(screen)
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{message}.*hf download"):
        DINOv2(screen, copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_mean": [0.5]}, "image_mean=.*expected three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std=.*expected three numbers"),
        ({"image_std": "0.5"}, "image_std='0.5'; expected three numbers"),
        ({"crop_size": {"height": "28"}}, "crop size of '28'"),
        ({"crop_size": 0}, "crop size of 0"),
    ],
)
def test_a_preprocessor_that_cannot_be_used_is_refused(screen, copied, changes, message):
    DINOv2.setup_mudata(screen)
    change(copied / "preprocessor_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        DINOv2(screen, copied)


@pytest.mark.parametrize("changes", [{"hidden_size": "wide"}, {"hidden_size": 9}, {"patch_size": 0}])
def test_a_configuration_that_is_not_that_of_the_weights_is_refused(screen, copied, changes):
    DINOv2.setup_mudata(screen)
    change(copied / "config.json", **changes)
    with pytest.raises(ValueError, match="cannot load the model"):
        DINOv2(screen, copied)


def test_weights_that_are_not_finite_are_refused(screen, copied):
    DINOv2.setup_mudata(screen)
    weights = safetensors.load_file(copied / "model.safetensors")
    next(iter(weights.values()))[0] = torch.inf
    safetensors.save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="NaN or infinite"):
        DINOv2(screen, copied)
