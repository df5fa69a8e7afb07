"""What stays in memory after data and models are deleted, and how often data is read to check it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from petri_scvi import PETRI, tl
from petri_scvi.baselines import CLIP, MULTIVI, SCVI
from petri_scvi.dataloaders import RowReader


def is_freed(reference):
    gc.collect()  # deleting a model of scvi-tools lets go of its tables
    gc.collect()
    return reference() is None


@pytest.mark.slow
def test_data_is_freed_when_it_and_its_models_are_deleted(make_screen, fit, build):
    screen = make_screen()
    data = weakref.ref(screen)
    PETRI.setup_mudata(screen)
    del screen
    assert is_freed(data)
    screen = make_screen()
    data, model = weakref.ref(screen), fit(screen)
    model.get_latent_representation()
    del screen
    assert not is_freed(data)
    del model
    assert is_freed(data)


@pytest.mark.parametrize(
    "kind", [pytest.param(SCVI, marks=pytest.mark.slow), pytest.param(MULTIVI, marks=pytest.mark.slow)]
)
def test_the_tables_that_scvi_tools_is_given_are_freed_too(screen, quiet, kind):
    kind.setup_mudata(screen)
    model = kind(screen, **({"n_components": 4} if kind is MULTIVI else {}))
    model.train(max_epochs=1, **quiet)
    model.get_latent_representation(modality="rna")
    tables = weakref.ref(model.scvi_.adata)
    del model
    assert is_freed(tables)


@pytest.mark.slow
def test_other_data_is_freed_while_the_model_lives_on(trained_model, make_screen, tmp_path):
    trained_model.save(tmp_path / "model")
    for model in (trained_model, PETRI.load(tmp_path / "model", adata=False)):
        for _ in range(2):
            screen = make_screen(seed=1)
            data = weakref.ref(screen)
            embedding = model.get_latent_representation(screen)
            np.testing.assert_array_equal(model.get_latent_representation(screen.copy()), embedding)
            del screen
            assert is_freed(data)
    assert trained_model.adata is not None
    assert model.adata is None


def test_a_second_model_can_be_made_of_data_whose_first_model_was_deleted(screen, build, tiny):
    model = build(screen)
    del model
    gc.collect()
    assert PETRI(screen, **tiny).adata is screen


@pytest.fixture
def rows_read(monkeypatch):
    """Rows that were read to check them, one number per pass over an array."""
    passes: list[int] = []
    chunks = RowReader.chunks

    def counted(reader, rows, *args, **kwargs):
        passes.append(len(rows))
        return chunks(reader, rows, *args, **kwargs)

    monkeypatch.setattr(RowReader, "chunks", counted)
    return passes


def test_other_data_is_checked_once_however_often_it_is_used(trained_model, make_screen, rows_read):
    screen = make_screen(seed=1)
    trained_model.get_latent_representation(screen, modality="rna", indices=[0])
    n_passes = len(rows_read)
    assert n_passes
    for row in range(20):
        trained_model.get_latent_representation(screen, modality="rna", indices=[row])
    tl.impute_expression(trained_model, screen, control="non-targeting", n_cells=20, min_cells=5)
    assert len(rows_read) == n_passes


def test_replaced_arrays_of_other_data_are_checked_again(trained_model, make_screen):
    screen = make_screen(seed=1)
    trained_model.get_latent_representation(screen, modality="rna", indices=[0])
    screen["rna"].X = screen["rna"].X * 0.5
    with pytest.raises(ValueError, match="counts|whole numbers|integers"):
        trained_model.get_latent_representation(screen, modality="rna", indices=[0])


def test_models_that_take_turns_on_the_same_data_do_not_check_it_again(screen, fit, quiet, rows_read):
    model = fit(screen)
    expected, contexts = model.get_latent_representation(), model.get_contexts(modality="rna").tolist()
    CLIP.setup_mudata(screen, context_key="guide")
    other = CLIP(screen, embed_dim=16, n_heads=2, n_latent_tokens=2, image_encoder_depth=1, expression_encoder_depth=1)
    other.train(max_epochs=1, **quiet)
    rows_read.clear()
    for _ in range(3):
        other.get_latent_representation()
        np.testing.assert_array_equal(model.get_latent_representation(), expected)
        assert model.get_contexts(modality="rna").tolist() == contexts
    assert rows_read == []
