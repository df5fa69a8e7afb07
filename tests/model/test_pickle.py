"""Trained models can be pickled; their data is pickled as far as mudata can."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from mudata import MuData

from petri_scvi import PETRI
from petri_scvi.baselines import CLIP, SCVI, PCAExpression


def pickled(model):
    """Pickle a model apart from its MuData, which mudata 0.3 pickles but cannot read again."""
    assert pickle.dumps(model)
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.persistent_id = lambda found: "data" if isinstance(found, MuData) else None
    pickler.dump(model)
    return file.getvalue()


def unpickled(content, data):
    unpickler = pickle.Unpickler(io.BytesIO(content))
    unpickler.persistent_load = lambda name: data
    return unpickler.load()


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_pickled_model_goes_on_where_it_was(screen, fit, schedule, quiet):
    model = fit(screen, plan_kwargs={"lr_schedule": schedule})
    again = unpickled(pickled(model), screen.copy())
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    np.testing.assert_array_equal(again.get_held_out_rows(modality="rna"), model.get_held_out_rows(modality="rna"))
    assert again.adata is not model.adata
    again.train(max_epochs=1, **quiet)
    assert len(again.history["train_loss"]) == 2
    assert len(model.history["train_loss"]) == 1


@pytest.mark.slow
def test_a_pickled_model_without_data_is_read_by_another_process(trained_model, screen, tmp_path):
    trained_model.save(tmp_path / "model")
    model = PETRI.load(tmp_path / "model", adata=False)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "expected.npy", model.get_latent_representation(screen))
    screen.write(tmp_path / "screen.h5mu")
    script = (
        "import pickle, numpy as np, petri_scvi\n"
        "model = pickle.load(open('model.pickle', 'rb'))\n"
        "found = model.get_latent_representation(petri_scvi.io.open_screen('screen.h5mu'))\n"
        "np.testing.assert_allclose(found, np.load('expected.npy'), rtol=1e-5, atol=1e-6)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, timeout=300)


@pytest.mark.parametrize("kind", ["SCVI", "PCA", "CLIP"])
def test_baselines_can_be_pickled(screen, quiet, kind):
    made = {"SCVI": SCVI, "PCA": PCAExpression, "CLIP": CLIP}[kind]
    made.setup_mudata(screen)
    tiny = {
        "embed_dim": 16,
        "n_heads": 2,
        "n_latent_tokens": 2,
        "image_encoder_depth": 1,
        "expression_encoder_depth": 1,
    }
    model = made(screen, **(tiny if kind == "CLIP" else {}))
    model.train(**({} if kind == "PCA" else {"max_epochs": 1, **quiet}))
    again = unpickled(pickled(model), screen.copy())
    np.testing.assert_array_equal(
        again.get_latent_representation(modality="rna"), model.get_latent_representation(modality="rna")
    )
