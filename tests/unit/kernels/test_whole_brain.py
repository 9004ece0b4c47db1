"""Steps of whole-brain models against plain loops in double precision on the same noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.kernels import whole_brain as kernels
from tgn.kernels.compiling import kernel
from tgn.kernels.lanes import LANES, load, splat, store

REGIONS = 21  # neither a multiple of sixteen nor of four


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def weights(rng):
    weights = rng.exponential(size=(REGIONS, REGIONS)) / REGIONS
    np.fill_diagonal(weights, 0)
    return weights


def lines(first, last, steps):
    return [first + (last - first) * step / steps for step in range(steps)]


def rate(current, gain, transfer):
    u = gain * (transfer.a * current - transfer.b)
    return u / (1 - np.exp(-transfer.d * u))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_received_is_the_matrix_product(regions, seed):
    rng = np.random.default_rng(seed)
    weights, state = rng.normal(size=(regions, regions)), rng.normal(size=(2, regions))
    padded = kernels.padded(state)
    drive = np.full(padded.size, np.nan, np.float32)
    for offset in (0, padded.shape[1]):
        kernels.received(kernels.tiles(weights), padded, offset, drive)
    found = drive.reshape(2, -1)
    np.testing.assert_allclose(found[:, :regions], state @ weights.T, atol=1e-5 * regions)
    assert not found[:, regions:].any()


def test_hopf(rng, weights):
    steps, dt = 300, 0.02
    state = rng.normal(scale=0.1, size=(2, REGIONS))
    noise = rng.normal(size=(steps, 2, REGIONS))
    angle = dt * rng.uniform(0.2, 0.5, REGIONS)
    first, last = np.array([0.5, -0.02, 0.003]), np.array([0.2, -0.1, 0.001])

    z = state[0] + 1j * state[1]
    for (coupling, a, sigma), (u, v) in zip(lines(first, last, steps), noise, strict=True):
        flow = coupling * (weights @ z - weights.sum(axis=1) * z)
        z = z + dt * ((a - np.abs(z) ** 2) * z + flow) + sigma * (u + 1j * v)
        z = z * np.exp(1j * angle)

    found = kernels.padded(state)
    rotation = kernels.padded([np.cos(angle), np.sin(angle)])
    kernels.hopf(
        found, kernels.padded(noise), kernels.tiles(weights), rotation,
        first.astype(np.float32), last.astype(np.float32), dt,
    )  # fmt: skip
    np.testing.assert_allclose(found[:, :REGIONS], [z.real, z.imag], atol=2e-6)


def test_mean_field(rng, weights):
    steps, bins, dt = 400, 40, 0.001
    state = rng.uniform(0.05, 0.3, size=(2, REGIONS))
    noise = rng.normal(size=(steps, 2, REGIONS))
    inhibition = rng.uniform(0.5, 1.5, REGIONS)
    first, last = np.array([0.6, 1.0, 0.002]), np.array([0.3, 1.3, 0.03])

    e, i = state
    gates, rates = [], []
    for (coupling, gain, sigma), (u, v) in zip(lines(first, last, steps), noise, strict=True):
        current = 0.382 + 0.15 * (1.4 * e + coupling * (weights @ e)) - inhibition * i
        r = rate(current, gain, kernels.EXCITATORY)
        s = rate(0.7 * 0.382 + 0.15 * e - i, 1, kernels.INHIBITORY)
        e, i = (
            np.clip(e + dt * (-e / 0.1 + (1 - e) * 0.641 * r) + sigma * u, 0, 1),
            np.clip(i + dt * (-i / 0.01 + s) + sigma * v, 0, 1),
        )
        gates.append(e)
        rates.append(r)
    assert np.min(gates) == 0  # the noise is large enough to meet the bound

    found = kernels.padded(state)
    activity = np.empty((bins, found.shape[1]), np.float32)
    summed = np.zeros(found.shape[1], np.float32)
    kernels.mean_field(
        found, kernels.padded(noise), kernels.tiles(weights), kernels.padded(inhibition),
        first.astype(np.float32), last.astype(np.float32), dt, activity, summed,
    )  # fmt: skip
    np.testing.assert_allclose(found[:, :REGIONS], [e, i], atol=3e-6)
    expected = np.reshape(gates, (bins, -1, REGIONS)).mean(axis=1)
    np.testing.assert_allclose(activity[:, :REGIONS], expected, atol=3e-6)
    np.testing.assert_allclose(summed[:REGIONS], np.sum(rates, axis=0), rtol=1e-5)


@kernel
def every_rate(current, gain, out):
    for k in range(0, current.size, LANES):
        store(out, k, kernels._rate(load(current, k), splat(gain, 0), kernels.EXCITATORY))


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_transfer_function(gain):
    """Also where the quotient is 0 / 0, and where the exponential leaves its range."""
    threshold = kernels.EXCITATORY.b / kernels.EXCITATORY.a
    near = threshold + np.concatenate([[0], np.geomspace(1e-9, 1e-2, 511)])
    current = np.concatenate([near, np.linspace(-5, 5, 4096)]).astype(np.float32)
    out = np.empty_like(current)
    every_rate(current, np.array([gain], np.float32), out)
    u = gain * (310 * current.astype(float) - 125)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = np.where(u == 0, 1 / 0.16, u / -np.expm1(-0.16 * u))
    # Near the threshold, rounding of a I - b in float32 is 1e-5 Hz.
    np.testing.assert_allclose(out, expected, rtol=5e-6, atol=3e-5)


def test_balloon(rng):
    steps, dt = 500, 0.01
    activity = rng.uniform(0, 0.5, size=(steps, REGIONS))
    state = np.tile(np.array(kernels.HAEMODYNAMICS_AT_REST)[:, None], REGIONS)

    s, f, v, q = state
    for z in activity:
        out = v ** (1 / 0.32)
        s, f, v, q = (
            s + dt * (z - 0.65 * s - 0.41 * (f - 1)),
            f + dt * s,
            v + dt / 0.98 * (f - out),
            q + dt / 0.98 * (f * (1 - 0.66 ** (1 / f)) / 0.34 - out * q / v),
        )
    expected = 0.02 * (7 * 0.34 * (1 - q) + 2 * (1 - q / v) + (2 * 0.34 - 0.2) * (1 - v))

    found, signal = kernels.padded(state, fill=1), np.empty(2 * LANES, np.float32)
    kernels.balloon(found, kernels.padded(activity), dt, signal)
    np.testing.assert_allclose(found[:, :REGIONS], [s, f, v, q], atol=2e-5)
    np.testing.assert_allclose(signal[:REGIONS], expected, atol=1e-6)


def test_the_brain_at_rest_has_no_signal():
    state = np.tile(np.array(kernels.HAEMODYNAMICS_AT_REST, np.float32)[:, None], LANES)
    before, signal = state.copy(), np.ones(LANES, np.float32)
    kernels.balloon(state, np.zeros((100, LANES), np.float32), 0.01, signal)
    np.testing.assert_allclose(state, before, atol=1e-6)
    np.testing.assert_allclose(signal, 0, atol=1e-7)
