"""Information measures against closed forms, finite differences and planted dependence."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tgn.thermodynamics import information as info

LEVELS = arrays(float, st.integers(1, 40), elements=st.floats(-50, 50))


def weights(energies, temperature):
    boltzmann = np.exp(-(energies - np.min(energies)) / temperature)
    return boltzmann / boltzmann.sum()


@settings(deadline=None)
@given(LEVELS, st.floats(0.05, 20))
def test_effective_numbers_are_ordered(energies, temperature):
    found = info.complexity(energies, temperature)
    numbers = [1, found.participation_ratio, found.effective_number, energies.size]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(numbers))


def test_entropies_are_their_definitions():
    energies = np.random.default_rng(0).standard_normal(200)
    p = weights(energies, 0.4)
    found = info.complexity(energies + 1e4, 0.4)
    assert found.shannon == pytest.approx(-(p * np.log(p)).sum())
    assert found.renyi_2 == pytest.approx(-np.log((p**2).sum()))
    assert info.complexity([0.0, 1e6], 1e-3).shannon == 0  # 0 ln 0, and no epsilon


@pytest.mark.parametrize("temperature", [0.2, 0.5, 2.0])
def test_fisher_information_is_that_of_the_boltzmann_weights(temperature):
    energies, step = np.random.default_rng(1).standard_normal(500), 1e-5
    above, below = (np.log(weights(energies, temperature + d)) for d in (step, -step))
    slope = (above - below) / (2 * step)
    expected = (weights(energies, temperature) * slope**2).sum()
    assert info.fisher_information(energies, [temperature])[0] == pytest.approx(expected, rel=1e-6)
    kelvin = info.fisher_information(energies, [temperature / 3], k_B=3.0)[0]
    assert kelvin == pytest.approx(9 * expected, rel=1e-6)
    entropies = [info.complexity(energies, temperature + d).shannon for d in (step, -step)]
    slope_squared = ((entropies[0] - entropies[1]) / (2 * step)) ** 2
    assert info.entropy_slope_squared(energies, [temperature])[0] == pytest.approx(
        slope_squared, rel=1e-5
    )


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 5), st.integers(0, 100))
def test_divergence_is_its_definition_and_not_negative(n, temperature, seed):
    one, other = np.random.default_rng(seed).standard_normal((2, n))
    p, q = weights(one, temperature), weights(other, temperature)
    found = info.kullback_leibler(one, other, temperature)
    assert found == pytest.approx((p * np.log(p / q)).sum(), abs=1e-9)
    assert found >= 0
    assert info.kullback_leibler(one, one + 3, temperature) == pytest.approx(0, abs=1e-9)


def test_divergence_refuses_levels_that_do_not_belong_together():
    with pytest.raises(ValueError, match="level_distance"):
        info.kullback_leibler(np.ones(3), np.ones(4), 1.0)
    rng = np.random.default_rng(2)
    shuffled = rng.permutation(values := rng.standard_normal(300))
    assert info.level_distance(values, shuffled) == (0, 1, 0)
    shifted = info.level_distance(values, values[:200] + 1)
    assert shifted.wasserstein == pytest.approx(1, abs=0.2)
    assert shifted.p_value < 1e-6


def test_mutual_information_of_unrelated_matrices_is_nothing():
    rng = np.random.default_rng(3)
    found = [
        info.mutual_information(*rng.standard_normal((2, 20, 25)), rng=rng, permutations=19)
        for _ in range(100)
    ]
    corrected = np.array([each.corrected for each in found])
    assert abs(corrected.mean()) < 4 * corrected.std() / 10
    assert np.mean([each.plug_in for each in found]) > 0.15  # of bias, (bins - 1)^2 / 2N = 0.225
    assert np.mean([each.p_value <= 0.05 for each in found]) < 0.15


def test_mutual_information_of_gaussians_and_of_monotone_functions():
    rng = np.random.default_rng(4)
    one, noise = rng.standard_normal((2, 300, 300))
    other = 0.8 * one + 0.6 * noise
    found = info.mutual_information(one, other, rng=rng, bins=32, permutations=19)
    assert found.corrected == pytest.approx(-0.5 * np.log(1 - 0.8**2), rel=0.03)
    assert found.p_value == 0.05
    same = info.mutual_information(np.exp(-one / 0.3), other, rng=rng, bins=32, permutations=1)
    assert same.plug_in == pytest.approx(found.plug_in)


def test_rows_of_unlike_width_and_ties_are_no_information():
    rng = np.random.default_rng(5)
    width = np.exp(rng.standard_normal((50, 1)))
    other = rng.permutation(width)
    one = width * rng.standard_normal((50, 40))
    found = info.mutual_information(
        one, other * rng.standard_normal((50, 40)), rng=rng, permutations=199
    )
    assert found.p_value > 0.01
    assert info.mutual_information(np.ones(50), np.ones(50), rng=rng).plug_in == 0


def bottleneck(points, labels, noise, permutations=19, seed=0):
    rng = np.random.default_rng(seed)
    return info.bottleneck(points, labels, noise, rng=rng, permutations=permutations)


def test_bottleneck_without_noise_keeps_all_and_with_much_nothing():
    rng = np.random.default_rng(6)
    points, labels = rng.standard_normal((120, 5)), rng.integers(3, size=120)
    share = np.bincount(labels) / 120
    label_entropy = -(share * np.log(share)).sum()
    quiet, loud = bottleneck(points, labels, 1e-8), bottleneck(points, labels, 1e8)
    assert quiet.input_information == pytest.approx(np.log(120))
    assert quiet.input_lower == pytest.approx(np.log(120))
    assert quiet.label_information == pytest.approx(label_entropy)
    np.testing.assert_allclose(quiet.null, label_entropy)  # random labels are told as well
    assert loud.input_information == pytest.approx(0, abs=1e-6)
    assert loud.label_information == pytest.approx(0, abs=1e-6)


def test_bottleneck_bounds_hold_at_every_noise():
    rng = np.random.default_rng(7)
    points, labels = rng.standard_normal((90, 4)), rng.integers(2, size=90)
    path = [bottleneck(points, labels, noise, 1) for noise in np.geomspace(1e-3, 1e3, 13)]
    for at in path:
        assert at.input_lower <= at.input_information <= np.log(90) + 1e-9
        assert at.label_lower <= at.label_information <= at.input_information + 1e-9
    kept = [at.input_information for at in path]
    assert (np.diff(kept) <= 1e-9).all()


def test_bottleneck_encloses_the_entropy_of_two_gaussians():
    """Two far classes, a continuum inside: I(T;Y) is ln 2, and labels by chance tell nothing."""
    rng = np.random.default_rng(8)
    labels = np.repeat(["a", "b"], 100)
    points = rng.standard_normal((200, 1)) + np.where(labels == "a", 40, -40)[:, None]
    found = bottleneck(points, labels, 0.01, 99)
    assert found.label_information == pytest.approx(np.log(2), abs=1e-3)
    assert found.label_lower > 0
    assert found.p_value == 0.01
    assert found.null.mean() < 0.05
    unrelated = bottleneck(points, rng.permutation(labels), 0.01, 99)
    assert unrelated.p_value > 0.01


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: info.complexity([], 1.0), "empty"),
        (lambda: info.complexity([1.0], 0.0), "temperatures"),
        (lambda: info.complexity([1.0], [1.0, 2.0]), "temperature must be one"),
        (lambda: info.mutual_information([1.0], [1.0, 2.0], rng=None), "differ in shape"),
        (lambda: info.mutual_information(np.ones(5), np.ones(5), rng=None), "bins"),
        (
            lambda: info.mutual_information(np.ones(50), np.ones(50), rng=None, permutations=0),
            "per",
        ),
        (lambda: bottleneck(np.ones((3, 2)), [1, 2], 1.0), "labels"),
        (lambda: bottleneck(np.ones((3, 2)), [1, 2, 2], 1.0), "alike"),
        (lambda: bottleneck(np.eye(3), [1, 2, 2], 0.0), "noise"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
