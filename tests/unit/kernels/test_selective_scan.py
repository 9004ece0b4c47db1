"""The selective scan and its gradient against a plain loop, differentiated by torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.kernels import scan
from tgn.kernels.selective_scan import CHUNK, selective_scan, selective_scan_gradient

sizes = st.tuples(
    st.integers(1, 3), st.integers(1, 3 * CHUNK), st.integers(1, 40), st.integers(1, 5)
)


def draw(size, dtype=np.float64, seed=0):
    """u, delta, A, B, C, D, h0."""
    batch, length, channels, states = size
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    u, delta = normal(batch, length, channels), np.exp(normal(batch, length, channels) - 1)
    A = -np.exp(normal(channels, states))
    B, C = normal(batch, length, states), normal(batch, length, states)
    return [u, delta, A, B, C, normal(channels), normal(batch, channels, states)]


def loop(u, delta, A, B, C, D, h):
    """With operators alone, for tensors."""
    outputs = []
    for t in range(u.shape[1]):
        step = delta[:, t, :, None]
        h = (step * A).exp() * h + step * u[:, t, :, None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + D * u[:, t])
    return torch.stack(outputs, dim=1), h


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(1, 3), st.integers(0, 99))
def test_outputs_and_gradients_are_those_of_the_loop(size, threads, seed):
    arrays = draw(size, seed=seed)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = loop(*tensors)
    weights = [torch.randn_like(x) for x in expected]
    gradients = torch.autograd.grad(expected, tensors, weights)
    y, last, kept = selective_scan(*arrays, threads=threads)
    np.testing.assert_allclose(y, expected[0].detach(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(last, expected[1].detach(), rtol=1e-10, atol=1e-10)
    dy, dlast = (w.numpy() for w in weights)
    ours = selective_scan_gradient(*arrays[:-1], kept, dy, dlast, threads=threads)
    for own, other in zip(ours, gradients, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-9)


def test_single_precision():
    arrays = draw((2, 100, 32, 16), np.float32)
    y, last, _ = selective_scan(*arrays)
    exact = loop(*(torch.tensor(x, dtype=torch.float64) for x in arrays))
    np.testing.assert_allclose(y, exact[0], atol=2e-5)
    np.testing.assert_allclose(last, exact[1], atol=2e-5)
    assert y.dtype == last.dtype == np.float32


def test_the_last_state_goes_on_where_it_ended():
    u, delta, A, B, C, D, h0 = draw((2, 21, 18, 3))
    whole, last, _ = selective_scan(u, delta, A, B, C, D, h0)
    parts, state = [], h0
    for begin, end in ((0, 1), (1, 12), (12, 21)):
        pieces = (np.ascontiguousarray(x[:, begin:end]) for x in (u, delta, B, C))
        u_, delta_, B_, C_ = pieces
        y, state, _ = selective_scan(u_, delta_, A, B_, C_, D, state)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
    np.testing.assert_allclose(state, last, rtol=1e-12)


@pytest.mark.parametrize("size", [(5, 20, 48, 4), (1, 20, 96, 4), (1, 20, 7, 4)])
def test_threads_change_only_the_order_of_sums(size, monkeypatch):
    monkeypatch.setattr(scan, "WORTH_THREADS", 0)
    arrays = draw(size)
    results = []
    for threads in (1, 2, 3):
        y, last, kept = selective_scan(*arrays, threads=threads)
        gradients = selective_scan_gradient(*arrays[:-1], kept, y, last, threads=threads)
        results.append([y, last, *gradients])
    for other in results[1:]:
        for x, z in zip(results[0], other, strict=True):
            np.testing.assert_allclose(z, x, rtol=1e-11, atol=1e-11)


def test_inputs_are_left_alone_and_states_kept_only_when_asked():
    arrays = draw((2, 10, 16, 4))
    copies = [x.copy() for x in arrays]
    _, _, kept = selective_scan(*arrays, keep=False)
    assert kept.size == 0
    for x, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(x, copy)
