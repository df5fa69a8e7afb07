from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from petri_scvi import pl, tl


@pytest.fixture
def mdata() -> MuData:
    """Activations of two models in two modalities."""
    mods = {name: AnnData(obs=pd.DataFrame(index=[f"{name}{i}" for i in range(100)])) for name in ("rna", "image")}
    data = MuData(mods)
    rng = np.random.default_rng(0)
    for key, n_dimensions in (("X_sae", 8), ("X_other", 5)):
        share = np.repeat(rng.random((2, n_dimensions)) ** 2, 100, axis=0)
        data.obsm[key] = sparse.csr_matrix((rng.random(share.shape) < share).astype(np.float32))
    tl.multimodal_dimensions(data, {"PETRI": "X_sae", "CLIP": "X_other"})
    return data


@pytest.mark.parametrize("model", ["PETRI", "CLIP"])
def test_points_are_the_activities_images_across_and_rna_up(mdata, model, reread):
    for data in (mdata, reread(mdata)):
        table = data.uns["petri_scvi"]["multimodal_dimensions"]["table"]
        table = table[table["model"] == model]
        ax = pl.multimodal_dimensions(data, model=model)
        other, multimodal = (points.get_offsets() for points in ax.collections)
        expected = table[["activity_image", "activity_rna"]].to_numpy()
        np.testing.assert_allclose(multimodal, expected[table["is_multimodal"]])
        np.testing.assert_allclose(other, expected[~table["is_multimodal"]])
        assert ax.get_title() == model
        assert "image" in ax.get_xlabel()
        assert ax.patches[0].get_bbox().extents == pytest.approx([0.1, 0.1, 0.9, 0.9])
        assert f"{len(multimodal)} multimodal" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_caller_chooses_axes_and_modalities(mdata):
    ax = pl.multimodal_dimensions(mdata)
    assert pl.multimodal_dimensions(mdata, modalities=["rna", "image"], ax=ax) is ax
    assert "rna" in ax.get_xlabel()
    with pytest.raises(ValueError, match=r"model='x' was not compared; pass one of \['PETRI', 'CLIP'\]"):
        pl.multimodal_dimensions(mdata, model="x")
    with pytest.raises(ValueError, match=r"modalities=\['image'\] are not accepted; pass two of"):
        pl.multimodal_dimensions(mdata, modalities=["image"])
    del mdata.uns["petri_scvi"]
    with pytest.raises(KeyError, match=r"Call petri_scvi.tl.multimodal_dimensions\(data\) first"):
        pl.multimodal_dimensions(mdata)
