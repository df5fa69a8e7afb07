"""OpenPhenom on image crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from petri_scvi._checks import check_flags, require
from petri_scvi.baselines.published._published_files import check_finite, read_json
from petri_scvi.baselines.published._published_images import PublishedImageModel
from petri_scvi.common import user_path

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from petri_scvi.dataloaders import RowReader

MODEL_TYPE = "MAE"
SIDE = 256
"""Height and width of the images that the network reads, in pixels."""
MAX_CHANNELS = 11
WHERE_TO_GET_IT = (
    "Fetch it once with 'hf download recursionpharma/OpenPhenom --local-dir openphenom', and pass that folder."
)


class OpenPhenom(PublishedImageModel):
    """Embedding of image crops by the published OpenPhenom, without fine-tuning :cite:p:`Kraus2024`.

    OpenPhenom is a masked autoencoder of Cell Painting images that reads any number of channels, up to 11. Training
    only finds the range of intensities of each channel, which becomes 0 to 255; then crops are resized to 256 x 256
    pixels. The network standardises every channel of every image itself, so that differences of brightness between
    cells are lost.

    The model is loaded from a folder by transformers; nothing is downloaded. Fetch it once with
    ``hf download recursionpharma/OpenPhenom --local-dir openphenom``. It has a licence of its own.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    checkpoint
        Folder with ``config.json``, the weights, and the Python files that define the network.
    trust_remote_code
        Whether to run these Python files. transformers has no code of its own for this network, so that nothing is
        loaded without it. Read the files first, or compare them with the published ones.
    channelwise
        Whether to average the tokens of each channel separately, which gives C * 384 dimensions instead of 384.
    accelerator
        Device of torch; ``"auto"`` takes a GPU if there is one.
    seed
        Seed of the cells from which the range of intensities is found.

    Raises
    ------
    FileNotFoundError
        The folder lacks a file.
    ImportError
        transformers, or a package that the Python files need, is not installed; the extra ``dinov2`` installs
        transformers.
    ValueError
        Images were not registered or have more than 11 channels, the checkpoint is of another model, or
        ``trust_remote_code`` is ``False``.
    """

    _batch_size = 16

    def __init__(
        self,
        mdata: MuData,
        checkpoint: str | Path,
        *,
        trust_remote_code: bool = False,
        channelwise: bool = False,
        accelerator: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(mdata, accelerator, seed)
        check_flags(trust_remote_code=trust_remote_code, channelwise=channelwise)
        n_channels = len(self._state["channels"])
        if n_channels > MAX_CHANNELS:
            raise ValueError(
                f"{n_channels} channels are registered, and OpenPhenom reads at most {MAX_CHANNELS}. Choose some with "
                "OpenPhenom.setup_mudata(mdata, image_channels=[...])."
            )
        self._network = _read_network(user_path(checkpoint), is_trusted=trust_remote_code).to(self._device)
        self._network.return_channelwise_embeddings = channelwise

    @torch.inference_mode()
    def _embed(
        self, manager: AnnDataManager, reader: RowReader, rows: NDArray[np.integer], batch_size: int
    ) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(rows), batch_size):
            resized = self._resized(reader.read(rows[start : start + batch_size]), SIDE)
            parts.append(self._network.predict((255 * resized).round().to(torch.uint8)).float().cpu().numpy())
        return np.concatenate(parts).astype(np.float32)


def _read_network(folder: Path, *, is_trusted: bool) -> Any:
    """The network, for inference."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"'config.json' not found in checkpoint={str(folder)!r}. {WHERE_TO_GET_IT}")
    kind = read_json(folder / "config.json", WHERE_TO_GET_IT).get("model_type")
    if kind != MODEL_TYPE:
        raise ValueError(
            f"{folder / 'config.json'} has model_type={kind!r}; expected {MODEL_TYPE!r}. {WHERE_TO_GET_IT}"
        )
    code = sorted(path.name for path in folder.rglob("*.py"))
    if not code or not [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        raise FileNotFoundError(
            f"checkpoint={str(folder)!r} lacks Python files or weights (model.safetensors). {WHERE_TO_GET_IT}"
        )
    if not is_trusted:
        raise ValueError(
            f"OpenPhenom is defined by Python files in checkpoint={str(folder)!r} ({', '.join(code[:5])}), which run "
            "when it is loaded. Read them, and pass trust_remote_code=True if you trust them."
        )
    transformers = require("transformers", "dinov2")
    try:
        network = transformers.AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=True)
    except ImportError:  # a package that the Python files need; the message names it
        raise
    except Exception as error:
        raise ValueError(
            f"the network in checkpoint={str(folder)!r} cannot be loaded ({type(error).__name__}: {error}): a file is "
            f"damaged, or does not belong to the others. {WHERE_TO_GET_IT}"
        ) from error
    if not callable(getattr(network, "predict", None)):
        raise ValueError(
            f"the network in checkpoint={str(folder)!r} has no method 'predict', as OpenPhenom has. {WHERE_TO_GET_IT}"
        )
    check_finite(network.state_dict(), f"checkpoint={str(folder)!r}", WHERE_TO_GET_IT)
    return network.eval().requires_grad_(False)
