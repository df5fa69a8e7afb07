from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from petri_scvi import PETRI
from petri_scvi.datasets import hepg2_screen

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = {"target_gene": "gene", "guide": "sgRNA", "batch": "plate"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(24)]  # the same in both files: they are different cells
    gene = np.resize(["NTC", "code_1", "code_2"], 24)
    obs = pd.DataFrame({"gene": gene, "sgRNA": np.char.add(gene, "_1"), "plate": 7, "depth": 1.0}, index=names)
    images = rng.integers(0, 255, (24, 2, 16, 16), dtype=np.uint8)
    AnnData(obs=obs, obsm={"single_cell_images": images}).write_h5ad(tmp_path / "image.h5ad")
    counts = sparse.csr_matrix(rng.poisson(3.0, (24, 8)).astype(np.float32))
    AnnData(counts, obs=obs).write_h5ad(tmp_path / "rna.h5ad")
    return tmp_path / "image.h5ad", tmp_path / "rna.h5ad"


def test_without_files_it_says_that_the_screen_is_not_public() -> None:
    with pytest.raises(FileNotFoundError, match=r"announced \(https://openreview.net.*not public"):
        hepg2_screen()


def test_local_files_become_a_screen_that_stays_on_disk(files: tuple[Path, Path], tiny: dict) -> None:
    mdata = hepg2_screen(*files, columns=COLUMNS, control="NTC")
    assert mdata.n_obs == 48
    for name, modality in mdata.mod.items():
        assert set(modality.obs["perturbation"]) == {"non-targeting", "code_1", "code_2"}
        assert modality.obs["is_control"].sum() == 8
        assert set(modality.obs["replicate"]) == {"7"}
        assert "depth" in modality.obs
        assert modality.obs_names[0] == f"{name}:cell0"
    assert isinstance(mdata["image"].obsm["single_cell_images"], h5py.Dataset)
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=1, max_steps=1, n_cells_per_context=2, n_contexts_per_minibatch=2)


def test_a_missing_column_is_named_with_the_call_that_helps(files: tuple[Path, Path]) -> None:
    with pytest.raises(KeyError, match=r"no column 'batch'.*'plate'.*columns=\{'batch': ...\}"):
        hepg2_screen(*files, columns={"target_gene": "gene", "guide": "sgRNA"})
    with pytest.raises(ValueError, match=r"columns has \['genes'\]"):
        hepg2_screen(*files, columns={"genes": "gene"})


def test_files_in_the_wrong_order_are_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(KeyError, match="has no crops"):
        hepg2_screen(*reversed(files), columns=COLUMNS)
