"""Moments of values read in chunks equal those of all values at once."""

import numpy as np
import pytest

from petri_scvi.common import RunningMoments


def test_moments_of_chunks_are_those_of_all_values_however_far_from_zero() -> None:
    values = 1e8 + np.random.default_rng(0).normal(size=(1000, 3)) * [0.1, 1.0, 10.0]
    moments = RunningMoments(3)
    for chunk in np.array_split(values, [1, 1, 400]):
        moments.update(chunk)
    assert moments.n == 1000
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-6)


def test_covariance_is_that_of_numpy() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 100
    moments = RunningMoments(4, covariance=True)
    for chunk in np.array_split(values, 7):
        moments.update(chunk)
    np.testing.assert_allclose(moments.squares / 499, np.cov(values.T), rtol=1e-9)


def test_pixels_of_images_are_observations_of_their_channel() -> None:
    images = np.random.default_rng(2).integers(0, 65_535, size=(9, 2, 5, 6)).astype(np.uint16)
    moments = RunningMoments(2)
    for chunk in np.array_split(images, 3):
        moments.update(chunk, axis=(0, 2, 3))
    np.testing.assert_allclose(moments.mean, images.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(moments.std, images.std(axis=(0, 2, 3)))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 1 / 3])
def test_what_does_not_vary_has_no_deviation(value: float) -> None:
    moments = RunningMoments(1)
    for n in (3, 5, 7):
        moments.update(np.full((n, 1), value))
    assert moments.std[0] == 0
