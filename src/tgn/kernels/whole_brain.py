"""Steps of whole-brain models: coupled oscillators, mean-field populations, and their BOLD signal.

All in float32, sixteen regions at a time. N is the number of regions filled up to a multiple of
sixteen; what is filled up is coupled to nothing. Noise is given, so that a plain loop over the same
numbers must give the same result. `tgn.fmri.hopf` and `tgn.fmri.mean_field` have the models and
their sources.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    where_below,
)

CHAINS = 4  # sums in flight: an addition waits for the one before it in its chain


class Transfer(NamedTuple):
    """``r = u / (1 - exp(-d u))`` with ``u = a I - b``: Hz from nA (Abbott and Chance 2005)."""

    a: float
    """1 / nC"""
    b: float
    """Hz"""
    d: float
    """s"""


EXCITATORY = Transfer(310.0, 125.0, 0.16)
INHIBITORY = Transfer(615.0, 177.0, 0.087)
EXTERNAL, EXCITED, INHIBITED = 0.382, 1.0, 0.7
"""Background current, nA, and its share in excitatory and inhibitory populations."""
RECURRENCE, NMDA = 1.4, 0.15
"""Weight of local excitation, and the NMDA current, nA."""
TAU_E, TAU_I, GAMMA = 0.1, 0.01, 0.641
"""Seconds of both gates, and what a spike opens of the closed ones."""

KAPPA, AUTOREGULATION, TRANSIT, STIFFNESS, EXTRACTION, VOLUME = 0.65, 0.41, 0.98, 0.32, 0.34, 0.02
"""Signal decay and flow feedback, 1/s; transit time, s; exponent, oxygen extraction, volume."""
BOLD = (7 * EXTRACTION, 2.0, 2 * EXTRACTION - 0.2)
HAEMODYNAMICS_AT_REST = (0.0, 1.0, 1.0, 1.0)
"""Vasodilation, flow, volume, deoxyhaemoglobin, of rest."""


def padded(values: ArrayLike, fill: float = 0.0) -> NDArray[np.float32]:
    """Numbers of regions, (..., R), filled up to (..., N)."""
    values = np.asarray(values, dtype=np.float32)
    spare = -values.shape[-1] % LANES
    widths = [(0, 0)] * (values.ndim - 1) + [(0, spare)]
    return np.ascontiguousarray(np.pad(values, widths, constant_values=fill))


def tiles(weights: NDArray) -> NDArray[np.float32]:
    """Weights (R, R), to a region from others, in the order in which the kernels read them.

    Sixteen receivers stand together, one group of them after the other: (N / 16, N, 16).
    """
    n = padded(weights[0]).size
    square = np.zeros((n, n), dtype=np.float32)
    square[: len(weights), : len(weights)] = weights
    return np.ascontiguousarray(square.reshape(n // LANES, LANES, n).swapaxes(1, 2))


@kernel
def received(weights, state, offset, drive):
    """Weighted sum, over all regions, of the N numbers of `state` from `offset` on."""
    n = weights.shape[1]
    for tile in range(weights.shape[0]):
        at = tile * n * LANES
        a = load(weights, at) * splat(state, offset)
        b = load(weights, at + LANES) * splat(state, offset + 1)
        c = load(weights, at + 2 * LANES) * splat(state, offset + 2)
        d = load(weights, at + 3 * LANES) * splat(state, offset + 3)
        for j in range(CHAINS, n, CHAINS):
            row = at + j * LANES
            a = multiply_add(load(weights, row), splat(state, offset + j), a)
            b = multiply_add(load(weights, row + LANES), splat(state, offset + j + 1), b)
            c = multiply_add(load(weights, row + 2 * LANES), splat(state, offset + j + 2), c)
            d = multiply_add(load(weights, row + 3 * LANES), splat(state, offset + j + 3), d)
        store(drive, offset + tile * LANES, (a + b) + (c + d))


@kernel
def hopf(state, noise, weights, rotation, first, last, dt):
    """Steps of coupled Stuart-Landau oscillators.

    A step is one of Euler and Maruyama in the frame that turns with each oscillator: plain Euler
    steps would add ``omega**2 dt / 2`` to the growth rate.

    Parameters
    ----------
    state : (2, N), both coordinates, changed in place
    noise : (steps, 2, N), standard normal
    weights : see `tiles`
    rotation : (2, N), cosine and sine of the angle of a step
    first, last : (3,), coupling and bifurcation parameter, 1/s, and standard deviation of the
        noise of a step, at the first step and after the last, linear in between
    dt : s
    """
    n, steps = state.shape[1], noise.shape[0]
    now = np.empty(3, dtype=np.float32)
    drive, strength, ones = scratch(2 * n, state), scratch(n, state), scratch(n, state)
    ones[:] = 1
    received(weights, ones, 0, strength)
    for step in range(steps):
        for p in range(3):
            now[p] = first[p] + (last[p] - first[p]) * np.float32(step) / np.float32(steps)
        now[0] *= np.float32(dt)
        received(weights, state, 0, drive)
        received(weights, state, n, drive)
        coupling, a, sigma = splat(now, 0), splat(now, 1), splat(now, 2)
        for k in range(0, n, LANES):
            x, y = load(state, k), load(state, n + k)
            total = load(strength, k)
            grow = (a - (x * x + y * y)) * constant(x, dt) - coupling * total
            u = x + grow * x + coupling * load(drive, k)
            v = y + grow * y + coupling * load(drive, n + k)
            u = multiply_add(sigma, load(noise, 2 * step * n + k), u)
            v = multiply_add(sigma, load(noise, 2 * step * n + n + k), v)
            cosine, sine = load(rotation, k), load(rotation, n + k)
            store(state, k, cosine * u - sine * v)
            store(state, n + k, sine * u + cosine * v)


@kernel
def _rate(current, gain, transfer):
    """Hz; near u = 0, where the quotient loses its digits, the series."""
    a, b, d = transfer
    z = gain * (current * constant(current, a * d) - constant(current, b * d))
    one = constant(z, 1.0)
    quotient = z / (one - exp2(z * constant(z, -LOG2_E)))
    series = multiply_add(multiply_add(z, constant(z, 1 / 12), constant(z, 0.5)), z, one)
    ratio = where_below(z * z, constant(z, 0.01), series, quotient)
    return ratio * constant(z, 1 / d)


@kernel
def _fraction(x):
    zero, one = constant(x, 0.0), constant(x, 1.0)
    x = where_below(x, zero, zero, x)
    return where_below(one, x, one, x)


@kernel
def mean_field(state, noise, weights, inhibition, first, last, dt, activity, rates):
    """Steps of excitatory and inhibitory populations with feedback inhibition.

    Parameters
    ----------
    state : (2, N), open shares of excitatory and inhibitory gates, changed in place
    noise : (steps, 2, N), standard normal
    weights : see `tiles`
    inhibition : (N,), weight of the local feedback, nA
    first, last : (3,), coupling, gain of the excitatory transfer function, and standard deviation
        of the noise of a step, at the first step and after the last, linear in between
    dt : s
    activity : (bins, N), written: excitatory gates, mean over each bin
    rates : (N,), the excitatory rate of every step, Hz, is added to it
    """
    n = state.shape[1]
    steps, bins = noise.shape[0], activity.shape[0]
    stride = steps // bins
    now = np.empty(3, dtype=np.float32)
    drive, total = scratch(n, state), scratch(n, state)
    total[:] = 0
    for step in range(steps):
        for p in range(3):
            now[p] = first[p] + (last[p] - first[p]) * np.float32(step) / np.float32(steps)
        now[0] *= np.float32(NMDA)
        received(weights, state, 0, drive)
        coupling, gain, sigma = splat(now, 0), splat(now, 1), splat(now, 2)
        for k in range(0, n, LANES):
            e, i = load(state, k), load(state, n + k)
            one = constant(e, 1.0)
            current = multiply_add(coupling, load(drive, k), constant(e, EXCITED * EXTERNAL))
            current = multiply_add(e, constant(e, RECURRENCE * NMDA), current)
            rate = _rate(current - load(inhibition, k) * i, gain, EXCITATORY)
            feedback = multiply_add(e, constant(e, NMDA), constant(e, INHIBITED * EXTERNAL)) - i
            opening = (one - e) * rate * constant(e, GAMMA * dt)
            e_next = multiply_add(e, constant(e, 1 - dt / TAU_E), opening)
            e_next = multiply_add(sigma, load(noise, 2 * step * n + k), e_next)
            opening = _rate(feedback, one, INHIBITORY) * constant(e, dt)
            i_next = multiply_add(i, constant(i, 1 - dt / TAU_I), opening)
            i_next = multiply_add(sigma, load(noise, 2 * step * n + n + k), i_next)
            e_next = _fraction(e_next)
            store(state, k, e_next)
            store(state, n + k, _fraction(i_next))
            store(total, k, load(total, k) + e_next)
            store(rates, k, load(rates, k) + rate)
        if (step + 1) % stride == 0:
            for k in range(n):
                activity[step // stride, k] = total[k] / np.float32(stride)
                total[k] = 0


@kernel
def balloon(state, activity, dt, signal):
    """BOLD signal of neural activity by the balloon model, an Euler step for each bin of activity.

    Parameters
    ----------
    state : (4, N), vasodilatory signal, flow, volume, deoxyhaemoglobin, changed in place
    activity : (bins, N)
    dt : of a bin, s
    signal : (N,), written: fractional change of the signal after the last bin
    """
    n, bins = state.shape[1], activity.shape[0]
    root = scratch(n, state)
    for step in range(bins):
        for k in range(n):
            # The exponent 1 / 0.32 is 3 + 1 / 8.
            root[k] = np.sqrt(np.sqrt(np.sqrt(state[2, k])))
        for k in range(0, n, LANES):
            s, flow = load(state, k), load(state, n + k)
            volume, content = load(state, 2 * n + k), load(state, 3 * n + k)
            one, step_length = constant(s, 1.0), constant(s, dt)
            outflow = volume * volume * volume * load(root, k)
            extracted = one - exp2(constant(s, np.log2(1 - EXTRACTION)) / flow)
            ds = load(activity, step * n + k) - constant(s, KAPPA) * s
            ds = ds - constant(s, AUTOREGULATION) * (flow - one)
            transit = constant(s, dt / TRANSIT)
            inflow = flow * extracted * constant(s, 1 / EXTRACTION)
            store(state, k, multiply_add(step_length, ds, s))
            store(state, n + k, multiply_add(step_length, s, flow))
            store(state, 2 * n + k, multiply_add(transit, flow - outflow, volume))
            content_change = inflow - outflow * content / volume
            store(state, 3 * n + k, multiply_add(transit, content_change, content))
    for k in range(n):
        volume, content = state[2, k], state[3, k]
        signal[k] = np.float32(VOLUME) * (
            np.float32(BOLD[0]) * (1 - content)
            + np.float32(BOLD[1]) * (1 - content / volume)
            + np.float32(BOLD[2]) * (1 - volume)
        )
