"""Spectra of the Pearson matrices of many windows, sixteen windows at a time.

Where a window has fewer volumes w than parcels P, the Pearson matrix has the eigenvalues of the
w x w Gram matrix of its z-scored columns (divided by w), and P - w more that are zero. LAPACK
takes such small matrices one by one and mostly waits; here sixteen windows fill the lanes of every
instruction. Working arrays have the lanes last: element i of lane k is number 16 * i + k.

Sources: Golub and Van Loan, *Matrix Computations* (4th ed.), section 8.3.1 (Householder
tridiagonalisation); Reinsch 1973, "A stable, rational QL algorithm", Algorithm 464 (the
iteration without square roots, also in LAPACK's dsterf).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.lanes import LANES, constant, load, multiply_add, scratch, store, where_below

Array = NDArray[np.float64]

_TILE = 3  # rows and columns of the Gram matrix that are kept in registers
# Parcels whose z-scores are kept in the cache. An odd number, lest all rows compete for the same
# places in it.
_PARCELS = 25
_TOLERANCE = 1e-15  # of the off-diagonal, relative to the trace
_MOST_SWEEPS = 60  # for one eigenvalue; two or three are usual


def dual_spectra(signals: Array, window: int, step: int = 1) -> tuple[Array, Array]:
    """Eigenvalues of the Gram matrices of z-scored windows, and the variances in each window.

    Parameters
    ----------
    signals : array, shape (T, P)
        Finite, with T >= `window` >= 2.
    window, step : int
        Volumes of a window, and from the first of one to the first of the next.

    Returns
    -------
    eigenvalues : array, shape (n, window)
        In no order; divided by `window` they are those of the Pearson matrix. Their errors are
        of the order of rounding errors of the largest one. n = (T - window) // step + 1.
    variances : array, shape (n, P)
        Population variances, exactly 0 for a column that is constant in a window; the
        eigenvalues of such a window are not numbers.
    """
    volumes, parcels = signals.shape
    n_windows = (volumes - window) // step + 1
    n_lanes = -(-n_windows // LANES) * LANES
    # The last group of windows is filled up with ones that run over the end into the beginning.
    columns = n_lanes + -(-window // step)
    wrapped = np.take(signals, np.arange(columns * step) % volumes, axis=0)
    # Volume `step * q + r` at [r, q]: neighbouring windows are neighbours in memory.
    laid_out = np.ascontiguousarray(wrapped.reshape(columns, step, parcels).transpose(2, 1, 0))
    eigenvalues, variances = np.empty((n_lanes, window)), np.empty((parcels, n_lanes))
    _eigenvalues(laid_out, window, eigenvalues, variances)
    return eigenvalues[:n_windows], variances.T[:n_windows]


@kernel
def _eigenvalues(signals, window, eigenvalues, variances):
    parcels, windows = variances.shape
    rows = -(-window // _TILE) * _TILE
    gram = scratch(rows * rows * LANES, signals)
    z = scratch(rows * _PARCELS * LANES, signals)
    room = scratch((6 * window + 3) * LANES, signals)
    d, e = room[: window * LANES], room[window * LANES : 2 * window * LANES]
    room = room[2 * window * LANES :]
    z[:] = 0.0
    _, step, columns = signals.shape
    places = np.empty(window, np.int64)  # of the volumes of a window
    for t in range(window):
        places[t] = t % step * columns + t // step
    for first in range(0, windows, LANES):
        gram[:] = 0.0
        for parcel in range(0, parcels, _PARCELS):
            count = min(_PARCELS, parcels - parcel)
            for p in range(count):
                _standardise(signals, places, first, parcel + p, variances, z, p, room)
            _add_products(z, rows, count, gram)
        _tridiagonalise(gram, rows, window, d, e, room)
        _iterate(d, e, window, room)
        for i in range(window):
            for lane in range(LANES):
                eigenvalues[first + lane, i] = d[i * LANES + lane]


@kernel
def _standardise(signals, places, first, parcel, variances, z, p, room):
    """z-scores of a parcel in sixteen windows from `first` on, as number p of `z`."""
    window = places.size
    start = parcel * signals[0].size + first
    # Sums of differences from the first volume: those of a constant are exactly 0.
    origin = load(signals, start)
    total = constant(origin, 0.0)
    squares = constant(origin, 0.0)
    for t in range(1, window):
        x = load(signals, start + places[t]) - origin
        total = total + x
        squares = multiply_add(x, x, squares)
    share = constant(origin, 1.0 / window)
    mean = total * share
    store(room, 0, (squares - total * mean) * share)
    for lane in range(LANES):
        variance = max(room[lane], 0.0)
        variances[parcel, first + lane] = variance
        room[lane] = 1.0 / np.sqrt(variance)
    scale = load(room, 0)
    mean = origin + mean
    for t in range(window):
        x = load(signals, start + places[t])
        store(z, (t * _PARCELS + p) * LANES, (x - mean) * scale)


@kernel
def _add_products(z, rows, count, gram):
    """Add the products over `count` parcels to the lower triangle of the Gram matrices."""
    run = _PARCELS * LANES
    for i in range(0, rows, _TILE):
        for j in range(0, i + 1, _TILE):
            # Nine sums in registers, written out: numba keeps no small array there.
            k0 = (i * rows + j) * LANES
            k1 = k0 + rows * LANES
            k2 = k1 + rows * LANES
            s00, s01, s02 = load(gram, k0), load(gram, k0 + LANES), load(gram, k0 + 2 * LANES)
            s10, s11, s12 = load(gram, k1), load(gram, k1 + LANES), load(gram, k1 + 2 * LANES)
            s20, s21, s22 = load(gram, k2), load(gram, k2 + LANES), load(gram, k2 + 2 * LANES)
            for p in range(count):
                left, right = i * run + p * LANES, j * run + p * LANES
                b0, b1, b2 = load(z, right), load(z, right + run), load(z, right + 2 * run)
                a = load(z, left)
                s00 = multiply_add(a, b0, s00)
                s01 = multiply_add(a, b1, s01)
                s02 = multiply_add(a, b2, s02)
                a = load(z, left + run)
                s10 = multiply_add(a, b0, s10)
                s11 = multiply_add(a, b1, s11)
                s12 = multiply_add(a, b2, s12)
                a = load(z, left + 2 * run)
                s20 = multiply_add(a, b0, s20)
                s21 = multiply_add(a, b1, s21)
                s22 = multiply_add(a, b2, s22)
            store(gram, k0, s00)
            store(gram, k0 + LANES, s01)
            store(gram, k0 + 2 * LANES, s02)
            store(gram, k1, s10)
            store(gram, k1 + LANES, s11)
            store(gram, k1 + 2 * LANES, s12)
            store(gram, k2, s20)
            store(gram, k2 + LANES, s21)
            store(gram, k2 + 2 * LANES, s22)


@kernel
def _tridiagonalise(a, stride, n, d, e, room):
    """Diagonal d and squared off-diagonal e of n x n lower triangles `a`, which are overwritten.

    The rank-two update of one reflection waits for the matrix-vector product of the next, so
    that each reflection passes once through the matrix.
    """
    u, v = room[: n * LANES], room[n * LANES : 2 * n * LANES]
    w, p = room[2 * n * LANES : 3 * n * LANES], room[3 * n * LANES : 4 * n * LANES]
    tau = room[4 * n * LANES :]
    v[:] = 0.0
    w[:] = 0.0
    for k in range(n):
        vk, wk = load(v, k * LANES), load(w, k * LANES)
        x = load(a, (k * stride + k) * LANES)
        store(d, k * LANES, x - (vk * wk + wk * vk))
        if k == n - 1:
            break
        for i in range(k + 1, n):
            x = load(a, (i * stride + k) * LANES)
            x = x - multiply_add(load(v, i * LANES), wk, load(w, i * LANES) * vk)
            store(u, i * LANES, x)
            store(p, i * LANES, constant(x, 0.0))
        _reflect(u, n, k, e, tau)
        _update_and_multiply(a, stride, n, k + 1, u, v, w, p)
        # w = tau p - (tau**2 / 2) (p'u) u, and the update to come is -u w' - w u'
        t = load(tau, 0)
        product = constant(t, 0.0)
        for i in range(k + 1, n):
            product = multiply_add(load(p, i * LANES), load(u, i * LANES), product)
        share = constant(t, -0.5) * t * t * product
        for i in range(k + 1, n):
            x = load(u, i * LANES)
            store(v, i * LANES, x)
            store(w, i * LANES, multiply_add(share, x, t * load(p, i * LANES)))


@kernel
def _reflect(u, n, k, e, tau):
    """Turn the column below element k, in u, into its reflector ``1 - tau u u'``; set e[k]."""
    rest = constant(load(u, (k + 1) * LANES), 0.0)
    for i in range(k + 2, n):
        x = load(u, i * LANES)
        rest = multiply_add(x, x, rest)
    store(tau, 0, rest)
    for lane in range(LANES):
        top = u[(k + 1) * LANES + lane]
        square = top * top + tau[lane]
        norm = np.sqrt(square)
        e[k * LANES + lane] = square
        u[(k + 1) * LANES + lane] = top + (norm if top >= 0 else -norm)
        tau[lane] = 1.0 / (norm * (norm + abs(top))) if norm > 0 else 0.0


@kernel
def _update_and_multiply(a, stride, n, first, u, v, w, p):
    """``a -= v w' + w v'`` and then ``p += a u``, in rows and columns from `first` on."""
    i = first
    if (n - first) % 2:  # the others go in pairs of rows
        x = _updated(a, i * stride + i, v, w, i, i)
        store(p, i * LANES, multiply_add(x, load(u, i * LANES), load(p, i * LANES)))
        i += 1
    while i < n:
        u0, v0, w0 = load(u, i * LANES), load(v, i * LANES), load(w, i * LANES)
        j = (i + 1) * LANES
        u1, v1, w1 = load(u, j), load(v, j), load(w, j)
        p0 = constant(u0, 0.0)
        p1 = constant(u0, 0.0)
        row = i * stride * LANES
        next_row = row + stride * LANES
        for j in range(first * LANES, i * LANES, LANES):
            uj, vj, wj = load(u, j), load(v, j), load(w, j)
            x = load(a, row + j) - multiply_add(v0, wj, w0 * vj)
            y = load(a, next_row + j) - multiply_add(v1, wj, w1 * vj)
            store(a, row + j, x)
            store(a, next_row + j, y)
            p0 = multiply_add(x, uj, p0)
            p1 = multiply_add(y, uj, p1)
            store(p, j, multiply_add(y, u1, multiply_add(x, u0, load(p, j))))
        x = _updated(a, i * stride + i, v, w, i, i)
        y = _updated(a, (i + 1) * stride + i, v, w, i + 1, i)
        p0 = multiply_add(y, u1, multiply_add(x, u0, p0))
        x = _updated(a, (i + 1) * stride + i + 1, v, w, i + 1, i + 1)
        p1 = multiply_add(x, u1, multiply_add(y, u0, p1))
        store(p, i * LANES, load(p, i * LANES) + p0)
        store(p, (i + 1) * LANES, load(p, (i + 1) * LANES) + p1)
        i += 2


@kernel
def _updated(a, k, v, w, i, j):
    """Element k of `a`, in row i and column j, after its update, which is also stored."""
    x = load(a, k * LANES)
    x = x - multiply_add(
        load(v, i * LANES), load(w, j * LANES), load(w, i * LANES) * load(v, j * LANES)
    )
    store(a, k * LANES, x)
    return x


@kernel
def _iterate(d, e, n, room):
    """Turn d into the eigenvalues of tridiagonal matrices; e, squared, is lost.

    All lanes take the same sweeps: one more does no harm to a lane that has converged.
    """
    shift, limit = room[:LANES], room[LANES : 2 * LANES]
    limit[:] = 0.0
    for i in range(n):
        for lane in range(LANES):
            limit[lane] += d[i * LANES + lane]
    for lane in range(LANES):
        limit[lane] = (_TOLERANCE * limit[lane]) ** 2
    for k in range(n - 1):
        for _ in range(_MOST_SWEEPS):
            unfinished = 0
            for lane in range(LANES):
                unfinished += e[k * LANES + lane] > limit[lane]
            if unfinished == 0:
                break
            _wilkinson_shift(d, e, k, shift)
            _sweep(d, e, k, n, load(shift, 0))


@kernel
def _wilkinson_shift(d, e, k, shift):
    for lane in range(LANES):
        first, second = d[k * LANES + lane], d[(k + 1) * LANES + lane]
        root = max(np.sqrt(e[k * LANES + lane]), 1e-150)
        half = (second - first) / (2.0 * root)
        radius = np.sqrt(half * half + 1.0)
        shift[lane] = first - root / (half + (radius if half >= 0 else -radius))


@kernel
def _sweep(d, e, k, n, sigma):
    """One implicit QL step with shift `sigma` on rows k ... n - 1."""
    zero, one, tiny = constant(sigma, 0.0), constant(sigma, 1.0), constant(sigma, 1e-300)
    cosine, sine = one, zero  # squared
    gamma = load(d, (n - 1) * LANES) - sigma
    p = gamma * gamma
    for i in range(n - 2, k - 1, -1):
        b = load(e, i * LANES)
        r = p + b
        if i < n - 2:
            store(e, (i + 1) * LANES, sine * r)
        inverse = one / r
        last_cosine, last_gamma = cosine, gamma
        cosine = where_below(tiny, r, p * inverse, one)
        sine = where_below(tiny, r, b * inverse, zero)
        x = load(d, i * LANES)
        gamma = cosine * (x - sigma) - sine * last_gamma
        store(d, (i + 1) * LANES, last_gamma + (x - gamma))
        p = where_below(tiny, cosine, gamma * gamma / cosine, last_cosine * b)
    store(e, k * LANES, sine * p)
    store(d, k * LANES, sigma + gamma)
