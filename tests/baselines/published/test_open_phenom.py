"""OpenPhenom is built by the code in its folder, after it was trusted, and reads images as the published one does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from petri_scvi.baselines import OpenPhenom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

transformers = pytest.importorskip("transformers")

WIDTH = 6
CODE = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class MAEConfig(PretrainedConfig):
    model_type = "MAE"

    def __init__(self, width=6, **kwargs):
        super().__init__(**kwargs)
        self.width = width


class MAEModel(PreTrainedModel):
    config_class = MAEConfig

    def __init__(self, config):
        super().__init__(config)
        self.return_channelwise_embeddings = False
        self.patches = nn.Conv2d(1, config.width, 16, stride=16)
        self.post_init()

    def predict(self, imgs):
        assert imgs.dtype == torch.uint8 and imgs.shape[2:] == (256, 256)
        n_cells, n_channels = imgs.shape[:2]
        tokens = self.patches(imgs.flatten(0, 1).unsqueeze(1) / 255).flatten(2).tanh().mean(2)
        of_channels = tokens.reshape(n_cells, n_channels, -1)
        return of_channels.flatten(1) if self.return_channelwise_embeddings else of_channels.mean(1)
"""


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny network with the interface of the published one, defined by a file beside its weights."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "openphenom"
    folder.mkdir()
    (folder / "tiny_mae.py").write_text(CODE)
    auto_map = {"AutoConfig": "tiny_mae.MAEConfig", "AutoModel": "tiny_mae.MAEModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "MAE", "auto_map": auto_map, "width": WIDTH}))
    generator = torch.Generator().manual_seed(0)
    weights = {"patches.weight": torch.randn(WIDTH, 1, 16, 16, generator=generator), "patches.bias": torch.zeros(WIDTH)}
    pytest.importorskip("safetensors.torch").save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def embedding_of(screen: MuData, checkpoint: Path, **arguments: Any) -> np.ndarray:
    OpenPhenom.setup_mudata(screen)
    model = OpenPhenom(screen, checkpoint, accelerator="cpu", trust_remote_code=True, **arguments)
    model.train()
    return model.get_latent_representation(indices=range(5))


def test_crops_are_brought_to_8_bits_and_256_pixels(screen: MuData, checkpoint: Path) -> None:
    images = screen["image"].obsm["single_cell_images"].astype(np.float32)
    low, high = (np.quantile(images, q, axis=(0, 2, 3))[:, None, None] for q in (0.001, 0.999))
    unit = torch.tensor(np.clip((images[:5] - low) / (high - low), 0, 1), dtype=torch.float32)
    large = interpolate(unit, (256, 256), mode="bicubic", antialias=True).clamp(0, 1)
    network = transformers.AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    network.return_channelwise_embeddings = True
    with torch.inference_mode():
        expected = network.predict((255 * large).round().to(torch.uint8)).numpy()
    found = embedding_of(screen, checkpoint, channelwise=True)
    assert found.shape == (5, images.shape[1] * WIDTH)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    averaged = embedding_of(screen, checkpoint)
    np.testing.assert_allclose(averaged, expected.reshape(5, -1, WIDTH).mean(axis=1), atol=1e-4)


def test_code_in_the_folder_runs_only_if_it_is_trusted(screen: MuData, checkpoint: Path) -> None:
    mark = checkpoint.parent / "ran"
    (checkpoint / "tiny_mae.py").write_text(f"import pathlib\n\npathlib.Path({str(mark)!r}).touch()\n{CODE}")
    OpenPhenom.setup_mudata(screen)
    with pytest.raises(ValueError, match=r"tiny_mae\.py\), which run when it is loaded.*trust_remote_code=True"):
        OpenPhenom(screen, checkpoint)
    assert not mark.exists()
    OpenPhenom(screen, checkpoint, trust_remote_code=True)
    assert mark.exists()


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def as_dinov2(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "dinov2"}')


def without_predict(folder: Path) -> None:
    (folder / "tiny_mae.py").write_text(CODE.replace("def predict", "def guess"))


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (remove("config.json"), FileNotFoundError, "'config.json' not found"),
        (remove("model.safetensors"), FileNotFoundError, "lacks Python files or weights"),
        (remove("tiny_mae.py"), FileNotFoundError, "lacks Python files or weights"),
        (as_dinov2, ValueError, "model_type='dinov2'; expected 'MAE'"),
        (without_predict, ValueError, "no method 'predict'"),
        (cut, ValueError, "cannot be loaded"),
    ],
)
def test_what_is_no_openphenom_is_refused_with_where_to_get_it(
    screen: MuData, checkpoint: Path, spoil: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    spoil(checkpoint)
    OpenPhenom.setup_mudata(screen)
    with pytest.raises(error, match=rf"(?s){words}.*hf download recursionpharma/OpenPhenom"):
        OpenPhenom(screen, checkpoint, trust_remote_code=True)


def test_too_many_channels_are_refused(screen: MuData, checkpoint: Path) -> None:
    image = screen["image"]
    image.obsm["single_cell_images"] = np.tile(image.obsm["single_cell_images"], (1, 3, 1, 1))[:, :12]
    image.uns["channel_names"] = [f"c{i}" for i in range(12)]
    OpenPhenom.setup_mudata(screen)
    with pytest.raises(ValueError, match="12 channels are registered, and OpenPhenom reads at most 11"):
        OpenPhenom(screen, checkpoint, trust_remote_code=True)
    OpenPhenom.setup_mudata(screen, image_channels=["c0", "c1"])
    OpenPhenom(screen, checkpoint, trust_remote_code=True)
