from __future__ import annotations

import pytest
import torch

from petri_scvi.nn import choose_device


def test_devices_have_the_names_of_torch_and_of_lightning() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert choose_device("gpu").type == "cuda"


@pytest.mark.parametrize("accelerator", ["tpux", "cuda:99", "xpu:7", "", None])
def test_a_device_that_is_not_there_is_refused_with_what_is_accepted(accelerator: str) -> None:
    with pytest.raises(ValueError, match=f"accelerator={accelerator!r} is not a device.*Pass 'auto', 'cpu' or"):
        choose_device(accelerator)
