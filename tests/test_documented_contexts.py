"""The examples of the page on contexts, on tiny screens and tissues."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, datasets
from petri_scvi._groups import recorded_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

PAGE = Path(__file__).parents[1] / "docs" / "contexts.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
TITLES = ("groups", "backgrounds", "tissue", "cell types", "donors")


@pytest.fixture
def run(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run an example with tiny networks, an epoch of training and tiny data; returns what it defines."""

    class Small(PETRI):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**tiny, **kwargs})

        def train(self, **kwargs: Any) -> None:  # type: ignore[override]
            super().train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, **kwargs)

    simulate = datasets.synthetic_screen

    def screen(**kwargs: Any) -> MuData:
        return simulate(n_cells=400, n_pathways=4, n_control_guides=4, n_genes=40, image_size=16, **kwargs)

    def tissue() -> MuData:
        mdata = screen()
        for modality in mdata.mod.values():
            sections = np.array(["MOB1", "MOB2"])[np.arange(modality.n_obs) % 2]
            modality.obs = modality.obs[["perturbation"]].set_axis(["block"], axis=1).assign(section=sections)
        return mdata

    monkeypatch.setattr("petri_scvi.PETRI", Small)
    monkeypatch.setattr(datasets, "synthetic_screen", screen)
    monkeypatch.setattr(datasets, "olfactory_bulb", tissue)

    def run(title: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "documented"}
        exec(BLOCKS[TITLES.index(title)], names)
        return names

    return run


def test_every_example_of_the_page_is_run() -> None:
    assert len(BLOCKS) == len(TITLES)


@pytest.mark.filterwarnings("ignore:.*guide consistency is left out:UserWarning")
def test_groups_are_trained_on_and_left_out_of_the_scores(run: Callable[..., Any]) -> None:
    names = run("groups")
    assert recorded_groups(names["mdata"]) == names["known"]
    scores, edges = names["scores"], names["edges"]
    assert scores.loc[scores["metric"] == "edge_auc", "n"].max() < len(edges)


def test_documents_of_a_perturbation_over_all_backgrounds(run: Callable[..., Any]) -> None:
    manager = run("backgrounds")["model"].adata_manager
    assert manager.registry["setup_args"]["context_groups"] == ["perturbation"]


@pytest.mark.filterwarnings("ignore:.*were measured in one modality only:UserWarning")
def test_a_tissue_cell_types_and_donors_need_neither_controls_nor_perturbations(run: Callable[..., Any]) -> None:
    for title in ("tissue", "cell types", "donors"):
        names = run(title)
        for modality in names["mdata"].mod.values():
            assert not {"perturbation", "target_gene", "guide"} & set(modality.obs)
        assert np.isfinite(names["mdata"].obsm["X_petri"]).all()
    assert names["donors"].n_obs == names["mdata"]["rna"].obs["donor"].nunique()
