from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from petri_scvi.baselines import RandomProjection


def fit(mdata, **arguments):
    RandomProjection.setup_mudata(mdata)
    model = RandomProjection(mdata, **arguments)
    model.train()
    return model


def test_it_is_the_product_with_centred_log_counts(screen):
    model = fit(screen, n_components=7)
    levels = np.log1p(screen["rna"].X.toarray())
    expected = (levels - levels.mean(axis=0)) @ model.components_
    found = model.get_latent_representation()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(model.get_latent_representation(indices=[4, 2], batch_size=1), found[[4, 2]], atol=1e-5)


def test_distances_are_kept_and_the_seed_is_that_of_the_matrix(screen):
    model = fit(screen, n_components=2000)
    kept = pdist(model.get_latent_representation()) / pdist(np.log1p(screen["rna"].X.toarray()))
    assert 0.9 < kept.min() < kept.max() < 1.1
    again, other = (fit(screen, n_components=5, seed=seed).components_ for seed in (0, 1))
    assert np.array_equal(again, fit(screen, n_components=5).components_)
    assert not np.array_equal(again, other)


def test_fractions_need_to_be_called_normalised(screen):
    screen["rna"].X = np.log1p(screen["rna"].X.toarray())
    RandomProjection.setup_mudata(screen)
    with pytest.raises(ValueError, match="is_normalized=True"):
        RandomProjection(screen).train()
    model = RandomProjection(screen, is_normalized=True)
    model.train()
    expected = (screen["rna"].X - screen["rna"].X.mean(axis=0)) @ model.components_
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-4)
