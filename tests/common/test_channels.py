from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from petri_scvi import PETRI, io, pl, pp, tl
from petri_scvi.common._channels import channel_names, find_channels
from petri_scvi.datasets import synthetic_screen


def test_a_channel_named_as_scportrait_does_is_found_by_every_reader(tmp_path: Any) -> None:
    mdata = synthetic_screen(n_cells=300, n_pathways=2, n_genes=60, image_size=16)
    image = mdata["image"]
    names = [str(name) for name in image.uns.pop("channel_names")]
    var = pd.DataFrame({"channels": ["er", *names[1:]]}, index=[f"c{i}" for i in range(5)])
    portrait = AnnData(obs=image.obs, var=var, obsm={"single_cell_images": image.obsm["single_cell_images"]})
    mdata = pp.build_mudata(image=portrait, rna=mdata["rna"])
    PETRI.setup_mudata(mdata, image_channels=["er"])
    assert PETRI(mdata, embed_dim=16, n_heads=2).get_var_names()["image"] == ["er"]
    pl.crops(mdata, channels=["er"])
    tl.image_features(mdata, channels=["er"], max_cells=5, n_jobs=1, progress=False)
    assert "intensity_mean__er" in mdata["image"].obsm["image_features"]
    io.write_training_store(mdata, tmp_path / "store.h5mu", image_channels=["er"], progress=False)
    stored = io.open_screen(tmp_path / "store.h5mu")
    assert list(stored["image"].uns["channel_names"]) == ["er"]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "b"]])
def test_names_that_do_not_fit_the_crops_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="Give one unique name per channel"):
        channel_names(AnnData(np.zeros((1, 1)), uns={"channel_names": names}), 3, "mdata['image']")


def test_channels_are_found_by_name_or_position_and_each_once() -> None:
    assert find_channels(["b", 0], ["a", "b"], "channels", "x") == [1, 0]
    assert find_channels(["1"], ["a", "1"], "channels", "x") == [1]
    refused: dict[str, Any] = {"'c' is not in x": ["c"], "twice": ["a", 0], "one string": "a", "is empty": []}
    for message, wrong in refused.items():
        with pytest.raises(ValueError, match=message):
            find_channels(wrong, ["a", "b"], "channels", "x")
    for position in (-1, 2, True, 0.0):
        with pytest.raises(ValueError, match="is not in x"):
            find_channels([position], ["a", "b"], "channels", "x")  # type: ignore[list-item]
