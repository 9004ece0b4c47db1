"""Block averages and correlation lengths on noise, and on planted structure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tgn.thermodynamics import renormalisation as rg


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def correlated(side, length, seed=0):
    """A field with correlation exp(-r / length) along rows and along columns."""
    rng, keep = np.random.default_rng(seed), np.exp(-1 / length)
    field = rng.standard_normal((side, side))
    for axis in (0, 1):
        moved = np.moveaxis(field, axis, 0)
        for i in range(1, side):
            moved[i] = keep * moved[i - 1] + np.sqrt(1 - keep**2) * moved[i]
    return field


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
def test_block_average_is_the_mean_of_each_block(block, rows, columns, rest):
    matrix = noise(rows * block + min(rest, block - 1), columns * block)
    found = rg.block_average(matrix, block)
    assert found.shape == (rows, columns)
    last = matrix[(rows - 1) * block : rows * block, (columns - 1) * block : columns * block]
    assert found[-1, -1] == pytest.approx(last.mean())


def test_noise_loses_its_width_by_the_block_and_no_more_than_permuted():
    rng = np.random.default_rng(1)
    found = rg.block_test(noise(200, 200), 2, rng=rng)
    assert found.ratio == pytest.approx(found.expected, rel=0.02)
    p_values = [
        rg.block_test(noise(24, 24, seed=s), 2, rng=rng, permutations=19).p_value
        for s in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.05)


def test_neighbours_that_are_alike_are_found_and_unlike_rows_are_not():
    rng = np.random.default_rng(2)
    smooth = gaussian_filter(noise(60, 60), 1.5)
    found = rg.block_test(smooth, 2, rng=rng)
    assert found.ratio > 0.8
    assert found.p_value < 0.01
    p_values = []
    for seed in range(100):  # each row with its own mean, in no order
        rows = noise(24, 1, seed=seed) + noise(24, 24, seed=1000 + seed)
        p_values.append(rg.block_test(rows, 2, rng=rng, permutations=19).p_value)
    assert np.mean(np.array(p_values) <= 0.05) < 0.15


def test_flow_is_normalised_so_that_noise_stays_where_it_is():
    steps = rg.flow(7 * noise(256, 256) + 3, rng=np.random.default_rng(3), permutations=19)
    assert [step.matrix.shape[0] for step in steps] == [256, 128, 64, 32, 16, 8]
    assert all(step.matrix.std() == pytest.approx(1) for step in steps)
    assert steps[0].test is None
    peaks = [step.peak_temperature for step in steps]
    assert min(peaks) > 0.15  # unnormalised, the last would be 1 / 32 of the first
    assert max(peaks) < 2
    assert steps[1].freezing_temperature == pytest.approx(1 / np.sqrt(2 * np.log(128**2)))
    assert len(rg.flow(noise(9, 9), rng=np.random.default_rng(4), permutations=1)) == 3


def test_noise_converges_and_heavy_tails_flow_to_the_gaussian():
    rng = np.random.default_rng(5)
    gaussian = rg.fixed_point(noise(128, 128), rng=rng, draws=50)
    assert gaussian.converged
    assert gaussian.steps <= 2
    heavy = rg.fixed_point(np.random.default_rng(6).exponential(size=(256, 256)), rng=rng, draws=50)
    assert heavy.converged
    assert heavy.steps >= 3
    skews = [abs(shape.skewness) for shape in heavy.shapes]
    assert skews[0] > 1.8
    assert skews[-1] < 0.5
    assert heavy.shapes[1].distance > heavy.shapes[1].noise


def test_a_flow_that_still_changes_says_so():
    rng = np.random.default_rng(7)
    heavy = np.random.default_rng(8).exponential(size=(64, 64))
    found = rg.fixed_point(heavy, rng=rng, most_steps=1, draws=20)
    assert not found.converged
    assert found.steps is None
    assert "after 1 steps" in found.reason
    assert "fewer than" in rg.fixed_point(noise(8, 8), rng=rng).reason
    assert rg.fixed_point(heavy, rng=rng, threshold=10.0, draws=2).reason.endswith("threshold")


@pytest.mark.parametrize("length", [2.0, 4.0])
def test_a_planted_correlation_length_is_found(length):
    found = [
        rg.correlation_length(correlated(200, length, s), rng=np.random.default_rng(s)).length
        for s in range(2)
    ]
    assert np.mean(found) == pytest.approx(length, rel=0.2)


def test_noise_has_no_correlation_length():
    rng = np.random.default_rng(9)
    found = [
        rg.correlation_length(noise(40, 60, seed=s), rng=rng, permutations=99) for s in range(60)
    ]
    assert np.mean([np.isnan(each.length) for each in found]) > 0.96
    assert all(each.reason for each in found if np.isnan(each.length))
    assert np.mean([each.p_value <= 0.05 for each in found]) < 0.15


def test_permuted_structure_and_unlike_rows_have_none():
    rng = np.random.default_rng(10)
    field = correlated(100, 4.0)
    mixed = field[rng.permutation(100)][:, rng.permutation(100)]
    assert "permuted" in rg.correlation_length(mixed, rng=rng).reason
    ramp = np.arange(100.0)[:, None] + noise(100, 100)
    assert np.isnan(rg.correlation_length(ramp, rng=rng).length)  # correlated without decay


def test_size_law_is_declined_for_freezing_and_found_where_planted():
    sizes = np.array([8, 16, 32, 64, 128, 256, 512, 1024])
    frozen = 1 / np.sqrt(2 * np.log(sizes**2.0))
    jitter = 1 + 0.01 * np.random.default_rng(11).standard_normal(len(sizes))
    plain = rg.size_law(sizes, 1.3 * frozen * jitter, frozen)
    assert plain.freezing_ratio == pytest.approx(1.3, rel=0.02)
    assert np.isnan(plain.nu)
    assert "freezing" in plain.reason
    planted = 0.7 * (1 - sizes ** (-1 / 1.5)) * (1 + 0.1 * (jitter - 1))
    found = rg.size_law(sizes, planted, frozen)
    assert found.reason == ""
    assert found.limit == pytest.approx(0.7, abs=4 * found.limit_error + 1e-3)
    assert found.nu == pytest.approx(1.5, rel=0.1)
    assert found.amplitude == pytest.approx(-1, rel=0.1)
    assert "six" in rg.size_law(sizes[:5], planted[:5], frozen[:5]).reason


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda rng: rg.block_average(np.ones((3, 3)), 4), "block"),
        (lambda rng: rg.block_average([[np.nan]], 1), "matrix has 1"),
        (lambda rng: rg.normalised(np.ones((3, 3))), "all entries are equal"),
        (lambda rng: rg.flow(noise(8, 8), rng=rng, block=1), "block"),
        (lambda rng: rg.flow(noise(8, 8), rng=rng, steps=-1), "steps"),
        (lambda rng: rg.fixed_point(noise(8, 8), rng=rng, threshold=-1.0), "threshold"),
        (lambda rng: rg.correlation_length(noise(7, 90), rng=rng), "8 x 8"),
        (lambda rng: rg.correlation_length(noise(9, 9), rng=rng, permutations=9), "permutations"),
        (lambda rng: rg.size_law([1.0], [1.0], [1.0]), "two different"),
        (lambda rng: rg.size_law([1.0, 2.0], [1.0], [1.0]), "one length"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(np.random.default_rng(0))
