"""Names with the brackets of rich's markup do not disturb progress bars and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
import rich
from mudata import MuData

from petri_scvi import PETRI, tl
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    import numpy as np

NAME = "rna[/]"


@pytest.mark.filterwarnings("ignore:5 of 7 genes are not in the edge table")
def test_progress_bars_and_tables_show_names_as_they_are(
    screen: MuData, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    with columns_stay_in_modalities():
        data = MuData({"image": screen["image"], NAME: screen["rna"]})
    for adata in data.mod.values():
        adata.obsm["X[/red]"] = rng.normal(size=(adata.n_obs, 5))
    edges = pd.DataFrame({"a": ["TARGET02"], "b": ["TARGET03"]})
    tl.perturbation_strength(data[NAME], "X[/red]", n_permutations=19, progress=True)
    tl.score_screen(data[NAME], ["X[/red]"], edges=edges, n_bootstrap=2, progress=True)
    PETRI.setup_mudata(data, modalities={"rna_layer": NAME})
    manager = PETRI(data, embed_dim=16, n_heads=2).adata_manager
    for field in manager.fields:
        rich.print(field.view_state_registry(manager.get_state_registry(field.registry_key)))
    found = capsys.readouterr().out
    assert "X[/red]" in found
    assert f"context_{NAME}" in found
