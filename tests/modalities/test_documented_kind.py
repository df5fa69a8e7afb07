"""The kind that the documentation builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petri_scvi import PETRI
from petri_scvi.modalities import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from mudata import MuData

PAGE = Path(__file__).parents[2] / "docs" / "modalities.md"


def test_the_kind_of_the_page_has_at_most_60_lines_and_trains(
    make_screen: Callable[..., MuData], tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (code,) = (block for block in blocks if "@register_kind" in block)
    assert len(code.strip().splitlines()) <= 60
    monkeypatch.delitem(KINDS, "antibodies", raising=False)
    exec(code, {"__name__": "documented"})
    mdata = make_screen(n_proteins=8)
    PETRI.setup_mudata(mdata, modalities={"rna": "counts", "protein": "antibodies"})
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=20, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 1e-2})
    losses = model.history["train_loss_protein"].to_numpy(dtype=float).ravel()
    assert losses[-1] < 0.9 * losses[0]
    assert model.get_latent_representation(modality="protein").shape == (mdata["protein"].n_obs, tiny["embed_dim"])
    monkeypatch.delitem(KINDS, "antibodies")
