"""Weights of gravity attention and their gradients, on tiles of scores that stay in cache.

Of head h, token j draws token i >= j with

    A_ij ~ w_ij exp(s_ij),  s_ij = gamma m_j / (d2_ij + epsilon) + beta [i = j],

where d2_ij is the squared distance of their coordinates, m_j a mass and w_ij a window: 1 (none),
max(0, 1 - d2 / R2) (soft) or 1 within R2 and 0 outside (hard). The diagonal has d2 = 0 and w = 1.
A tile comes in as the products of coordinates, of which d2 is made in one pass, and goes out as
weights; the backward pass makes them again. Matrix products are left to the caller, and so is the
choice of the tokens that are columns: it may leave out those whose window is 0.
"""

from __future__ import annotations

import numpy as np

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
    where_below,
)

WINDOWS = ("none", "soft", "hard")
LEAST = -1e30  # a score that is none


@kernel
def _window(d2, kind, radius2, inverse):
    """w of lanes of squared distances."""
    one, zero = constant(d2, 1.0), constant(d2, 0.0)
    if kind == 1:
        w = one - d2 * inverse
        return where_below(w, zero, zero, w)
    if kind == 2:
        return where_below(radius2, d2, zero, one)  # 1 also where d2 is NaN, to be seen
    return one


@kernel
def _fill(numbers, place, value):
    """Sixteen times a number, to be read as lanes."""
    for k in range(place * LANES, (place + 1) * LANES):
        numbers[k] = value


@kernel
def weigh(first, last, window, tile, starts, norms, masses, gamma, epsilon, radius2, beta, log_sum):
    """Turn tiles of products into weights, whose rows sum to 1.

    Parameters
    ----------
    first, last : int
        Items (sequences' heads) to work on.
    window : int
        Index in `WINDOWS`.
    tile : array, shape (items, rows, columns)
        Products z_i z_j, overwritten by A. The last columns are the rows' own tokens, and columns
        are a multiple of 16.
    starts : array, shape (columns / 16,)
        Which token the first of every sixteen columns is; the others follow it.
    norms, masses : array, shape (items, tokens)
        |z_j|^2 and m_j.
    gamma, epsilon, radius2, beta : array, shape (items,)
    log_sum : array, shape (items, tokens)
        Overwritten, of the rows' tokens, by log sum_j w_ij exp(s_ij).
    """
    _, rows, columns = tile.shape
    tokens = norms.shape[1]
    top_row = starts[-1] + LANES - rows  # token of the first row
    counts, windows = scratch(columns, tile), scratch(columns, tile)
    numbers = scratch(8 * LANES, tile)
    for c in range(columns):
        counts[c] = c
    for item in range(first, last):
        _fill(numbers, 0, gamma[item])
        _fill(numbers, 1, epsilon[item])
        _fill(numbers, 2, radius2[item])
        _fill(numbers, 3, 1 / radius2[item])
        g, e = load(numbers, 0), load(numbers, LANES)
        r2, inverse = load(numbers, 2 * LANES), load(numbers, 3 * LANES)
        zero, least = constant(g, 0.0), constant(g, LEAST)
        origin = item * tokens
        for r in range(rows):
            token, own = top_row + r, columns - rows + r  # the row's own token, and its column
            end = (own // LANES + 1) * LANES
            base = (item * rows + r) * columns
            _fill(numbers, 4, own - 0.5)
            before = load(numbers, 4 * LANES)
            norm = splat(norms, origin + token)
            highest = least
            for c in range(0, end, LANES):
                there = origin + starts[c // LANES]
                d2 = norm + load(norms, there) - constant(g, 2.0) * load(tile, base + c)
                d2 = where_below(d2, zero, zero, d2)
                w = _window(d2, window, r2, inverse)
                s = g * load(masses, there) / (d2 + e)
                s = where_below(load(counts, c), before, s, least)
                s = where_below(zero, w, s, least)
                store(windows, c, w)
                store(tile, base + c, s)
                highest = where_below(highest, s, s, highest)
            tile[item, r, own] = gamma[item] * masses[item, token] / epsilon[item] + beta[item]
            windows[own] = 1
            store(numbers, 5 * LANES, highest)
            top = tile[item, r, own]
            for k in range(LANES):
                top = max(top, numbers[5 * LANES + k])
            _fill(numbers, 6, -top * LOG2_E)
            shift, mass = load(numbers, 6 * LANES), zero
            for c in range(0, end, LANES):
                p = exp2(multiply_add(load(tile, base + c), constant(g, LOG2_E), shift))
                p = p * load(windows, c)
                store(tile, base + c, p)
                mass = mass + p
            for c in range(own + 1, end):  # 2**-126, and not quite 0
                tile[item, r, c] = 0
            summed = total(mass)
            log_sum[item, token] = top + np.log(summed)
            _fill(numbers, 7, 1 / summed)
            scale = load(numbers, 7 * LANES)
            for c in range(0, end, LANES):
                store(tile, base + c, load(tile, base + c) * scale)
            for c in range(end, columns, LANES):
                store(tile, base + c, zero)


@kernel
def differentiate(
    first,
    last,
    window,
    tile,
    slopes,
    starts,
    norms,
    masses,
    gamma,
    epsilon,
    radius2,
    beta,
    log_sum,
    along,
    into,
    d_masses,
    d_gamma,
    d_epsilon,
    d_radius2,
    d_beta,
):
    """Gradients of what was computed from the weights of :func:`weigh`.

    Parameters
    ----------
    tile : array, shape (items, rows, columns)
        Products, overwritten by A.
    slopes : array, shape (items, rows, columns)
        dL/dA, overwritten by dL/d(d2).
    starts, norms, masses, gamma, epsilon, radius2, beta
        As in :func:`weigh`.
    log_sum : array, shape (items, tokens)
        Of :func:`weigh`.
    along : array, shape (items, tokens)
        sum_j A_ij dL/dA_ij.
    into : array, shape (items, tokens)
        The sums of dL/d(d2) over rows, and those over columns, are added.
    d_masses : array, shape (items, tokens)
    d_gamma, d_epsilon, d_radius2, d_beta : array, shape (items,)
        The gradients are added. A hard window gives the radius none.
    """
    _, rows, columns = tile.shape
    tokens = norms.shape[1]
    top_row = starts[-1] + LANES - rows
    counts = scratch(columns, tile)
    numbers = scratch(8 * LANES, tile)
    for c in range(columns):
        counts[c] = c
    for item in range(first, last):
        _fill(numbers, 0, gamma[item])
        _fill(numbers, 1, epsilon[item])
        _fill(numbers, 2, radius2[item])
        _fill(numbers, 3, 1 / radius2[item])
        g, e = load(numbers, 0), load(numbers, LANES)
        r2, inverse = load(numbers, 2 * LANES), load(numbers, 3 * LANES)
        zero, one = constant(g, 0.0), constant(g, 1.0)
        sum_gamma, sum_epsilon, sum_radius2 = zero, zero, zero
        origin = item * tokens
        for r in range(rows):
            token, own = top_row + r, columns - rows + r
            end = (own // LANES + 1) * LANES
            base = (item * rows + r) * columns
            _fill(numbers, 4, own - 0.5)
            before = load(numbers, 4 * LANES)
            _fill(numbers, 5, -log_sum[item, token] * LOG2_E)
            shift = load(numbers, 5 * LANES)
            mean = splat(along, origin + token)
            norm = splat(norms, origin + token)
            own_slope = slopes[item, r, own] - along[item, token]
            row_sum = zero
            for c in range(0, end, LANES):
                there = origin + starts[c // LANES]
                d2 = norm + load(norms, there) - constant(g, 2.0) * load(tile, base + c)
                apart = where_below(zero, d2, one, zero)  # where d2 was clamped it has no slope
                d2 = d2 * apart
                near = one / (d2 + e)
                m = load(masses, there)
                s = g * m * near
                u = exp2(multiply_add(s, constant(g, LOG2_E), shift))  # A = w u
                u = where_below(load(counts, c), before, u, zero)
                w = _window(d2, window, r2, inverse)
                u = where_below(zero, w, u, zero)  # which may be infinite outside
                p = u * w
                store(tile, base + c, p)
                slope = load(slopes, base + c) - mean
                ds = p * slope
                t = ds * near
                sum_gamma = multiply_add(t, m, sum_gamma)
                store(d_masses, there, multiply_add(t, g, load(d_masses, there)))
                sum_epsilon = sum_epsilon - t * s
                dd2 = zero - t * s
                if window == 1:
                    dw = u * slope
                    sum_radius2 = multiply_add(dw, d2, sum_radius2)
                    dd2 = dd2 - dw * inverse
                dd2 = dd2 * apart
                store(slopes, base + c, dd2)
                store(into, there, load(into, there) + dd2)
                row_sum = row_sum + dd2
            into[item, token] += total(row_sum)
            pull = masses[item, token] / epsilon[item]
            score = gamma[item] * pull + beta[item]
            tile[item, r, own] = np.exp(score - log_sum[item, token])
            slopes[item, r, own] = 0
            ds_own = tile[item, r, own] * own_slope
            d_gamma[item] += ds_own * pull
            d_masses[item, token] += ds_own * gamma[item] / epsilon[item]
            d_epsilon[item] -= ds_own * gamma[item] * pull / epsilon[item]
            d_beta[item] += ds_own
            for c in range(end, columns, LANES):
                store(tile, base + c, zero)
                store(slopes, base + c, zero)
        d_gamma[item] += total(sum_gamma)
        d_epsilon[item] += total(sum_epsilon)
        d_radius2[item] += total(sum_radius2) / (radius2[item] * radius2[item])
