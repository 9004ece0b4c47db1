"""Linear recurrences over time, one for each channel, and their gradients.

Arrays are C-contiguous, all float32 or all float64, with axes (batch, time, channel); the inner
loop runs over channels. Gradients need the inputs and h, and recompute the rest. They go through
memory strictly backwards: with channels upwards and time downwards the CPU fails to prefetch, which
takes five times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.lanes import LANES, constant, load, multiply_add, sigmoid, store, where_below

Array = NDArray[Any]

WORTH_THREADS = 2**20
"""States to compute, below which starting threads takes longer than the work."""


def linear_scan(a: Array, b: Array, h0: Array, *, threads: int = 1) -> Array:
    """``h[t] = a[t] * h[t - 1] + b[t]``, shape (B, T, D), with ``h[-1] = h0`` of shape (B, D)."""
    channels = a.shape[-1]
    a, b, h0 = padded(a, b, h0)
    h = np.empty_like(a)
    share(_linear_scan, h.shape, threads, a, b, h0, h)
    return cropped(h, channels)


def linear_scan_gradient(
    a: Array, h: Array, h0: Array, dh: Array, *, threads: int = 1
) -> tuple[Array, Array, Array]:
    """Gradients by a, b and h0, given that by h."""
    channels = a.shape[-1]
    a, h, h0, dh = padded(a, h, h0, dh)
    da, db, dh0 = np.empty_like(a), np.empty_like(a), np.zeros_like(h0)
    share(_linear_scan_gradient, h.shape, threads, a, h, h0, dh, da, db, dh0)
    return cropped(da, channels), cropped(db, channels), cropped(dh0, channels)


def min_gru(gate: Array, candidate: Array, h0: Array, *, threads: int = 1) -> Array:
    """``h[t] = (1 - z) h[t - 1] + z g(candidate[t])`` with ``z = sigmoid(gate[t])``.

    g(x) is x + 1/2 where x >= 0, else sigmoid(x). Shapes as in `linear_scan`.
    """
    channels = gate.shape[-1]
    gate, candidate, h0 = padded(gate, candidate, h0)
    h = np.empty_like(gate)
    share(_min_gru, h.shape, threads, gate, candidate, h0, h)
    return cropped(h, channels)


def min_gru_gradient(
    gate: Array, candidate: Array, h: Array, h0: Array, dh: Array, *, threads: int = 1
) -> tuple[Array, Array, Array]:
    """Gradients by gate, candidate and h0, given that by h."""
    channels = gate.shape[-1]
    gate, candidate, h, h0, dh = padded(gate, candidate, h, h0, dh)
    dgate, dcandidate, dh0 = np.empty_like(gate), np.empty_like(gate), np.zeros_like(h0)
    share(_min_gru_gradient, h.shape, threads, gate, candidate, h, h0, dh, dgate, dcandidate, dh0)
    return cropped(dgate, channels), cropped(dcandidate, channels), cropped(dh0, channels)


def padded(*arrays: Array) -> list[Array]:
    """The arrays with zeros behind the last axis, up to whole lanes; as they are if they fit."""
    missing = -arrays[0].shape[-1] % LANES
    if missing == 0:
        return list(arrays)
    return [np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) for x in arrays]


def cropped(array: Array, channels: int) -> Array:
    """The first `channels` of the last axis, contiguous."""
    return np.ascontiguousarray(array[..., :channels])


def share(function: Callable, shape: tuple[int, ...], threads: int, *arrays: Array) -> None:
    """Call ``function(first, last, pieces, *arrays)`` on parts of the work in several threads.

    Item i is piece ``i % pieces`` of the channels of row ``i // pieces``. The kernels give up the
    interpreter lock. No pool is kept, since threads do not survive a fork.

    Parameters
    ----------
    shape
        Rows, time, channels, and states of a channel if there are several.
    """
    rows, pieces = shape[0], pieces_of(shape, threads)
    parts = min(threads, rows * pieces)
    if parts <= 1 or prod(shape) < WORTH_THREADS:
        function(0, rows * pieces, pieces, *arrays)
        return
    bounds = [rows * pieces * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        calls = [
            pool.submit(function, first, last, pieces, *arrays) for first, last in pairwise(bounds)
        ]
    for call in calls:
        call.result()


def pieces_of(shape: tuple[int, ...], threads: int) -> int:
    """Pieces of the channels: one unless there are fewer rows than threads."""
    rows, _, channels = shape[:3]
    return 1 if rows >= threads else max(1, min(threads, channels // LANES))


@kernel
def channels_of(piece, pieces, channels):
    """First and last channel of a piece, in whole lanes."""
    blocks = channels // LANES
    return blocks * piece // pieces * LANES, blocks * (piece + 1) // pieces * LANES


@kernel
def _linear_scan(first, last, pieces, a, b, h0, h):
    _, steps, channels = h.shape
    for item in range(first, last):
        row = item // pieces
        start, stop = channels_of(item % pieces, pieces, channels)
        for t in range(steps):
            now = (row * steps + t) * channels
            for c in range(start, stop, LANES):
                before = load(h0, row * channels + c) if t == 0 else load(h, now - channels + c)
                store(h, now + c, multiply_add(load(a, now + c), before, load(b, now + c)))


@kernel
def _linear_scan_gradient(first, last, pieces, a, h, h0, dh, da, db, dh0):
    _, steps, channels = h.shape
    for item in range(first, last):
        row = item // pieces
        start, stop = channels_of(item % pieces, pieces, channels)
        for t in range(steps - 1, -1, -1):
            now = (row * steps + t) * channels
            for c in range(stop - LANES, start - 1, -LANES):
                state = row * channels + c
                before = load(h0, state) if t == 0 else load(h, now - channels + c)
                total = load(dh, now + c) + load(dh0, state)  # dh0: what flows back from t + 1
                store(db, now + c, total)
                store(da, now + c, total * before)
                store(dh0, state, total * load(a, now + c))


@kernel
def _min_gru(first, last, pieces, gate, candidate, h0, h):
    _, steps, channels = h.shape
    for item in range(first, last):
        row = item // pieces
        start, stop = channels_of(item % pieces, pieces, channels)
        for t in range(steps):
            now = (row * steps + t) * channels
            for c in range(start, stop, LANES):
                before = load(h0, row * channels + c) if t == 0 else load(h, now - channels + c)
                z, x = sigmoid(load(gate, now + c)), load(candidate, now + c)
                g = where_below(x, constant(x, 0.0), sigmoid(x), x + constant(x, 0.5))
                store(h, now + c, multiply_add(z, g - before, before))


@kernel
def _min_gru_gradient(first, last, pieces, gate, candidate, h, h0, dh, dgate, dcandidate, dh0):
    _, steps, channels = h.shape
    for item in range(first, last):
        row = item // pieces
        start, stop = channels_of(item % pieces, pieces, channels)
        for t in range(steps - 1, -1, -1):
            now = (row * steps + t) * channels
            for c in range(stop - LANES, start - 1, -LANES):
                state = row * channels + c
                before = load(h0, state) if t == 0 else load(h, now - channels + c)
                z, x = sigmoid(load(gate, now + c)), load(candidate, now + c)
                zero, one = constant(x, 0.0), constant(x, 1.0)
                s = sigmoid(x)
                g = where_below(x, zero, s, x + constant(x, 0.5))
                slope = where_below(x, zero, s * (one - s), one)
                total = load(dh, now + c) + load(dh0, state)  # dh0: what flows back from t + 1
                through = total * z
                store(dcandidate, now + c, through * slope)
                store(dgate, now + c, through * (one - z) * (g - before))
                store(dh0, state, total - through)
