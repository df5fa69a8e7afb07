"""DINOv2 on image crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from petri_scvi._checks import check_sizes, require
from petri_scvi.baselines.published._published_files import check_finite, read_json
from petri_scvi.baselines.published._published_images import PublishedImageModel
from petri_scvi.common import user_path
from petri_scvi.common._channels import find_channel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader

MODEL_TYPES = ("dinov2", "dinov2_with_registers")
FILES = ("config.json", "preprocessor_config.json")
WHERE_TO_GET_IT = (
    "Fetch a model once, for example with 'hf download facebook/dinov2-base --local-dir dinov2-base', and pass that "
    "folder."
)


class DINOv2(PublishedImageModel):
    """Embedding of image crops by a published DINOv2 :cite:p:`Oquab2024`, without fine-tuning.

    DINOv2 reads colour images. Each channel is passed on its own, repeated in all three colours, and the embeddings of
    the channels are concatenated; alternatively, chosen triples of channels are passed as colours. Training only finds
    the range of intensities of each channel, which becomes 0 to 1; then crops are resized and normalised as the
    checkpoint's preprocessor says. Crops are not cut at the border, as photographs are, since cells fill them.

    The model is loaded from a folder by transformers; nothing is downloaded. Fetch it once, for example with
    ``hf download facebook/dinov2-base --local-dir dinov2-base``.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    checkpoint
        Folder with ``config.json``, ``preprocessor_config.json`` and the weights.
    channel_triples
        Names or positions of three registered channels for each image that is passed; if ``None``, every channel on its
        own.
    image_size
        Side of the resized crops in pixels, a multiple of the model's patch; the checkpoint's own, 224 for the
        published models, if ``None``. Smaller is faster.
    accelerator
        Device of torch; ``"auto"`` takes a GPU if there is one.
    seed
        Seed of the cells from which the range of intensities is found.

    Raises
    ------
    FileNotFoundError
        The folder lacks a file.
    ImportError
        transformers is not installed; the extra ``dinov2`` installs it.
    ValueError
        Images were not registered, the checkpoint is of another model or lacks weights, or triples or size do not fit.
    """

    _batch_size = 32

    def __init__(
        self,
        mdata: MuData,
        checkpoint: str | Path,
        *,
        channel_triples: Sequence[Sequence[str | int]] | None = None,
        image_size: int | None = None,
        accelerator: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(mdata, accelerator, seed)
        self._groups = _choose_groups(channel_triples, list(self._state["channels"]))
        network, preprocessor = _read_checkpoint(checkpoint)
        self._network = network.to(self._device)
        self._mean, self._std = (
            torch.tensor(preprocessor[key], device=self._device).reshape(1, 3, 1, 1)
            for key in ("image_mean", "image_std")
        )
        patch_size = self._network.config.patch_size
        self.image_size = _crop_size(preprocessor) if image_size is None else image_size
        check_sizes(image_size=self.image_size)
        if self.image_size % patch_size:
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of the model's patch of {patch_size} pixels; pass, "
                f"for example, {max(1, round(self.image_size / patch_size)) * patch_size}."
            )

    @torch.inference_mode()
    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        width = self._network.config.hidden_size
        embedding = np.empty((len(rows), len(self._groups) * width), dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            resized = self._resized(reader.read(rows[start : start + batch_size]), self.image_size)
            parts = [
                self._network(pixel_values=(resized[:, group] - self._mean) / self._std).last_hidden_state[:, 0]
                for group in self._groups
            ]
            embedding[start : start + batch_size] = torch.cat(parts, dim=1).float().cpu().numpy()
        return embedding


def _choose_groups(triples: Sequence[Sequence[str | int]] | None, channels: list[str]) -> list[list[int]]:
    """Positions of the three channels of every image that is passed."""
    if triples is None:
        return [[position] * 3 for position in range(len(channels))]
    groups = []
    for triple in triples:
        if isinstance(triple, str) or len(triple) != 3:
            raise ValueError(
                f"channel_triples has {triple!r}; every entry names three of the registered channels {channels}, for "
                f"example {(channels * 3)[:3]}."
            )
        groups.append(
            [find_channel(channel, channels, "channel_triples", "the registered channels") for channel in triple]
        )
    if not groups:
        raise ValueError("channel_triples is empty; name at least one triple, or pass None for each channel by itself.")
    return groups


def _read_checkpoint(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """The network, for inference, and the settings of its preprocessor."""
    folder = user_path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{missing} not found in checkpoint={str(folder)!r}. {WHERE_TO_GET_IT}")
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        raise FileNotFoundError(
            f"no weights (model.safetensors or pytorch_model.bin) in checkpoint={str(folder)!r}. {WHERE_TO_GET_IT}"
        )
    kind = read_json(folder / "config.json", WHERE_TO_GET_IT).get("model_type")
    if kind not in MODEL_TYPES:
        expected = " or ".join(map(repr, MODEL_TYPES))
        raise ValueError(f"{folder / 'config.json'} has model_type={kind!r}; expected {expected}. {WHERE_TO_GET_IT}")
    preprocessor = _read_preprocessor(folder / "preprocessor_config.json")
    transformers = require("transformers", "dinov2")
    try:
        network, loaded = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # noqa: BLE001 - transformers raises many kinds
        # Not as the cause, because torch's message suggests running the code in the file.
        raise ValueError(
            f"transformers cannot load the model in checkpoint={str(folder)!r} ({type(error).__name__}): a file is "
            f"damaged, or config.json is not that of the weights. {WHERE_TO_GET_IT}"
        ) from None
    # transformers initialises missing weights at random. The mask token is used in pretraining only.
    lacking = sorted(key for key in loaded["missing_keys"] if not key.endswith("mask_token"))
    if lacking:
        raise ValueError(
            f"the weights in checkpoint={str(folder)!r} lack {len(lacking)} tensors of the model that config.json "
            f"describes, for example {lacking[:3]}. {WHERE_TO_GET_IT}"
        )
    check_finite(network.state_dict(), f"checkpoint={str(folder)!r}", WHERE_TO_GET_IT)
    return network.eval().requires_grad_(False), preprocessor


def _read_preprocessor(path: Path) -> dict[str, Any]:
    """Settings that are used: mean and deviation of the colours, and the size."""
    preprocessor = read_json(path, WHERE_TO_GET_IT)
    absent = [key for key in ("image_mean", "image_std") if key not in preprocessor]
    if absent:
        raise ValueError(f"{path} lacks {absent}. {WHERE_TO_GET_IT}")
    for key, lowest in (("image_mean", -np.inf), ("image_std", 0)):
        values = preprocessor[key]
        is_good = isinstance(values, list) and len(values) == 3 and all(type(v) in (int, float) for v in values)
        if not is_good or not all(np.isfinite(v) and v > lowest for v in values):
            raise ValueError(f"{path} has {key}={values!r}; expected three numbers, one per colour. {WHERE_TO_GET_IT}")
    size = _crop_size(preprocessor)
    if type(size) is not int or size < 1:
        raise ValueError(f"{path} has a crop size of {size!r}; expected a whole number of pixels. {WHERE_TO_GET_IT}")
    return preprocessor


def _crop_size(preprocessor: dict[str, Any]) -> int:
    """Side of the images that the preprocessor makes: older files have a number, newer ones height and width."""
    size = preprocessor.get("crop_size", preprocessor.get("size", 224))
    if isinstance(size, dict):
        size = next((size[key] for key in ("height", "shortest_edge") if key in size), 224)
    return size
