"""Normal variates: against Box and Muller's formula on the same bits, and their distribution."""

import numpy as np
import pytest
from scipy import stats

from tgn.kernels.normals import BATCH, fill, streams


def drawn(seed, size):
    out = np.empty(size, np.float32)
    fill(streams(seed), out)
    return out


def rotated(a, bits):
    return (a << np.uint64(bits)) | (a >> np.uint64(64 - bits))


def words(state, count):
    """Numbers of xoroshiro128+ as 32-bit integers, eight streams side by side (plain Python)."""
    s0, s1 = state.copy()
    for _ in range(count):
        yield (s0 + s1).view(np.int32)
        mixed = s0 ^ s1
        s0, s1 = rotated(s0, 24) ^ mixed ^ (mixed << np.uint64(16)), rotated(mixed, 37)


def test_are_those_of_the_formula():
    expected = []
    numbers = words(streams(5), 2 * 100)
    for first, second in zip(numbers, numbers, strict=True):
        uniform = (first.view(np.uint32) + 0.5) * 2.0**-32
        radius, angle = np.sqrt(-2 * np.log(uniform)), np.pi * second * 2.0**-31
        expected += [radius * np.cos(angle), radius * np.sin(angle)]
    # Of a small radius, whose logarithm is that of a number near 1, digits are lost.
    np.testing.assert_allclose(drawn(5, 100 * BATCH), np.ravel(expected), atol=2e-5)


def test_distribution():
    x = drawn(1, 100_000 * BATCH).astype(float)
    n = x.size
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(np.mean(x**2) - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.mean(x**3)) < 4 * np.sqrt(15 / n)
    assert abs(np.mean(x**4) - 3) < 4 * np.sqrt(96 / n)
    assert stats.kstest(x[:: BATCH // 2], "norm").pvalue > 1e-3
    far = (np.abs(x) > 4).mean() / (2 * stats.norm.sf(4))
    assert far == pytest.approx(1, abs=4 / np.sqrt(n * 2 * stats.norm.sf(4)))


@pytest.mark.parametrize("lag", [1, 8, BATCH // 2, BATCH, 6 * BATCH])
def test_neither_they_nor_their_squares_are_correlated(lag):
    x = drawn(2, 30_000 * BATCH).astype(float)
    for y, deviation in ((x, 1), (x**2 - 1, 2)):
        assert abs(np.mean(y[:-lag] * y[lag:])) / deviation < 4.5 / np.sqrt(x.size)


def test_seeds():
    np.testing.assert_array_equal(drawn([3, 1], 4 * BATCH), drawn([3, 1], 4 * BATCH))
    assert not np.isin(drawn([3, 1], 4 * BATCH), drawn([3, 2], 4 * BATCH)).any()


def test_streams_move_on():
    random = streams(7)
    first, second = np.empty((2, BATCH), np.float32)
    fill(random, first)
    fill(random, second)
    np.testing.assert_array_equal(np.concatenate([first, second]), drawn(7, 2 * BATCH))
