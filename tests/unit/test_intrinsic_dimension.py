"""Known dimensions are found, and each reference keeps what it says it keeps."""

import numpy as np
import pytest

from tgn.probing.intrinsic_dimension import gaussian_twin, inverse_dimensions, measure_dimension


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_a_flat_cloud_has_the_dimension_of_its_plane(dimension):
    """The edges of the cloud cost a few percent, and more the more dimensions have edges."""
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(1500, dimension)) @ rng.normal(size=(dimension, 40))
    found = 1 / inverse_dimensions(points, neighbours=20).mean()
    assert found == pytest.approx(dimension, rel=0.12)


def test_a_curved_surface_has_two_dimensions_and_its_twin_three():
    """What linear structure cannot tell: a sphere fills three dimensions linearly."""
    rng = np.random.default_rng(1)
    sphere = rng.normal(size=(1500, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    found, twin = (
        1 / inverse_dimensions(cloud, neighbours=20).mean()
        for cloud in (sphere, gaussian_twin(sphere, rng))
    )
    assert found == pytest.approx(2, abs=0.15)
    assert twin == pytest.approx(3, abs=0.25)


def test_a_twin_has_the_clouds_mean_and_covariance():
    rng = np.random.default_rng(2)
    points = rng.exponential(size=(4000, 3)) @ rng.normal(size=(3, 3)) + 7
    twin = gaussian_twin(points, rng)
    np.testing.assert_allclose(twin.mean(0), points.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(twin.T), np.cov(points.T), rtol=0.15, atol=0.15)


def test_a_cloud_and_its_references():
    rng = np.random.default_rng(3)
    curve = np.sort(rng.uniform(size=(4, 100)), axis=1)
    states = np.stack([np.sin((k + 1) * curve) for k in range(12)], axis=2)
    states[:, 50] = states[0, 50]  # the same state four times: it counts once
    table = measure_dimension(states, neighbours=10, rng=rng)
    totals = table.groupby("sample")[["points", "value"]].sum()
    assert (totals["points"] == 397).all()
    assert (table["width"] == 12).all()
    found = totals["points"] / totals["value"]
    assert found["states"] == pytest.approx(1, abs=0.15)
    assert found["states"] < found["gaussian"] < found["shuffled"] < found["white"]


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="more than 5 points"):
        inverse_dimensions(np.eye(5), neighbours=5)
    with pytest.raises(ValueError, match="alike"):
        inverse_dimensions(np.ones((9, 2)), neighbours=3)
