"""Crops whose channels come last are recognised by everything that reads crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, baselines, io, pl, tl
from petri_scvi._checks import check_images
from petri_scvi.datasets import synthetic_screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

IMAGES = "single_cell_images"


@pytest.fixture
def screen() -> MuData:
    return synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)


@pytest.fixture(params=["PETRI", "PCAPixels", "store", pytest.param("image_features", marks=pytest.mark.slow), "crops"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[MuData], Any]:
    """One of the functions that read crops."""

    def measure(mdata: MuData) -> None:
        pytest.importorskip("skimage")
        tl.image_features(mdata, max_cells=5)

    uses: dict[str, Callable[[MuData], Any]] = {
        "PETRI": PETRI.setup_mudata,
        "PCAPixels": baselines.PCAPixels.setup_mudata,
        "store": lambda mdata: io.write_training_store(mdata, tmp_path / "s.h5mu", progress=False),
        "image_features": measure,
        "crops": lambda mdata: pl.crops(mdata, n_per_group=1),
    }
    return uses[request.param]


@pytest.mark.parametrize("is_named", [True, False])
def test_channels_that_come_last_are_refused_and_the_advice_moves_them(
    screen: MuData, use: Callable[[MuData], Any], is_named: bool
) -> None:
    obsm = screen["image"].obsm
    obsm[IMAGES] = np.moveaxis(obsm[IMAGES], 1, -1)
    if not is_named:
        del screen["image"].uns["channel_names"]
    images = obsm[IMAGES]
    with pytest.raises(ValueError, match=r"shape \(300, 16, 16, 5\), which seems to be \(n_cells, H, W, C\)") as raised:
        use(screen)
    code = "numpy.moveaxis(images[:], -1, 1)"
    assert code in str(raised.value)
    obsm[IMAGES] = eval(code, {"numpy": np, "images": images})
    assert obsm[IMAGES].shape == (300, 5, 16, 16)
    use(screen)


def test_names_decide_where_sizes_do_not(screen: MuData) -> None:
    image = screen["image"]
    narrow = np.zeros((300, 16, 16, 4), dtype=np.uint8)
    image.uns["channel_names"] = [f"stain{i}" for i in range(16)]
    check_images(narrow, "the crops", image)  # sixteen channels of 16 x 4, as the names say
    image.uns["channel_names"] = image.uns["channel_names"][:4]
    with pytest.raises(ValueError, match="since there are 4 channel names"):
        check_images(narrow, "the crops", image)


@pytest.mark.parametrize(
    "shape", [(3, 64, 64), (1, 64, 64), (3, 40, 64), (3, 64, 40), (50, 32, 32), (4, 8, 6), (8, 8, 8)]
)
def test_channels_that_come_first_are_accepted_without_names(shape: tuple[int, ...]) -> None:
    check_images(np.zeros((2, *shape), dtype=np.uint8), "the crops")


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64, 1), (40, 64, 3), (64, 40, 3), (32, 32, 50), (8, 6, 4)])
def test_channels_that_come_last_are_refused_without_names(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"numpy.moveaxis\(images\[:\], -1, 1\)"):
        check_images(np.zeros((2, *shape), dtype=np.uint8), "the crops")
