"""Lanes: arithmetic, and elementary functions against numpy in double precision."""

import numpy as np
import pytest

from tgn.kernels.compiling import kernel
from tgn.kernels.lanes import LANES, exp2, load, scratch, sigmoid, splat, store, total, where_below

both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@kernel
def every_exp2(x, out):
    for k in range(0, x.size, LANES):
        store(out, k, exp2(load(x, k)))


@kernel
def every_sigmoid(x, out):
    for k in range(0, x.size, LANES):
        store(out, k, sigmoid(load(x, k)))


@kernel
def smaller(a, b, out):
    store(out, 0, where_below(load(a, 0), load(b, 0), load(a, 0), load(b, 0)))


@kernel
def sum_from(x, start):
    return total(load(x, start))


@kernel
def repeated(x, start, out):
    store(out, 0, splat(x, start))


@kernel
def address(x):
    return scratch(7, x).ctypes.data


def applied(function, x):
    out = np.empty_like(x)
    function(x, out)
    return out


@both_precisions
def test_powers_of_two(dtype):
    x = np.linspace(-126, 126, 16 * 4001).astype(dtype)
    tolerance = 2e-7 if dtype == np.float32 else 1e-15
    np.testing.assert_allclose(applied(every_exp2, x), np.exp2(x, dtype=float), rtol=tolerance)
    whole = np.arange(-126, 2, 8).astype(dtype)
    np.testing.assert_array_equal(applied(every_exp2, whole), np.exp2(whole))


@both_precisions
def test_powers_out_of_range_stay_positive_and_nan_stays_nan(dtype):
    x = np.array([-np.inf, -1e9, -200, 200, 1e9, np.inf, np.nan, 0] * 2, dtype)
    y = applied(every_exp2, x)
    assert (y[:3] < 1e-37).all()
    assert (y[3:6] > 1e38).all()
    assert np.isnan(y[6])
    assert y[7] == 1


@both_precisions
def test_sigmoid(dtype):
    x = np.concatenate([np.linspace(-40, 40, 16 * 1000), [-1e4, 1e4, np.nan] + [0] * 13])
    expected = 1 / (1 + np.exp(-np.clip(x, -700, None)))
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    y = applied(every_sigmoid, x.astype(dtype))
    np.testing.assert_allclose(y, expected, rtol=tolerance * 4, atol=1e-37)


@both_precisions
def test_choice_sum_and_repetition(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 16)).astype(dtype)
    out = np.empty(16, dtype)
    smaller(a, b, out)
    np.testing.assert_array_equal(out, np.minimum(a, b))
    x = np.arange(20, dtype=dtype)
    assert sum_from(x, 3) == x[3:19].sum()
    repeated(x, 3, out)
    np.testing.assert_array_equal(out, 3)


@both_precisions
def test_scratch_begins_at_a_cache_line(dtype):
    assert address(np.zeros(1, dtype)) % 64 == 0
