"""``torch.compile`` is an option that changes the speed only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from anndata import AnnData

from petri_scvi import pp

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


@pytest.mark.slow
def test_every_kind_is_compiled(fit: Callable[..., PETRI], make_screen: Callable[..., MuData]) -> None:
    """Tables with gaps take another path through the encoder."""
    mdata = make_screen(n_proteins=8)
    table = mdata["image"].obsm["true_morphology"]
    table = table.where(np.random.default_rng(0).random(table.shape) > 0.1)
    binary = AnnData((mdata["rna"].X.toarray() > 1).astype(np.float32), obs=mdata["rna"].obs, var=mdata["rna"].var)
    profile = AnnData(table, obs=mdata["image"].obs)
    mdata = pp.build_mudata(protein=mdata["protein"], peak=mdata["rna"], flag=binary, profile=profile)
    kinds = {"protein": "counts", "peak": "peaks", "flag": "binary", "profile": "features"}
    losses: dict[bool, Any] = {}
    for is_compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        plan = {"compile": is_compiled, "compile_kwargs": {"backend": "eager"}}
        model = fit(mdata, {"modalities": kinds}, plan_kwargs=plan, max_epochs=2)
        losses[is_compiled] = np.stack([model.history[f"train_loss_{name}"].to_numpy(dtype=float) for name in kinds])
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-3)


@pytest.mark.slow
def test_networks_are_compiled_while_training(fit: Callable[..., PETRI], screen: MuData) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    fit(screen, plan_kwargs={"compile": True, "compile_kwargs": {"backend": counter}})
    assert counter.frame_count > 0
