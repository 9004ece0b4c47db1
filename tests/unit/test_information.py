"""A lower bound stays below what it bounds, finds what is there, and nothing where nothing is."""

import numpy as np
import pytest

from tgn.probing.information import mutual_information_bound


def gaussian_pair(correlation, rng, *, channels=4, shape=(16, 100)):
    """Inputs and states with a known mutual information, in 10 channels of either."""
    inputs, noise = rng.normal(size=(2, *shape, channels))
    states = correlation * inputs + np.sqrt(1 - correlation**2) * noise
    mixing = rng.normal(size=(2, channels, 10))
    truth = -channels / 2 * np.log(1 - correlation**2)
    return inputs @ mixing[0], states @ mixing[1], truth


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.9])
def test_the_bound_is_below_the_truth_and_near_it(correlation):
    rng = np.random.default_rng(0)
    inputs, states, truth = gaussian_pair(correlation, rng)
    found = mutual_information_bound(inputs, states, components=10).mean()
    assert 0.8 * truth - 0.05 < found < truth + 0.1


def test_nothing_is_found_where_nothing_is():
    rng = np.random.default_rng(1)
    inputs, states, _ = gaussian_pair(0.9, rng)
    shuffled = rng.permutation(states.reshape(-1, 10)).reshape(states.shape)
    assert abs(mutual_information_bound(inputs, shuffled, components=10).mean()) < 0.03


def test_it_never_exceeds_the_logarithm_of_the_candidates():
    inputs = np.random.default_rng(2).normal(size=(8, 20, 30))
    values = mutual_information_bound(inputs, inputs, components=20)
    assert (values <= np.log(4 * 20) + 1e-9).all()
    assert values.mean() > 2


def test_scale_rotation_and_dead_channels_do_not_matter():
    rng = np.random.default_rng(3)
    inputs, states, _ = gaussian_pair(0.7, rng)
    plain = mutual_information_bound(inputs, states, components=4)
    other = np.concatenate([1e3 * states + 5, np.ones((*states.shape[:2], 2))], axis=2)
    np.testing.assert_allclose(
        mutual_information_bound(inputs, other, components=4), plain, atol=1e-6
    )


def test_too_few_passages_are_refused():
    with pytest.raises(ValueError, match="four passages"):
        mutual_information_bound(np.ones((3, 5, 2)), np.ones((3, 5, 2)), components=1)
