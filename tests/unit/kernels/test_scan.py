"""The linear recurrences against a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.kernels import scan

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 40))
dtypes = st.sampled_from([np.float32, np.float64])


def loop(a, b, h0):
    h, states = h0, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return np.stack(states, axis=1)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def draw(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    batch, _, channels = shape
    return [rng.standard_normal(s).astype(dtype) for s in (shape, shape, (batch, channels), shape)]


def tolerance(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}


@settings(deadline=None, max_examples=40)
@given(shapes, dtypes, st.integers(1, 3), st.integers(0, 99))
def test_linear_scan_is_the_loop(shape, dtype, threads, seed):
    a, b, h0, _ = draw(shape, dtype, seed)
    h = scan.linear_scan(a, b, h0, threads=threads)
    assert h.dtype == dtype
    np.testing.assert_allclose(h, loop(a, b, h0), **tolerance(dtype))


@settings(deadline=None, max_examples=40)
@given(shapes, dtypes, st.integers(1, 3), st.integers(0, 99))
def test_min_gru_is_the_loop(shape, dtype, threads, seed):
    gate, candidate, h0, _ = draw(shape, dtype, seed)
    z = logistic(gate)
    g = np.where(candidate < 0, logistic(candidate), candidate + 0.5)
    h = scan.min_gru(gate, candidate, h0, threads=threads)
    assert h.dtype == dtype
    np.testing.assert_allclose(h, loop(1 - z, z * g, h0), **tolerance(dtype))


def test_two_steps_by_hand():
    a = np.array([[[2.0], [3.0]]])
    b = np.array([[[1.0], [-1.0]]])
    h0 = np.array([[5.0]])
    h = scan.linear_scan(a, b, h0)
    assert h.ravel().tolist() == [11, 32]
    da, db, dh0 = scan.linear_scan_gradient(a, h, h0, np.array([[[0.0], [1.0]]]))
    assert da.ravel().tolist() == [15, 11]
    assert db.ravel().tolist() == [3, 1]
    assert dh0.item() == 6


@pytest.mark.parametrize("shape", [(5, 30, 48), (1, 30, 80), (2, 30, 21)])
def test_threads_do_not_change_a_bit(shape, monkeypatch):
    monkeypatch.setattr(scan, "WORTH_THREADS", 0)
    a, b, h0, dh = draw(shape, np.float32)
    for forward, backward, inputs in (
        (scan.linear_scan, scan.linear_scan_gradient, (a,)),
        (scan.min_gru, scan.min_gru_gradient, (a, b)),
    ):
        results = []
        for threads in (1, 2, 3):
            h = forward(a, b, h0, threads=threads)
            results.append([h, *backward(*inputs, h, h0, dh, threads=threads)])
        for other in results[1:]:
            for x, y in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(x, y)


def test_nan_spreads_forward_in_time_and_nowhere_else():
    gate, candidate, h0, _ = draw((2, 6, 16), np.float32)
    gate[1, 3, 5] = np.nan
    bad = np.isnan(scan.min_gru(gate, candidate, h0))
    expected = np.zeros_like(bad)
    expected[1, 3:, 5] = True
    np.testing.assert_array_equal(bad, expected)


def test_saturated_gates_keep_or_replace_the_state():
    gate = np.full((1, 2, 16), 200, np.float32)
    gate[:, 1] = -200
    candidate = np.full_like(gate, 3)
    h = scan.min_gru(gate, candidate, np.full((1, 16), 7, np.float32))
    np.testing.assert_allclose(h, 3.5, rtol=1e-6)


def test_no_time_gives_nothing_back():
    a, b, h0, dh = draw((2, 0, 16), np.float64)
    h = scan.linear_scan(a, b, h0)
    assert h.shape == (2, 0, 16)
    assert not scan.linear_scan_gradient(a, h, h0, dh)[2].any()
