"""The tools for concepts run on real cells; no biology is asserted, because the correspondence is assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from petri_scvi import PETRI, datasets, pl, tl

if TYPE_CHECKING:
    from pathlib import Path

CONTEXTS = ["non-targeting", "STAT2", "IRF1", "JAK2", "SMAD4", "IFNGR1", "IFNGR2", "STAT1"]
CELLS_PER_CONTEXT = 60


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.*dimensions are active in no cell")
def test_a_model_of_the_semisynthetic_screen_is_described_from_its_embedding_to_its_reconstructions(
    tmp_path: Path,
) -> None:
    full = datasets.semisynthetic_screen()
    parts, rng = {}, np.random.default_rng(0)
    for name, adata in full.mod.items():
        cells = [np.flatnonzero(adata.obs["perturbation"] == context) for context in CONTEXTS]
        rows = [rng.choice(some, size=CELLS_PER_CONTEXT, replace=False) for some in cells]
        parts[name] = adata[np.sort(np.concatenate(rows))].copy()
    mdata = type(full)(parts, axis=-1)
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, embed_dim=32, n_heads=4, image_encoder_depth=1, expression_encoder_depth=1)
    model.train(max_epochs=3, enable_progress_bar=False)
    mdata.obsm["X_petri"] = model.get_latent_representation()

    sae = tl.fit_sae(mdata, n_dimensions=16, n_active=2, max_epochs=20, progress=False)
    assert mdata.obsm["X_sae"].shape == (2 * len(CONTEXTS) * CELLS_PER_CONTEXT, 16)
    fitted = mdata.uns["petri_scvi"]["sae"]
    assert 0.2 < fitted["explained_variance"] <= 1
    assert sae.decode(mdata.obsm["X_sae"]).shape == mdata.obsm["X_petri"].shape
    tl.multimodal_dimensions(mdata)
    tl.dimension_wells(mdata, obs_key="batch", progress=False)
    tl.dimension_activity(mdata)
    tl.dimension_genes(mdata, progress=False)
    assert len(tl.describe_dimensions(mdata)) == 16
    pl.multimodal_dimensions(mdata)

    tl.targeted_reconstruction(
        model, mdata, channel="FOXO1A-GFP", context="non-targeting", changed_context="STAT2", max_cells=20
    )
    found = mdata.uns["petri_scvi"]["targeted_reconstruction"]
    assert np.isfinite(found["tests"].select_dtypes("number").to_numpy()).all()
    imputed = tl.impute_expression(model, mdata, n_cells=16, min_cells=1)
    assert set(imputed.obs_names) == set(CONTEXTS) - {"non-targeting"}
    tl.image_to_expression_r2(mdata, max_epochs=1, n_folds=2, progress=False)

    mdata.write(tmp_path / "described.h5mu")
