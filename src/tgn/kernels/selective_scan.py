"""The selective scan of Mamba and its gradient.

For every row of the batch, channel d and state n, discretised by zero-order hold for A and by
Euler's rule for B,

    h[t, d, n] = exp(delta[t, d] A[d, n]) h[t - 1, d, n] + delta[t, d] u[t, d] B[t, n]
    y[t, d] = sum over n of h[t, d, n] C[t, n] + D[d] u[t, d].

The states of all times are never stored: every `CHUNK` steps one is kept, and the gradient
recomputes those in between, a chunk at a time, the last chunk first. Sixteen channels are worked
on together, and what belongs to (channel, state) is laid out as (channel / 16, state, 16).

Source: Gu and Dao 2023, "Mamba", algorithm 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.lanes import (
    LANES,
    LOG2_E,
    constant,
    exp2,
    load,
    multiply_add,
    scratch,
    splat,
    store,
    total,
)
from tgn.kernels.scan import channels_of, cropped, padded, pieces_of, share

Array = NDArray[Any]

CHUNK = 16


def selective_scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    h0: Array,
    *,
    keep: bool = True,
    threads: int = 1,
) -> tuple[Array, Array, Array]:
    """Outputs, the last state, and the states that the gradient needs.

    Parameters
    ----------
    u, delta : array, shape (b, l, d)
    A : array, shape (d, n)
    B, C : array, shape (b, l, n)
    D : array, shape (d,)
    h0 : array, shape (b, d, n)
    keep
        Whether a gradient will be asked for.

    Returns
    -------
    y : array, shape (b, l, d)
    last : array, shape (b, d, n)
    kept : array
        In the layout of the kernel; empty unless `keep`.
    """
    channels = u.shape[-1]
    u, delta, D = padded(u, delta, D)
    state = _blocked(h0)
    chunks = -(-u.shape[1] // CHUNK) if keep else 0
    kept = np.empty((len(u), chunks, *state.shape[1:]), u.dtype)
    y = np.empty_like(u)
    shape = (*u.shape, A.shape[1])
    share(_scan, shape, threads, u, delta, _rates(A), B, C, D, state, kept, y)
    return cropped(y, channels), _unblocked(state, channels), kept


def selective_scan_gradient(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    kept: Array,
    dy: Array,
    dlast: Array,
    *,
    threads: int = 1,
) -> tuple[Array, ...]:
    """Gradients by u, delta, A, B, C, D and h0, given those by y and the last state."""
    channels = u.shape[-1]
    u, delta, D, dy = padded(u, delta, D, dy)
    shape = (*u.shape, A.shape[1])
    pieces = pieces_of(shape, threads)
    du, ddelta, dstate = np.empty_like(u), np.empty_like(u), _blocked(dlast)
    dA, dD = np.zeros_like(dstate), np.zeros((len(u), u.shape[-1]), u.dtype)
    dB, dC = (np.empty((pieces, *B.shape), u.dtype) for _ in range(2))
    share(
        _gradient, shape, threads, u, delta, _rates(A), B, C, D, kept, dy,
        du, ddelta, dA, dB, dC, dD, dstate,
    )  # fmt: skip
    return (
        cropped(du, channels),
        cropped(ddelta, channels),
        _unblocked(dA.sum(axis=0), channels),
        dB.sum(axis=0),
        dC.sum(axis=0),
        cropped(dD.sum(axis=0), channels),
        _unblocked(dstate, channels),
    )


def _blocked(x: Array) -> Array:
    """A copy of (..., d, n) as (..., d / 16, n, 16)."""
    (x,) = padded(np.moveaxis(x, -1, -2))
    x = x.reshape(*x.shape[:-1], -1, LANES)
    return np.moveaxis(x, -2, -3).copy()


def _unblocked(x: Array, channels: int) -> Array:
    """(..., d / 16, n, 16) as (..., d, n)."""
    x = np.moveaxis(x, -1, -2)
    x = x.reshape(*x.shape[:-3], -1, x.shape[-1])
    return np.ascontiguousarray(x[..., :channels, :])


def _rates(A: Array) -> Array:
    """A to base 2."""
    return _blocked(A * A.dtype.type(LOG2_E))


@kernel
def _scan(first, last, pieces, u, delta, rates, B, C, D, state, kept, y):
    _, steps, channels = u.shape
    n_states = B.shape[2]
    size = n_states * LANES
    blocks = channels // LANES
    for item in range(first, last):
        row = item // pieces
        start, stop = channels_of(item % pieces, pieces, channels)
        for begin in range(0, steps, CHUNK):
            for block in range(start // LANES, stop // LANES):
                if kept.size > 0:
                    kept[row, begin // CHUNK, block] = state[row, block]
                h = (row * blocks + block) * size
                for t in range(begin, min(steps, begin + CHUNK)):
                    now = (row * steps + t) * channels + block * LANES
                    at = (row * steps + t) * n_states
                    step, x = load(delta, now), load(u, now)
                    out = load(D, block * LANES) * x
                    x = x * step
                    for n in range(n_states):
                        k = n * LANES
                        decay = exp2(step * load(rates, block * size + k))
                        new = multiply_add(decay, load(state, h + k), x * splat(B, at + n))
                        store(state, h + k, new)
                        out = multiply_add(new, splat(C, at + n), out)
                    store(y, now, out)


@kernel
def _gradient(
    first, last, pieces, u, delta, rates, B, C, D, kept, dy, du, ddelta, dA, dB, dC, dD, dstate
):
    _, steps, channels = u.shape
    n_states = B.shape[2]
    size = n_states * LANES
    blocks = channels // LANES
    h = scratch((CHUNK + 1) * size, u)  # states before and after every step of a chunk
    decays = scratch(CHUNK * size, u)
    sums_B, sums_C = scratch(CHUNK * size, u), scratch(CHUNK * size, u)  # not yet over lanes
    for item in range(first, last):
        row, piece = item // pieces, item % pieces
        start, stop = channels_of(piece, pieces, channels)
        for chunk in range(kept.shape[1] - 1, -1, -1):
            begin, end = chunk * CHUNK, min(steps, (chunk + 1) * CHUNK)
            sums_B[:] = 0
            sums_C[:] = 0
            for block in range(start // LANES, stop // LANES):
                h[:size] = kept[row, chunk, block].ravel()
                carry = (row * blocks + block) * size  # where this block stands in dA and dstate
                for t in range(begin, end):
                    now = (row * steps + t) * channels + block * LANES
                    at = (row * steps + t) * n_states
                    step = load(delta, now)
                    x = step * load(u, now)
                    own = (t - begin) * size
                    for n in range(n_states):
                        k = own + n * LANES
                        decay = exp2(step * load(rates, block * size + n * LANES))
                        new = multiply_add(decay, load(h, k), x * splat(B, at + n))
                        store(decays, k, decay)
                        store(h, k + size, new)
                for t in range(end - 1, begin - 1, -1):
                    now = (row * steps + t) * channels + block * LANES
                    at = (row * steps + t) * n_states
                    step, x, g = load(delta, now), load(u, now), load(dy, now)
                    product = step * x
                    through_A = through_B = constant(x, 0.0)
                    own = (t - begin) * size
                    for n in range(n_states):
                        k, c = own + n * LANES, carry + n * LANES
                        dh = multiply_add(g, splat(C, at + n), load(dstate, c))
                        decay = load(decays, k)
                        flow = dh * decay
                        store(dstate, c, flow)
                        flow = flow * load(h, k)
                        through_A = multiply_add(
                            flow, load(rates, block * size + n * LANES), through_A
                        )
                        through_B = multiply_add(dh, splat(B, at + n), through_B)
                        store(dA, c, multiply_add(flow, step, load(dA, c)))
                        store(sums_B, k, multiply_add(dh, product, load(sums_B, k)))
                        store(sums_C, k, multiply_add(g, load(h, k + size), load(sums_C, k)))
                    d = block * LANES
                    store(du, now, multiply_add(step, through_B, g * load(D, d)))
                    store(
                        ddelta,
                        now,
                        multiply_add(x, through_B, through_A * constant(x, 1 / LOG2_E)),
                    )
                    d += row * channels
                    store(dD, d, multiply_add(g, x, load(dD, d)))
            for t in range(begin, end):
                for n in range(n_states):
                    k = (t - begin) * size + n * LANES
                    dB[piece, row, t, n] = total(load(sums_B, k))
                    dC[piece, row, t, n] = total(load(sums_C, k))
