from __future__ import annotations

import pytest
import torch

from petri_scvi.nn import choose_patch_size, patchify, unpatchify


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (32, 32, 8),
        (64, 64, 8),
        (96, 96, 12),
        (128, 128, 16),
        (224, 224, 28),
        (50, 50, 10),
        (30, 30, 6),
        (16, 16, 4),
        (40, 60, 10),
        (4, 4, 2),
        (31, 31, 1),
        (32, 33, 1),
    ],
)
def test_patches_are_near_8_pixels_and_16_to_64_of_a_crop(height: int, width: int, size: int) -> None:
    assert choose_patch_size(height, width) == size


def test_assembled_patches_are_the_image() -> None:
    images = torch.rand(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), (3, 8, 12), 4), images)
