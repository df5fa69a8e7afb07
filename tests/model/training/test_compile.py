"""``torch.compile`` is an option that changes the speed only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from petri_scvi import PETRI


# Warnings of the compiler about itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("eager", marks=pytest.mark.slow),
        pytest.param("aot_eager", marks=pytest.mark.long),
        pytest.param("inductor", marks=pytest.mark.long),  # minutes of a C++ compiler
    ],
)
def test_compiled_training_follows_the_same_losses(fit: Callable[..., PETRI], screen: MuData, backend: str) -> None:
    torch._dynamo.reset()
    losses: dict[bool, Any] = {}
    for is_compiled in (False, True):
        torch.manual_seed(0)
        model = fit(screen, plan_kwargs={"compile": is_compiled, "compile_kwargs": {"backend": backend}}, max_epochs=2)
        losses[is_compiled] = model.history["train_loss"].to_numpy(dtype=float)
        assert all(network._compiled_call_impl is None for network in model.module.networks())
        assert not any("_orig_mod" in name for name in model.module.state_dict())
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-3)


def test_networks_are_compiled_while_training(fit: Callable[..., PETRI], screen: MuData) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    fit(screen, plan_kwargs={"compile": True, "compile_kwargs": {"backend": counter}})
    assert counter.frame_count > 0
