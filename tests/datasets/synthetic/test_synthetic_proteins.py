"""The third modality of the synthetic screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from petri_scvi.datasets import synthetic_screen


def test_proteins_leave_the_other_modalities_as_they_were_and_follow_their_programs() -> None:
    arguments: dict[str, Any] = {"n_cells": 900, "n_pathways": 3, "n_genes": 60, "image_size": 8}
    plain, screen = synthetic_screen(**arguments), synthetic_screen(**arguments, n_proteins=12)
    assert list(plain.mod) == ["image", "rna"]
    assert (plain["rna"].X != screen["rna"].X).nnz == 0
    np.testing.assert_array_equal(plain["image"].obsm["single_cell_images"], screen["image"].obsm["single_cell_images"])
    protein, truth = screen["protein"], screen.uns["synthetic_screen"]
    assert protein.shape == (810, 12)
    assert (protein.X == np.round(protein.X)).all()
    loadings = truth["protein_loadings"]
    assert ((loadings != 0).sum(axis=0) == 3).all()
    pathway = truth["perturbations"].set_index("perturbation")["pathway"]
    level = np.log1p(protein.X)
    level -= level.mean(axis=1, keepdims=True)
    control = level[protein.obs["is_control"].to_numpy()].mean(axis=0)
    for name, loading in loadings.items():
        members = protein.obs["perturbation"].astype(str).map(pathway).eq(name).to_numpy()
        assert np.corrcoef(level[members].mean(axis=0) - control, loading)[0, 1] > 0.8


def test_a_negative_number_of_proteins_is_refused() -> None:
    with pytest.raises(ValueError, match="n_proteins=-1 is not accepted"):
        synthetic_screen(n_cells=300, n_pathways=2, n_proteins=-1)
