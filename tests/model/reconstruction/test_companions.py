"""Companions of a cell that is reconstructed, and its measurement."""

from __future__ import annotations

import numpy as np
import pytest

from petri_scvi import PETRI

CELLS = [3, 8, 21]
IMAGES = "single_cell_images"


def _reconstruct(model, companions, mdata=None, **changes):
    arguments = {"modality": "image", "indices": CELLS, "companions": companions, **changes}
    return model.get_reconstruction(mdata, **arguments).prediction


def test_alone_a_cell_depends_on_no_other_cell(trained_model, screen):
    before = _reconstruct(trained_model, {}, screen)
    screen["rna"].X = screen["rna"].X[::-1]
    others = np.setdiff1d(np.arange(screen["image"].n_obs), CELLS)
    screen["image"].obsm[IMAGES][others] = 0
    np.testing.assert_array_equal(_reconstruct(trained_model, {}, screen), before)


def test_only_cells_of_the_context_that_was_named_are_read(trained_model, screen):
    before = _reconstruct(trained_model, {"rna": "TARGET01"}, screen)
    is_named = (screen["rna"].obs["perturbation"] == "TARGET01").to_numpy()
    counts = screen["rna"].X.toarray()
    counts[~is_named] = 1
    screen["rna"].X = type(screen["rna"].X)(counts)
    np.testing.assert_array_equal(_reconstruct(trained_model, {"rna": "TARGET01"}, screen), before)
    counts[is_named] = 1
    screen["rna"].X = type(screen["rna"].X)(counts)
    assert np.abs(_reconstruct(trained_model, {"rna": "TARGET01"}, screen) - before).max() > 0


def test_own_context_is_that_of_each_cell(trained_model):
    for cell in CELLS:
        own, *named = (
            _reconstruct(trained_model, {"rna": context}, indices=[cell]) for context in (None, "TARGET01", "TARGET02")
        )
        context = str(trained_model.get_contexts(modality="image")[cell])
        np.testing.assert_array_equal(own, _reconstruct(trained_model, {"rna": context}, indices=[cell]))
        assert any(np.abs(own - other).max() > 0 for other in named)


def test_companions_of_several_contexts_are_drawn_from_all_of_them(trained_model):
    one, two = (_reconstruct(trained_model, {"rna": name}) for name in (["TARGET01"], ["TARGET01", "TARGET02"]))
    np.testing.assert_array_equal(one, _reconstruct(trained_model, {"rna": "TARGET01"}))
    assert np.abs(one - two).max() > 0


def test_a_cell_is_not_its_own_companion(trained_model, screen, combine):
    """With one other cell of its context, it is joined by that cell alone."""
    image = screen["image"]
    rows = np.flatnonzero(image.obs["perturbation"] == "TARGET01")[:2]
    pair = combine(image=image[rows].copy(), rna=screen["rna"])
    mask = np.array([[True, True, False, False]])
    arguments = {"modality": "image", "indices": [0], "mask": mask, "companions": {"image": None}}
    before = trained_model.get_reconstruction(pair, **arguments).prediction
    pair["image"].obsm[IMAGES][0, :, :8] = 60_000  # hidden
    np.testing.assert_array_equal(trained_model.get_reconstruction(pair, **arguments).prediction, before)
    alone = combine(image=image[rows[:1]].copy(), rna=screen["rna"])
    with pytest.raises(ValueError, match=r"contexts \['TARGET01'\] have fewer than 2 cells in mdata\['image'\]"):
        trained_model.get_reconstruction(alone, **arguments)


@pytest.mark.parametrize(
    ("companions", "words"),
    [
        ({"rna": "TARGET99"}, ("['TARGET99'] without cells in mdata['rna']", "'TARGET01'")),
        ({"rna": ["TARGET01", "x"]}, ("['x'] without cells",)),
        ({"rna": []}, ("companions['rna']=[] is not accepted",)),
        ({"dna": None}, ("modality='dna'", "['image', 'rna']")),
    ],
)
def test_companions_that_do_not_exist_are_refused(trained_model, refused, companions, words):
    with refused(ValueError, *words):
        _reconstruct(trained_model, companions)


def test_companions_of_a_model_without_set_transformer_are_refused(screen, build):
    model = build(screen, set_transformer_depth=0)
    model.is_trained_ = True
    assert _reconstruct(model, {}).shape == (3, 5, 16, 16)
    with pytest.raises(ValueError, match="no set transformer.*set_transformer_depth of at least 1"):
        _reconstruct(model, {"rna": None})


def test_measurement_has_the_registered_channels_and_genes_as_stored(screen, build):
    model = build(screen, {"image_channels": ["actin", "nucleus"]})
    images = model.get_measurement(modality="image", indices=[4, 2])
    np.testing.assert_array_equal(images, screen["image"].obsm[IMAGES][[4, 2]][:, [4, 0]])
    assert images.dtype == np.uint16
    counts = model.get_measurement(modality="rna", indices=[7])
    np.testing.assert_array_equal(counts, screen["rna"].X[[7]].toarray())


def test_contexts_are_labels_of_cells_in_all_data(trained_model, screen):
    for mdata in (None, screen):
        for name in ("image", "rna"):
            found = trained_model.get_contexts(mdata, modality=name)
            assert found.tolist() == screen[name].obs["perturbation"].astype(str).tolist()


def test_held_out_rows_are_validation_cells_of_own_data_and_all_cells_of_other_data(trained_model, screen, tmp_path):
    own = trained_model.get_held_out_rows(modality="rna")
    assert own.tolist() == np.asarray(trained_model.validation_indices["rna"]).tolist()
    assert trained_model.get_held_out_rows(screen, modality="rna").tolist() == list(range(228))
    trained_model.save(tmp_path / "model")
    lent = PETRI.load(tmp_path / "model")
    for _ in range(2):  # data that is lent becomes that of the model, but not its training data
        assert lent.get_held_out_rows(screen, modality="rna").tolist() == list(range(228))
