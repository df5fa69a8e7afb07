"""A MuData whose modalities changed since its last update is refused by every method of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from petri_scvi import PETRI, baselines, tl
from petri_scvi._compat import columns_stay_in_modalities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

IMPUTE: dict[str, Any] = {"control": "non-targeting", "min_cells": 1, "n_cells": 64}


@pytest.fixture(scope="module")
def model(make_screen: Callable[..., MuData], tiny: dict[str, Any]) -> PETRI:
    mdata = make_screen()
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **tiny)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    return model


CALLS: dict[str, Callable[[PETRI, MuData, Path], Any]] = {
    "setup_mudata": lambda model, m, folder: PETRI.setup_mudata(m),
    "train": lambda model, m, folder: model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False),
    "get_latent_representation": lambda model, m, folder: model.get_latent_representation(),
    "get_latent_representation of a modality": lambda model, m, folder: model.get_latent_representation(modality="rna"),
    "get_latent_representation in documents": lambda model, m, folder: model.get_latent_representation(
        modality="image", position="set_transformer"
    ),
    "write_latent_representation": lambda model, m, folder: model.write_latent_representation(folder / "e.h5mu"),
    "write_latent_representation of a modality": lambda model, m, folder: model.write_latent_representation(
        folder / "e.h5ad", modality="rna"
    ),
    "get_measurement": lambda model, m, folder: model.get_measurement(modality="rna"),
    "get_contexts": lambda model, m, folder: model.get_contexts(modality="rna"),
    "get_held_out_rows": lambda model, m, folder: model.get_held_out_rows(modality="rna"),
    "get_reconstruction": lambda model, m, folder: model.get_reconstruction(modality="rna"),
    "get_reconstruction_error": lambda model, m, folder: model.get_reconstruction_error(),
    "cross_modal_gain": lambda model, m, folder: model.cross_modal_gain(),
    "impute_expression": lambda model, m, folder: tl.impute_expression(model, **IMPUTE),
    "targeted_reconstruction": lambda model, m, folder: tl.targeted_reconstruction(
        model, channel="actin", changed_context="TARGET01", n_other_contexts=0, progress=False
    ),
    "baselines": lambda model, m, folder: baselines.PCAExpression.setup_mudata(m),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_method_reads_a_mudata_that_is_not_up_to_date(
    model: PETRI, call: Callable[[PETRI, MuData, Path], Any], tmp_path: Path
) -> None:
    mdata = model.adata
    before = mdata["rna"]
    mdata.mod["rna"] = before[::-1].copy()
    try:
        with pytest.raises(ValueError, match=r"Call mdata\.update\(\) first"):
            call(model, mdata, tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        mdata.mod["rna"] = before


def test_no_method_reads_such_data_that_is_passed(model: PETRI, make_screen: Callable[..., MuData]) -> None:
    other = make_screen(seed=1)
    other.mod["image"] = other["image"][:-1].copy()
    for modality in (None, "image", "rna"):
        with pytest.raises(ValueError, match=r"mdata\['image'\] has other cells.*Call mdata\.update\(\) first"):
            model.get_latent_representation(other, modality=modality)
    with pytest.raises(ValueError, match=r"Call mdata\.update\(\) first"):
        model.cross_modal_gain(other)


def test_a_trained_baseline_does_not_read_one(make_screen: Callable[..., MuData]) -> None:
    mdata = make_screen()
    baselines.PCAExpression.setup_mudata(mdata)
    model = baselines.PCAExpression(mdata, n_components=4)
    model.train()
    by_name = dict(zip(mdata["rna"].obs_names, model.get_latent_representation(), strict=True))
    mdata.mod["rna"] = mdata["rna"][::-1].copy()
    with pytest.raises(ValueError, match=r"Call mdata\.update\(\) first"):
        model.get_latent_representation()
    with columns_stay_in_modalities():
        mdata.update()
    expected = np.stack([by_name[name] for name in mdata["rna"].obs_names])
    with pytest.raises(ValueError, match=r"has changed since it was registered.*pass mdata\.copy\(\)"):
        model.get_latent_representation()
    np.testing.assert_allclose(model.get_latent_representation(mdata.copy()), expected, rtol=1e-4, atol=1e-5)


def test_contexts_whose_labels_changed_are_refused_and_embeddings_do_not_need_them(
    make_screen: Callable[..., MuData], tiny: dict[str, Any]
) -> None:
    mdata = make_screen()
    PETRI.setup_mudata(mdata)
    model = PETRI(mdata, **tiny)
    labels = mdata["rna"].obs["perturbation"].copy()
    mdata["rna"].obs["perturbation"] = labels.to_numpy()[::-1]
    training: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    message = r"mdata\['rna'\]\.obs\[\['perturbation'\]\] has changed since it was registered"
    with pytest.raises(ValueError, match=message):
        model.train(**training)
    mdata["rna"].obs["perturbation"] = labels
    model.train(**training)
    embedding = model.get_latent_representation()
    mdata["rna"].obs["perturbation"] = labels.to_numpy()[::-1]
    for call in (
        lambda: model.get_contexts(modality="rna"),
        lambda: model.cross_modal_gain(),
        lambda: model.get_reconstruction(modality="rna"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_allclose(model.get_latent_representation(), embedding, rtol=1e-4, atol=1e-5)
    del mdata["rna"].obs["perturbation"]
    assert model.get_contexts(modality="rna").tolist() == labels.astype(str).tolist()


def test_other_data_whose_labels_changed_has_the_new_ones(model: PETRI, make_screen: Callable[..., MuData]) -> None:
    other = make_screen(seed=1)
    assert model.get_contexts(other, modality="rna").tolist() == other["rna"].obs["perturbation"].tolist()
    other["rna"].obs["perturbation"] = other["rna"].obs["perturbation"].to_numpy()[::-1]
    assert model.get_contexts(other, modality="rna").tolist() == other["rna"].obs["perturbation"].tolist()
